"""Who evaluates a rule: the only place where a style is decided.

Orchestrated: the orchestrator. Choreographed: the service that acts. `semantics.md` calls this the placement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from minuet.workflows.tree import Section

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


def is_conductor(name: str) -> bool:
    """Say whether a name is one of ours, and no service's: home, or an orchestrator that the text does not name."""
    return name in (HOME, ORCHESTRATOR) or name.startswith(f"{ORCHESTRATOR}/")
