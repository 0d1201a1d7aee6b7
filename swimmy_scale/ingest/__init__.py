"""What comes in: the catalogue, the pixels of its objects, and published tables of spectra."""
