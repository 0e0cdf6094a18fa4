"""Where it is kept: rows and transactions, no rules."""
