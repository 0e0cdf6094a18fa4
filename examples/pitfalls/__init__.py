"""Three ways in which mixed styles go wrong, and what catches each: see docs/guides/pitfalls.md."""
