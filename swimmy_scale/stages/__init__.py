"""The stages of a run: what one partition does, and how a stage finishes. No Dask in here."""
