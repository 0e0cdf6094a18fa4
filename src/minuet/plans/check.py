"""What a workflow says that cannot be performed, or would do nothing: found before anything runs."""

from __future__ import annotations

from minuet.finding import Finding
from minuet.plans.placement import Placement
from minuet.plans.projectable import heavy, unprojectable
from minuet.plans.reach import idle_deadlines
from minuet.workflows.tree import Deadline, WorkflowTree


def check(tree: WorkflowTree, where: Placement | None = None) -> list[Finding]:
    """Find what cannot be performed where it is placed, and deadlines that could cancel nothing: all of it errors."""
    return [*unprojectable(tree, where or Placement()), *map(_idle, idle_deadlines(tree.body))]


def warnings(tree: WorkflowTree, where: Placement | None = None) -> list[Finding]:
    """Find what can be performed, and had better be said otherwise."""
    return heavy(tree, where or Placement())


def _idle(deadline: Deadline) -> Finding:
    return Finding(
        code="M514",
        file=deadline.place.file,
        line=deadline.place.line,
        column=deadline.place.column,
        message=f"the deadline at {deadline.position} could cancel nothing: before it lies what cannot be taken back",
        remedy="give what comes before it a compensation, say .keep(), or leave the deadline out",
    )
