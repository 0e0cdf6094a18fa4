"""Brokers: each carries messages as the port in `engine.broker` promises, and decides nothing."""
