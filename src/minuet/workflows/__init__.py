"""WHAT A DEVELOPER WRITES, AND HOW IT IS READ: source becomes a syntax tree."""
