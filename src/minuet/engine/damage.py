"""Whether the rows of a run are such as this plan can have written: a person or a disk may have changed them.

Only the form is checked, each row by itself. What the rows say together is the engine's to understand.
"""

from __future__ import annotations

from typing import Final

import msgspec

from minuet.engine.port import StoredRun
from minuet.engine.program import Program
from minuet.engine.row import RunState
from minuet.errors import StoreDamaged
from minuet.ids import parse_round, round_text

_REMEDY: Final = "Restore the store from a copy, and retry; or end the run: minuet terminate"
_STATES: Final = frozenset(RunState)
_ATTEMPT_STATES: Final = frozenset({"waiting", "running", "parked", "tombstone"})
_NOWHERE: Final = (-1, frozenset[str]())

_as_it_is = msgspec.json.Decoder(msgspec.Raw).decode


def check(program: Program, stored: StoredRun) -> None:
    """Refuse rows that this run cannot have.

    Raises:
        StoreDamaged: a row says something that the plan does not know.
    """
    row = stored.run
    if row.state not in _STATES:
        raise StoreDamaged(f"the run is in the state {row.state!r}, which there is not", remedy=_REMEDY)
    _check_json(row.input, "the input")
    for n, f in enumerate(stored.facts, 1):
        depth, labels = program.expected.get(f.position, _NOWHERE)
        if f.seq != n or f.label not in labels or not _is_round(f.round, depth):
            raise StoreDamaged(
                f"fact {f.seq} ({f.position} {f.round} {f.label}) does not follow from the plan"
                " and the facts before it",
                remedy=_REMEDY,
            )
        _check_json(f.value, f"the value of fact {f.seq} ({f.position} {f.round})")
    for a in stored.attempts:
        if a.state not in _ATTEMPT_STATES or not _is_round(a.round, program.acts.get((a.position, a.direction), -1)):
            raise _misplaced("an attempt", a.position, a.round, f"{a.direction} {a.state}")
    for t in stored.timers:
        if not _is_round(t.round, program.timed.get((t.position, t.purpose), -1)):
            raise _misplaced("a timer", t.position, t.round, t.purpose)
    for w in stored.waits:
        if not _is_round(w.round, program.waits.get((w.position, w.event), -1)):
            raise _misplaced("a wait", w.position, w.round, w.event)


def _is_round(text: str, depth: int) -> bool:
    try:
        round_ = parse_round(text)
    except ValueError:
        return False
    return len(round_) == depth and round_text(round_) == text and min(round_, default=0) >= 0


def _check_json(text: str | None, what: str) -> None:
    if text is None:
        return
    try:
        _as_it_is(text)
    except msgspec.DecodeError as e:
        raise StoreDamaged(f"{what} is no JSON: {e}", remedy=_REMEDY) from e


def _misplaced(what: str, position: str, round_: str, more: str) -> StoreDamaged:
    return StoreDamaged(
        f"there is {what} at a place that the plan does not have: {position} {round_} {more}", remedy=_REMEDY
    )
