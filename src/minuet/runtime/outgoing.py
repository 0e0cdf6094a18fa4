"""What a handler has published, as rows of the outbox; they are recorded with its own writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from minuet.contracts.codec import codec_for
from minuet.contracts.message import event_spec
from minuet.engine.decided import Decided
from minuet.engine.knowledge import Knowledge
from minuet.engine.port import StoreReads
from minuet.engine.row import EventRow
from minuet.engine.taken_back import taken_back
from minuet.ids import run_text

Take = Callable[[Knowledge], Decided | None]


async def with_notices(store: StoreReads, run: int, position: str, take: Take, now_ms: int) -> Take:
    """Have an input that a person gives publish what it takes back, if it says that a step is compensated."""
    originals = await store.published_by(f"{run_text(run)}:{position}:")

    def taken(k: Knowledge) -> Decided | None:
        d = take(k)
        if originals and d is not None and (rows := taken_back(originals, d.decision.facts, now_ms)):
            d.decision.ensure_messages().outbox = rows
        return d

    return taken


def outgoing(
    events: Iterable[object], *, source: str, message: str, key: str, hops: int, causes: str, now_ms: int
) -> list[EventRow]:
    """Give the rows of events, in the order in which they were published.

    `message` names what published them, and each is that and its ordinal: who publishes the same again publishes it
    under the same identity, which is left out. `key` is for events that declare none. What is a row already is given
    as it is: a notice that an event is taken back.

    Raises:
        InvalidPayload: something in an event cannot be written.
    """
    rows = []
    for ordinal, event in enumerate(events):
        if isinstance(event, EventRow):
            rows.append(event)
            continue
        spec = event_spec(type(event))
        assert spec is not None, "publish takes events only"
        body = codec_for(type(event)).encode(event).decode()
        of = str(getattr(event, spec.key)) if spec.key else key
        rows.append(
            EventRow(
                None, source, f"{message}:{ordinal}", spec.name, spec.version, of, body, hops, causes, now_ms, now_ms
            )
        )
    return rows
