"""Pixels: folders, tars, coadds and cubes, and which object each file is of."""
