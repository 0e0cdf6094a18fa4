"""A run as bars: a row a step, from when its rule became true to its outcome; what was taken back stands behind it.

A bar begins when the last of its causes was recorded, so waiting for a free slot, and all failed attempts, are part of
it. What has not ended yet is an open bar, until now.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from minuet.engine.knowledge import Round
from minuet.ids import parse_round
from minuet.observe.derivation import Derivation, Known, where
from minuet.observe.text import span
from minuet.observe.traced import TracedRun, TracedWait
from minuet.plans.plan import Plan

Kind = Literal["action", "wait", "compensation", "parked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A stretch of time, in milliseconds since the run began; `to_ms` None: it has not ended.

    `kind`: `action`, `wait` (an event, a timer), `compensation`, `parked` (a person is needed). `text`: how it ended.
    """

    kind: Kind
    from_ms: int
    to_ms: int | None
    text: str

    @property
    def is_open(self) -> bool:
        """Say whether it has not ended."""
        return self.to_ms is None


@dataclass(slots=True, kw_only=True)
class Row:
    """A step, a wait or a timer, in one round, with its bars in their order."""

    name: str
    bars: list[Bar] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The rows of a run, in the order in which they began; `length_ms` is from its start to its end, or to now."""

    title: str
    rows: list[Row]
    started_at_ms: int
    length_ms: int


def timeline_of(plan: Plan, run: TracedRun, now_ms: int) -> Timeline:
    """Give a run as bars; what is going on ends at `now_ms`."""
    derived = Derivation(plan, run)
    begun = run.started_at_ms
    rows: dict[tuple[str, Round], Row] = {}

    def add(position: str, rnd: Round, what: str, bar: Bar) -> None:
        row = rows.setdefault((position, rnd), Row(name=f"{where(position, rnd)} {what}"))
        row.bars.append(bar)

    for f in derived.facts[1:]:
        if (found := _bar(derived, f, begun)) is not None:
            position, bar = found
            add(position, f.round, derived.what(position, "" if bar.kind == "compensation" else f.label), bar)
    for w in run.waiting:
        rnd = parse_round(w.round)
        add(w.position, rnd, w.needs, _open(derived, w, rnd, begun))
    last = max([run.started_at_ms, *(f.at_ms for f in derived.facts)])
    until = run.ended_at_ms if run.ended_at_ms is not None else max(now_ms, last)
    ordered = sorted(rows.values(), key=lambda row: row.bars[0].from_ms)
    return Timeline(
        title=f"Timeline of run {run.name}: {plan.name}, {plan.style}",
        rows=ordered,
        started_at_ms=begun,
        length_ms=max(1, max(until, last) - begun),
    )


def _bar(derived: Derivation, f: Known, begun: int) -> tuple[str, Bar] | None:
    """Give the bar that a fact ends, and the position in whose row it stands; None for what takes no time."""
    rule = derived.recorder(f.position, f.label)
    became = derived.became(f)
    if rule is None or (kind := _KINDS.get(rule.kind)) is None:
        if not f.position.endswith("!") or derived.outcome(f.position[:-1], f.round):
            return None
        kind = "action"  # given up: no outcome of its own has come yet
    from_ms = became.at_ms if became is not None else f.at_ms
    if kind == "compensation" or f.label == "compensated":
        kind, text = "compensation", derived.what(f.position, f.label)
    else:
        text = f.label
    bar = Bar(kind=kind, from_ms=max(0, min(from_ms, f.at_ms) - begun), to_ms=max(0, f.at_ms - begun), text=text)
    return f.position.removesuffix("!"), bar


def _open(derived: Derivation, w: TracedWait, rnd: Round, begun: int) -> Bar:
    is_done = derived.outcome(w.position, rnd)
    rule = derived.recorder(w.position, "compensated" if is_done else "ok") or derived.recorder(w.position, "fired")
    became = derived.rule(rule, rnd) if rule is not None else None
    from_ms = min(became.at_ms, w.since_ms) if became is not None else w.since_ms
    kind: Kind = "wait" if w.what in ("event", "timer") else "parked" if w.what == "person" else "action"
    if is_done and kind == "action":
        kind = "compensation"
    said = [_STATES.get(w.what, w.what), w.needs if is_done else "", w.detail]
    if w.until_ms is not None:
        said.append(f"until +{span(w.until_ms - begun)}")
    return Bar(kind=kind, from_ms=max(0, from_ms - begun), to_ms=None, text=", ".join(filter(None, said)))


_KINDS: Final[dict[str, Kind]] = {
    "run": "action",
    "wait": "wait",
    "sleep": "wait",
    "deadline": "wait",
    "compensate": "compensation",
}
_STATES: Final = {"action": "running", "event": "awaited", "timer": "sleeping", "person": "needs a person"}
