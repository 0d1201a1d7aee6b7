"""Published tables of spectra, matched with a catalogue."""
