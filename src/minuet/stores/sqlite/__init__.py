"""The default store: one SQLite file, nothing else to start."""
