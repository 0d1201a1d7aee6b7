"""Archive files and a catalogue in, the cube of cutouts and a list of refused objects out."""
