"""Whether a machine or a site is fit, in plain words."""
