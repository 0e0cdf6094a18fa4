"""WHAT RUNS: the only layer that loops, waits, retries I/O, reads the clock, and runs users' actions."""
