"""The same works, done by a peer: DBOS on SQLite, as it comes and with the write-ahead log."""
