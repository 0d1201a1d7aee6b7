"""Where tasks are performed: in worker processes on this machine, or in batch jobs of a SLURM cluster."""
