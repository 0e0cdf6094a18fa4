"""The ways in which a test is performed: both styles, hybrids of them, in one store and in a store for each service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from minuet.errors import SettingsError
from minuet.plans.check import check
from minuet.plans.placement import CHOREOGRAPHY, ORCHESTRATION, STYLES
from minuet.runtime.settings import Settings
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.world import Layout
from minuet.workflows.dry_run.whereabouts import nodes_of
from minuet.workflows.tree import Call, Node, Section
from minuet.workflows.workflow import Workflow

F = TypeVar("F", bound=Callable[..., Any])

HYBRID = "hybrid"
AS_WRITTEN = "as written"
TRIES = 20


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to perform a test. `style`: a style for the whole, `hybrid`, or `as written`; `is_apart`: a store each."""

    style: str = AS_WRITTEN
    is_apart: bool = False

    def __post_init__(self) -> None:
        if self.style not in (*STYLES, HYBRID, AS_WRITTEN):
            raise SettingsError(
                f"there is no style {self.style!r}", remedy=f"There are: {', '.join(sorted(STYLES))}, {HYBRID}"
            )

    def __str__(self) -> str:
        """Give what `parse` reads."""
        return f"{self.style}{', a store each' if self.is_apart else ''}"

    @classmethod
    def parse(cls, text: str) -> Variant:
        """Read `orchestration`, or `choreography, a store each`. Raises SettingsError."""
        style, _, apart = text.partition(",")
        if apart.strip() not in ("", "a store each", "apart"):
            raise SettingsError(f"{text!r} is no way to perform a test", remedy='Write e.g. "hybrid, a store each"')
        return cls(style.strip(), bool(apart))

    def layout(
        self, flows: Iterable[Workflow[Any, Any, Any]], *, seed: int = 0, styles: Mapping[str, str] | None = None
    ) -> Layout:
        """Lay an app out; a hybrid's sections get their styles by the seed. `styles`: those that the app asks for."""
        found: dict[str, str] = dict(styles or {}) if self.style == AS_WRITTEN else {}
        for flow in flows:
            if self.style == HYBRID:
                found.update(_mixed(flow, Chance(seed)))
            elif self.style != AS_WRITTEN:
                found[flow.name] = self.style
        return Layout(styles=found, is_apart=self.is_apart)


VARIANTS = tuple(
    Variant(style, is_apart) for is_apart in (False, True) for style in (ORCHESTRATION, CHOREOGRAPHY, HYBRID)
)


@overload
def styles(test: F, /) -> F: ...
@overload
def styles(*names: str) -> Callable[[F], F]: ...
def styles(*given: Any) -> Any:
    """Run a test in every way: above a test that asks for the fixture `minuet`, as it is or with names of variants.

    Without names: both styles and a hybrid, each in one store and with a store for each service. With names:
    `@styles("choreography", "hybrid, a store each")`.
    """
    if len(given) == 1 and callable(given[0]):
        return styles()(given[0])
    variants = [Variant.parse(name) for name in given] or list(VARIANTS)
    from minuet.testing.plugin import in_each  # noqa: PLC0415 - it imports pytest, and only tests decorate tests

    return in_each(variants)


def _mixed(flow: Workflow[Any, Any, Any], chance: Chance) -> dict[str, str]:
    """Draw a style for a workflow and for each of its sections, such that it can be performed."""
    sections = sorted(_sections(flow.tree.body))
    kinds = sorted(STYLES)
    for _ in range(TRIES):
        root = chance.pick(flow.name, kinds)
        drawn = {flow.name: root, **{f"{flow.name}/{p}": chance.pick(flow.name, kinds) for p in sections}}
        if not check(flow.tree, Settings(styles=drawn).placement(flow.name)):
            return drawn
    return {}


def _sections(body: Node) -> set[str]:
    """Give the positions of all sections of a workflow and of those that it calls."""
    nodes = [node for node, _ in nodes_of(body)]
    found = {node.position for node in nodes if isinstance(node, Section)}
    for node in nodes:
        if isinstance(node, Call):
            found |= _sections(node.body)
    return found
