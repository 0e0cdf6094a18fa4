"""A WORKFLOW AS ORDINARY PYTHON: the same function, with real breakpoints, and neither store nor broker.

What is awaited is done at once, one thing after the other: branches in the order of the text, each to its end. That is
one of the orders in which a participant might do it, and all of them give the same facts. Compensation is as in a
run: what a block, a branch or the workflow has done is undone last first, by the contract's compensation or the
step's own; a failed branch undoes itself at once, its siblings when all have ended.
"""

from minuet.workflows.dry_run.start import DryRun, dry_run
from minuet.workflows.dry_run.trace import Entry

__all__ = ["DryRun", "Entry", "dry_run"]
