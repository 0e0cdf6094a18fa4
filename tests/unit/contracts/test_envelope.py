"""A message survives the wire as it is, and what is no message is refused in words."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minuet.contracts.envelope import Envelope, time_of, time_text
from minuet.errors import InvalidPayload

MESSAGE = Envelope(
    topic="place_order",
    id="run_1/2a:ok",
    source="/shop/payment",
    type="minuet.fact",
    key="o-1",
    time_ms=1_767_225_600_123,
    attributes={"minuetrun": "run_1", "minuethops": 3},
    data=b'{"paid": "12.50"}',
)
LEAST = {"specversion": "1.0", "id": "m-1", "source": "/s", "type": "t"}

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
envelopes = st.builds(
    Envelope,
    topic=texts,
    id=texts,
    source=texts,
    type=texts,
    key=st.one_of(texts, st.just("")),
    time_ms=st.integers(-62_000_000_000_000, 250_000_000_000_000),
    attributes=st.dictionaries(
        st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=1).map("minuet".__add__),
        st.one_of(texts, st.integers(-(1 << 63), (1 << 63) - 1)),
    ),
    data=st.one_of(
        st.none(),
        st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), texts), st.lists).map(
            lambda value: json.dumps(value, ensure_ascii=False).encode()
        ),
    ),
)


@given(envelopes)
def test_a_message_is_read_as_it_was_written(message: Envelope) -> None:
    assert Envelope.from_json(message.topic, message.to_json()) == message
    assert Envelope.from_json(message.topic, message.to_json().decode()) == message


def test_the_attributes_stand_in_the_message_by_their_names() -> None:
    assert json.loads(MESSAGE.to_json()) == {
        "specversion": "1.0",
        "id": "run_1/2a:ok",
        "source": "/shop/payment",
        "type": "minuet.fact",
        "subject": "o-1",
        "partitionkey": "o-1",
        "time": "2026-01-01T00:00:00.123Z",
        "minuetrun": "run_1",
        "minuethops": 3,
        "datacontenttype": "application/json",
        "data": {"paid": "12.50"},
    }


def test_what_is_not_there_is_not_named() -> None:
    bare = MESSAGE._replace(key="", data=None, attributes={})
    assert set(json.loads(bare.to_json())) == {"specversion", "id", "source", "type", "time"}


def test_data_stays_the_text_that_it_was() -> None:
    spaced = MESSAGE._replace(data=b'{ "amount" : 1.10, "amount2": 1e400 }')
    assert Envelope.from_json("t", spaced.to_json()).data == spaced.data


def test_a_message_of_others_needs_little() -> None:
    read = Envelope.from_json("orders", json.dumps(LEAST))
    assert read == Envelope("orders", "m-1", "/s", "t", "", 0, {}, None)
    for name in ("subject", "partitionkey"):
        assert Envelope.from_json("orders", json.dumps({**LEAST, name: "k"})).key == "k"
    both = {**LEAST, "subject": "s", "partitionkey": "p", "time": "2026-01-01T01:00:00+01:00", "data": None}
    read = Envelope.from_json("orders", json.dumps(both))
    assert (read.key, read.time_ms, read.data) == ("p", 1_767_225_600_000, b"null")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xff",
        b"[]",
        b"{",
        "\ud800",
        b'{"specversion": "0.3"}',
        b"[" * 100_000,
        b'{"specversion":"1.0","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        *(
            json.dumps({**LEAST, name: wrong})
            for name, wrong in (
                ("specversion", None),
                ("id", ""),
                ("id", 7),
                ("source", None),
                ("type", []),
                ("subject", 7),
                ("time", "yesterday"),
                ("time", "2026-01-01T00:00:00"),
                ("time", 7),
                ("minuethops", 1.5),
                ("minuetplan", {}),
                ("minuetplan", None),
            )
        ),
        *(json.dumps({k: v for k, v in LEAST.items() if k != name}) for name in LEAST),
    ],
)
def test_what_is_no_message_is_refused(raw: bytes | str) -> None:
    with pytest.raises(InvalidPayload, match="a message on orders") as refused:
        Envelope.from_json("orders", raw)
    assert refused.value.remedy


def test_instants_are_read_and_written_to_the_millisecond() -> None:
    for at_ms in (0, 1, 999, 1_767_225_600_123, 253_402_300_799_999):
        assert time_of(time_text(at_ms)) == at_ms
    assert time_text(0) == "1970-01-01T00:00:00.000Z"
    with pytest.raises(ValueError, match="no offset"):
        time_of("2026-01-01T00:00:00")
