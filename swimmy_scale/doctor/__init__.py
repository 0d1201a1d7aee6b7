"""Whether this machine or site is fit for the program, in plain words."""
