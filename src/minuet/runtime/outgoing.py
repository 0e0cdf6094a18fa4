"""What a handler has published, as rows of the outbox; they are recorded with its own writes."""

from __future__ import annotations

from collections.abc import Iterable

from minuet.contracts.codec import codec_for
from minuet.contracts.message import event_spec
from minuet.engine.row import EventRow


def outgoing(
    events: Iterable[object], *, source: str, message: str, key: str, hops: int, causes: str, now_ms: int
) -> list[EventRow]:
    """Give the rows of events, in the order in which they were published.

    `message` names what published them, and each is that and its ordinal: who publishes the same again publishes it
    under the same identity, which is left out. `key` is for events that declare none.

    Raises:
        InvalidPayload: something in an event cannot be written.
    """
    rows = []
    for ordinal, event in enumerate(events):
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
