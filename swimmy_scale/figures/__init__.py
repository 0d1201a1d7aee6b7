"""What people look at: the page that sums up a run, and the paper's figures. Arrays in, pictures out."""
