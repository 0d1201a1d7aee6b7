"""Checks whether a machine or a site is fit, told in plain words."""
