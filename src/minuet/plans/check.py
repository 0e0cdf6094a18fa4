"""What a workflow says that cannot be performed, or would do nothing: found before anything runs."""

from __future__ import annotations

from minuet.finding import Finding
from minuet.plans.placement import CHOREOGRAPHY, Placement
from minuet.plans.reach import idle_deadlines, sections
from minuet.workflows.tree import Node, WorkflowTree


def check(tree: WorkflowTree, where: Placement | None = None) -> list[Finding]:
    """Find parts whose style this release does not perform, and deadlines that could cancel nothing."""
    where = where or Placement()
    choreographed = [(s, f"section {s.position}") for s in sections(tree.body) if where.style_of(s) == CHOREOGRAPHY]
    whole = [(tree.body, "all")] if where.root == CHOREOGRAPHY else []
    found = [
        _finding(
            "M513",
            node,
            f"{what} of {tree.name} is to be choreographed, which this release cannot perform yet",
            'orchestrate it: styles={"NAME": "orchestration"}, or "NAME/POSITION" for one section',
        )
        for node, what in [*whole, *choreographed]
    ]
    return found + [
        _finding(
            "M514",
            d,
            f"the deadline at {d.position} could cancel nothing: before it lies what cannot be taken back",
            "give what comes before it a compensation, say .keep(), or leave the deadline out",
        )
        for d in idle_deadlines(tree.body)
    ]


def _finding(code: str, node: Node, message: str, remedy: str) -> Finding:
    place = node.place
    return Finding(code=code, file=place.file, line=place.line, column=place.column, message=message, remedy=remedy)
