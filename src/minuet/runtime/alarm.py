"""Alarms: events that say that a run is late, or stuck; each is published once, and anybody may react to it."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from minuet.contracts.message import event
from minuet.engine.progress import span_text
from minuet.engine.row import EventRow
from minuet.runtime.outgoing import outgoing

SOURCE = "/minuet/observer"

LATE, STUCK = "late", "stuck"


@event("minuet.run-late", version=1, key="run")
class RunLate(msgspec.Struct, frozen=True, kw_only=True):
    """A run waits for something longer than is usual: `owner` should have brought `needs` until `expected_ms`.

    `what`: `action`, `event` or `timer`. `usual_ms`: half of the recent outcomes took no longer; None where none is
    known. Instants are milliseconds since 1970 UTC. `text` says it in a sentence.
    """

    run: str
    key: str
    workflow: str
    position: str
    round: str
    what: str
    needs: str
    owner: str
    since_ms: int
    expected_ms: int
    usual_ms: int | None
    text: str


@event("minuet.run-stuck", version=1, key="run")
class RunStuck(msgspec.Struct, frozen=True, kw_only=True):
    """A run needs a person: `needs` of `owner` is parked, or has failed for long, or the run cannot be understood.

    `position` is empty where it is about the run as a whole. `reason`: the last error, or what is wrong. `since_ms`:
    milliseconds since 1970 UTC. `text` says it in a sentence.
    """

    run: str
    key: str
    workflow: str
    position: str
    round: str
    needs: str
    owner: str
    since_ms: int
    reason: str
    text: str


Alarm = RunLate | RunStuck


def late_text(needs: str, owner: str, since_ms: int, expected_ms: int) -> str:
    """Say what is late, as the log and the event say it."""
    since = datetime.fromtimestamp(since_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    expected = span_text(max(0, expected_ms - since_ms))
    return f"waiting for {needs} from {owner} since {since}, expected within {expected}"


def identity(run: str, position: str, round_: str, what: str) -> str:
    """Name an alarm: there is one of each name, also when the program is started again."""
    return f"{run}:{position}:{round_ or 0}:{what}"


def alarm_name(alarm: Alarm) -> str:
    """Give the name of an alarm."""
    return identity(alarm.run, alarm.position, alarm.round, LATE if isinstance(alarm, RunLate) else STUCK)


def alarm_row(alarm: Alarm, now_ms: int) -> EventRow:
    """Give an alarm as a row of the outbox, under its own identity: recorded once more, it is left out."""
    (row,) = outgoing(
        [alarm], source=SOURCE, message=alarm_name(alarm), key=alarm.run, hops=0, causes="", now_ms=now_ms
    )
    return row
