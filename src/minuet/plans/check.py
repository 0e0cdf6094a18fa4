"""What a plan could say, and should not: found before anything runs."""

from __future__ import annotations

from minuet.finding import Finding
from minuet.plans.reach import idle_deadlines
from minuet.workflows.tree import WorkflowTree


def check(tree: WorkflowTree) -> list[Finding]:
    """Find the deadlines that could cancel nothing."""
    return [
        Finding(
            code="M514",
            file=d.place.file,
            line=d.place.line,
            column=d.place.column,
            message=f"the deadline at {d.position} could cancel nothing: before it lies what cannot be taken back",
            remedy="give what comes before it a compensation, say .keep(), or leave the deadline out",
        )
        for d in idle_deadlines(tree.body)
    ]
