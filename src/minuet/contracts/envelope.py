"""A message on the wire: the attributes of CloudEvents 1.0, our own prefixed with `minuet`, and its data.

Source: CloudEvents 1.0.2, JSON event format (structured mode).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from minuet.errors import InvalidPayload

_KNOWN = frozenset(
    {"specversion", "id", "source", "type", "subject", "partitionkey", "time", "datacontenttype", "data"}
)


class Envelope(NamedTuple):
    """One message. `source` and `id` are its identity: the same thing sent twice has the same.

    `topic`: where it is published; groups subscribe to topics. It is no attribute.
    `key`: the business key, CloudEvents' `subject` and `partitionkey`, or empty; messages of one key keep their order.
    `time_ms`: when it came about, in milliseconds since 1970 UTC; 0 where that is not said.
    `attributes`: extension attributes, lower-case names to text or integers.
    `data`: JSON text; None where there is none.
    """

    topic: str
    id: str
    source: str
    type: str
    key: str
    time_ms: int
    attributes: Mapping[str, str | int]
    data: bytes | None

    def to_json(self) -> bytes:
        """Give the structured form, without the topic."""
        shown: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": time_text(self.time_ms),
            **self.attributes,
        }
        if self.key:  # an attribute that is there is never empty
            shown["subject"] = shown["partitionkey"] = self.key
        if self.data is not None:
            shown["datacontenttype"] = "application/json"
            shown["data"] = msgspec.Raw(self.data)
        return msgspec.json.encode(shown)

    @classmethod
    def from_json(cls, topic: str, raw: bytes | str) -> Envelope:
        """Read the structured form.

        Raises:
            InvalidPayload: it is no CloudEvent, or of another version than 1.0.
        """
        try:
            shown = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            known = {name: msgspec.json.decode(text) for name, text in shown.items() if name != "data"}
        except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
            raise InvalidPayload(f"a message on {topic} is no JSON object: {e}", remedy=_REMEDY) from e
        if known.get("specversion") != "1.0":
            raise InvalidPayload(f"a message on {topic} is no CloudEvent 1.0", remedy=_REMEDY)
        try:
            data = shown.get("data")
            return cls(
                topic,
                _text(known["id"]),
                _text(known["source"]),
                _text(known["type"]),
                _text(known.get("partitionkey") or known.get("subject") or "", least=0),
                time_of(known["time"]) if "time" in known else 0,
                {name: _text_or_integer(value) for name, value in known.items() if name not in _KNOWN},
                None if data is None else bytes(data),
            )
        except (KeyError, TypeError, ValueError) as e:
            raise InvalidPayload(
                f"a message on {topic} lacks an attribute, or has a wrong one: {e}", remedy=_REMEDY
            ) from e


_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
_REMEDY = "Send CloudEvents 1.0 in JSON, with id, source, type and time"


def time_text(at_ms: int) -> str:
    """Give an instant as RFC 3339, in UTC, to the millisecond."""
    at = _BEGINNING + timedelta(milliseconds=at_ms)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_of(text: str) -> int:
    """Read an RFC 3339 instant as milliseconds since 1970 UTC.

    Raises:
        ValueError: it is none, or has no offset.
    """
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return (at - _BEGINNING) // timedelta(milliseconds=1)


def _text(value: Any, least: int = 1) -> str:
    if not isinstance(value, str) or len(value) < least:
        raise TypeError(f"{value!r} is no text")
    return value


def _text_or_integer(value: Any) -> str | int:
    if not isinstance(value, str | int):
        raise TypeError(f"{value!r} is neither text nor an integer")
    return value
