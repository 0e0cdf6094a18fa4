"""What is published when a step is compensated: for each event that it had published, a notice that it is taken back.

A notice is an event like any other, of the type of the original with `.taken-back` behind it, and with the original's
data, key and version. Its identity is the original's with `:taken-back` behind it, so an event is taken back once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from minuet.contracts.message import TAKEN_BACK
from minuet.engine.row import EventRow, FactRow, Slot
from minuet.ids import op_key, parse_round

_MARK = ":taken-back"


def taken_back_type(event: str) -> str:
    """Give the type under which notices about events of a type are published."""
    return event + TAKEN_BACK


def is_notice(event: str) -> bool:
    """Say whether events of a type are notices."""
    return event.endswith(TAKEN_BACK)


def notice_of(message: str) -> str:
    """Give the id of the notice about an event, from that event's id."""
    return message + _MARK


def original_of(message: str) -> str:
    """Give the id of the event that a notice is about, from that notice's id."""
    return message.removesuffix(_MARK)


def published_prefix(run: int, position: str, indices: tuple[int, ...]) -> str:
    """Give how the ids of all events begin that a step has published, whatever its generation."""
    return op_key(run, position, indices, "forward").rpartition(":")[0] + ":"


def notices_about(originals: Iterable[EventRow], now_ms: int) -> list[EventRow]:
    """Give the notices about events: the last one that was published is taken back first."""
    return [
        EventRow(
            None,
            e.source,
            notice_of(e.message),
            taken_back_type(e.event),
            e.version,
            e.key,
            e.body,
            e.hops,
            e.message,
            now_ms,
            now_ms,
        )
        for e in reversed(list(originals))
        if not e.message.endswith(_MARK)
    ]


def taken_back(originals: Sequence[EventRow], facts: Iterable[FactRow], now_ms: int) -> list[EventRow]:
    """Give the notices about those events whose step these facts say to be compensated.

    `originals`: what the steps in question have published, at least; `StoreReads.published_by` finds it.
    """
    gone = tuple(published_prefix(f.run, f.position, parse_round(f.round)) for f in facts if f.slot == Slot.COMPENSATED)
    return notices_about([e for e in originals if e.message.startswith(gone)], now_ms) if gone else []
