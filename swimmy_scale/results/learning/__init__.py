"""What people marked, learnt: which objects to look at next."""
