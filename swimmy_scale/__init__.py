"""Finds unusual galaxies in a whole imaging survey."""

__version__ = "0.1.0"
