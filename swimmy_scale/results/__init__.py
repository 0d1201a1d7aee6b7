"""What people look at: the picture of a run, its report, the paper's figures and tables."""
