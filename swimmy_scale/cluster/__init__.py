"""Where tasks are performed: worker processes of this machine, or batch jobs of a SLURM cluster."""
