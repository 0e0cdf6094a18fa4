"""Three mistakes that no test of a single step shows: found in simulated worlds, each beside its correction."""
