"""Object tables: files of which each row is an object, with its image in all bands and its catalogue columns."""
