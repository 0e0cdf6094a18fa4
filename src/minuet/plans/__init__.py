"""WHICH RULES FOLLOW: a syntax tree becomes rules over facts, as data."""
