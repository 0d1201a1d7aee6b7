"""Drawings of the paper's figures, from arrays."""
