"""What lies on disk: files, receipts, stores, and the run directory."""
