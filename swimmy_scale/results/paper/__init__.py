"""The paper's figures and tables of a finished run, and its numbers beside the run's."""
