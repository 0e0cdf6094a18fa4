"""Events from elsewhere, as a broker would bring them: recorded as they come, in whatever order that is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from minuet import App, event
from minuet.engine.order import numbered
from minuet.engine.row import Decision, EventRow
from minuet.runtime.participant import Participant


@event("stock.moved", version=1, key="sku")
class Moved(msgspec.Struct, frozen=True):
    sku: str
    number: int = 0


def participant(app: App) -> Participant:
    return app.hosts.home.participant


async def receive(app: App, *events: EventRow) -> None:
    """Record what comes from elsewhere, in one commit."""
    here = participant(app)
    decision = Decision()
    decision.ensure_messages().outbox = list(events)
    await here.record(decision)
    here.inlet.wake(events)


def published(app: App, keys: Iterable[str], *, event: str = "stock.moved", source: str = "/far") -> list[EventRow]:
    """Make what another store has published, numbered as it would be sent: an event for each key given."""
    now, last = app.clock.now_ms(), dict[str, int]()
    rows, previous = list[EventRow](), list[int]()
    for sequence, key in enumerate(keys, start=1):
        body = msgspec.json.encode({"sku": key, "number": sequence}).decode()
        rows.append(EventRow(sequence, source, f"far-{sequence}", event, 1, key, body, 0, "", now, now))
        previous.append(last.get(key, 0))
        last[key] = sequence
    return [row._replace(entry=None) for row in numbered(rows, previous)]


def at(rows: Sequence[EventRow], *numbers: int) -> list[EventRow]:
    """Give those of these numbers, in this order."""
    return [rows[n - 1] for n in numbers]
