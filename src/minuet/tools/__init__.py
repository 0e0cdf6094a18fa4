"""WHAT A PERSON RUNS: the public `App`, and the command line."""
