"""The difference of two plans: which positions are new, gone, changed, moved, and what that means for runs in flight.

The two texts are laid beside each other by what stands in them, in order; what has a name of its own (a step, a wait,
a call) and is left over is looked for elsewhere. What is found in both is compared part by part; it has moved where
its position is another one. The rest is new or gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from minuet.plans.plan import Plan
from minuet.workflows import expression

_INNER: Final = frozenset({"body", "otherwise", "then", "branches", "parts"})
"""Parts that have positions of their own, and are compared there."""
_SILENT: Final = frozenset({"node", "position", "out", "results", "result", "input_shape", "result_shape", "partial"})
_EXPRESSIONS: Final = frozenset({"condition", "over", "key", "timeout", "duration", "until", "value"})
_NAMED: Final = frozenset({"Step", "Wait", "Call", "Reject"})
_IDENTITY: Final = ("node", "service", "action", "event", "workflow", "code")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What differs at one position. `kind`: `added`, `removed`, `changed`, `moved` (from `was`)."""

    kind: str
    position: str
    what: str
    was: str = ""
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChange:
    """The difference of two plans; `whole` is what differs of the workflow as such."""

    old: str
    new: str
    whole: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def is_same(self) -> bool:
        """Tell whether the two are one plan."""
        return self.old == self.new

    def meaning(self, open_runs: int | None = None) -> str:
        """Say what it means for runs in flight; `open_runs` is how many unfinished ones the old plan has."""
        if self.is_same:
            return "They are the same plan."
        old, new = self.old.rpartition("@")[2], self.new.rpartition("@")[2]
        if open_runs is None:
            return f"Runs that began with {old} stay on it to their end; new runs take {new}."
        stay = f"{open_runs:,} unfinished run{' stays' if open_runs == 1 else 's stay'} on {old} to the end"
        return f"{stay}; new runs take {new}."


def compare(old: Plan, new: Plan) -> PlanChange:
    """Compare two plans."""
    return PlanChange(
        old=old.name, new=new.name, whole=tuple(_whole(old, new)), differences=tuple(_differences(old, new))
    )


def _whole(old: Plan, new: Plan) -> Iterator[str]:
    if old.workflow != new.workflow:
        yield f"they are different workflows: {old.workflow}, {new.workflow}"
    if old.style != new.style:
        yield f"style: {old.style} -> {new.style}"
    if old.input_shape != new.input_shape:
        yield "the type of the input"
    if old.result_shape != new.result_shape:
        yield "the type of the result"
    if _bare(old.body) != _bare(new.body):
        yield "what it assigns or returns, outside of any block"
    if old.digest != new.digest and old.body == new.body and old.sections == new.sections and old.style == new.style:
        yield "the same text, compiled to other rules: by another release, or with other types"


def _differences(old: Plan, new: Plan) -> Iterator[Difference]:
    before, after = dict(_placed(old.body)), dict(_placed(new.body))
    pairs = _pairs(before, after)
    left = [p for p in before if p not in pairs.values()]
    for position in left:
        yield Difference(kind="removed", position=position, what=_name(before[position]))
    for position, node in after.items():
        was = pairs.get(position)
        if was is None:
            yield Difference(kind="added", position=position, what=_name(node))
            continue
        details = tuple(_details(before[was], node))
        if was != position:
            yield Difference(kind="moved", position=position, was=was, what=_name(node), details=details)
        elif details:
            yield Difference(kind="changed", position=position, what=_name(node), details=details)


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """Give, for positions of the new plan, those of the old one at which the same thing stood."""
    old, new = list(before), list(after)
    aligned = SequenceMatcher(
        None, [_identity(before[p]) for p in old], [_identity(after[p]) for p in new], autojunk=False
    )
    pairs = {new[b + i]: old[a + i] for a, b, size in aligned.get_matching_blocks() for i in range(size)}
    left = [p for p in old if p not in pairs.values()]
    for position in new:
        if position in pairs or after[position]["node"] not in _NAMED:
            continue
        identity = _identity(after[position])
        if (found := next((p for p in left if _identity(before[p]) == identity), None)) is not None:
            left.remove(found)
            pairs[position] = found
    return pairs


def _placed(node: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give each construct that has a position, in the order of the text."""
    if isinstance(node, Mapping):
        if node.get("position"):
            yield node["position"], node
        for name in ("parts", "branches", "then", "body", "otherwise"):
            if name in node:
                yield from _placed(node[name])
    elif isinstance(node, list):
        for part in node:
            yield from _placed(part)


def _identity(node: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(node.get(name) for name in _IDENTITY)


def _name(node: Mapping[str, Any]) -> str:
    match node["node"]:
        case "Step":
            return f"{node['service']}.{node['action']}"
        case "Wait":
            return f"wait for {node['event']}"
        case "Call":
            return f"call {node['workflow']}"
        case "Reject":
            return f"reject with {node['code']}"
        case "Par":
            return "together"
    return str(node["node"]).lower()


def _details(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Say what differs in one construct, apart from what has a position of its own."""
    for name in sorted((old.keys() | new.keys()) - _INNER - _SILENT):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if name == "arguments":
            yield from _arguments(before or [], after or [])
        else:
            yield f"{name.removesuffix('_ms')}: {_shown(name, before)} -> {_shown(name, after)}"
    if old.get("input_shape") != new.get("input_shape"):
        yield "the types that it takes"
    if old.get("result_shape") != new.get("result_shape"):
        yield "the type that it gives"
    yield from _unplaced(old, new)


def _unplaced(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Say whether what has no position differs inside: returns, assignments, ways of leaving."""
    for name in sorted(_INNER & old.keys() & new.keys()):
        before, after = _bare(old[name]), _bare(new[name])
        if before != after:
            yield "what it assigns or returns"
            return


def _bare(node: Any) -> list[Any]:
    """Give what stands directly in a part and has no position."""
    if isinstance(node, Mapping):
        if node.get("position"):
            return []
        if node["node"] == "Seq":
            return _bare(node["parts"])
        return [node]
    return [x for part in node for x in _bare(part)] if isinstance(node, list) else []


def _arguments(old: Iterable[Any], new: Iterable[Any]) -> Iterator[str]:
    before = {name: expression.show(expression.from_json(value)) for name, value in old}
    after = {name: expression.show(expression.from_json(value)) for name, value in new}
    for name in dict.fromkeys([*before, *after]):
        if before.get(name) != after.get(name):
            yield f"{name}: {before.get(name, 'nothing')} -> {after.get(name, 'nothing')}"


def _shown(name: str, value: Any) -> str:
    """Give a field's value as text."""
    if value is None or value == []:
        return "nothing"
    if name in ("duration", "timeout") and value[0] == "lit":
        return f"{value[1]} ms"
    if name in _EXPRESSIONS:
        return expression.show(expression.from_json(value))
    if name == "compensation":
        return ".".join(value)
    if name == "retry":
        return f"{value['attempts'] or 'endless'} attempts from {value['first_ms']} ms to {value['at_most_ms']} ms"
    if name.endswith("_ms"):
        return f"{value} ms"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)
