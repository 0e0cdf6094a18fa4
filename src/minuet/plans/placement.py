"""Who evaluates a rule: the only place where a style is decided.

Orchestrated: the orchestrator. Choreographed: the service that acts. `semantics.md` calls this the placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minuet.finding import Finding
from minuet.workflows.tree import Section, WorkflowTree

ORCHESTRATION = "orchestration"
CHOREOGRAPHY = "choreography"
STYLES = frozenset({ORCHESTRATION, CHOREOGRAPHY})
ORCHESTRATOR = "orchestrator"
HOME = "home"
"""Who started the run, and hears its end, where nobody is in control."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The style of the whole, and of sections by position where a deployment overrides the text."""

    root: str = ORCHESTRATION
    sections: Mapping[str, str] = field(default_factory=dict)

    def style_of(self, section: Section) -> str:
        """Give the style in which a section is performed."""
        return self.sections.get(section.position, section.style)


def owner(style: str, orchestrator: str, service: str) -> str:
    """Give who evaluates a rule of this service in a part with this style."""
    return orchestrator if style == ORCHESTRATION else service


def not_yet(tree: WorkflowTree, placement: Placement, sections: list[Section]) -> list[Finding]:
    """Find what cannot be performed by this release: parts with the style choreography."""
    found = []
    if placement.root == CHOREOGRAPHY:
        found.append((tree.body.place, f"{tree.name} is to be choreographed"))
    found += [
        (s.place, f"section {s.position} of {tree.name} is to be choreographed")
        for s in sections
        if placement.style_of(s) == CHOREOGRAPHY
    ]
    return [
        Finding(
            code="M513",
            file=place.file,
            line=place.line,
            column=place.column,
            message=f"{what}, which this release cannot perform yet",
            remedy='orchestrate it: styles={"NAME": "orchestration"}, or "NAME/POSITION" for one section',
        )
        for place, what in found
    ]
