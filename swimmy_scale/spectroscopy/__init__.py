"""Published tables of spectra: read, and matched with a catalogue."""
