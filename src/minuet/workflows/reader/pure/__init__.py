"""WHAT A WORKFLOW MAY CALCULATE: Python's expressions become expressions of a plan, each with its type."""
