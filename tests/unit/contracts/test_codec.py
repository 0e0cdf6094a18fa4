from __future__ import annotations

import enum
import math
import uuid
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minuet.contracts.codec import codec_for
from minuet.errors import DeclarationError, InvalidPayload


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int


class Note(msgspec.Struct, frozen=True):
    text: str
    at: datetime | None = None


class Address(pydantic.BaseModel):
    street: str
    since: datetime | None = None
    area: float | None = None
    number: int = 1


class Corner(NamedTuple):
    x: int
    y: float


class Extra(TypedDict, total=False):
    big: int


@dataclass(frozen=True)
class Order:
    id: uuid.UUID
    total: Decimal
    day: date
    at: datetime
    pause: timedelta
    clock: time
    image: bytes
    colour: Colour
    kind: Literal["gift", "own"]
    lines: tuple[Line, ...]
    corner: Corner
    note: Note | None = None
    address: Address | None = None
    extra: Extra = field(default_factory=Extra)
    sizes: dict[str, list[int]] = field(default_factory=dict)
    tags: frozenset[str] = frozenset()
    share: float = 0.5


ORDER = Order(
    id=uuid.UUID(int=7),
    total=Decimal("19.90"),
    day=date(2026, 11, 22),
    at=datetime(2026, 11, 22, 9, 14, tzinfo=UTC),
    pause=timedelta(days=1, seconds=3.5),
    clock=time(9, 14),
    image=b"\x00\xff",
    colour=Colour.BLUE,
    kind="gift",
    lines=(Line("tea", 2),),
    corner=Corner(1, 2.5),
    note=Note("ring", datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
    address=Address(street="1 Sea Road", number=3),
    extra=Extra(big=2**60),
    sizes={"a": [1, 2**70, -(2**54)]},
    tags=frozenset({"x"}),
)


def encoded(value: Any, type_: Any) -> bytes:
    return codec_for(type_).encode(value)


def decoded(raw: bytes, type_: Any) -> Any:
    return codec_for(type_).decode(raw)


def refused(raw: bytes, type_: Any) -> str:
    with pytest.raises(InvalidPayload) as caught:
        decoded(raw, type_)
    return str(caught.value.subject["path"])


def unwritable(value: Any, type_: Any) -> str:
    with pytest.raises(InvalidPayload) as caught:
        encoded(value, type_)
    return str(caught.value.subject["path"])


def test_a_value_of_every_kind_comes_back_as_it_was() -> None:
    codec = codec_for(Order)
    assert codec.decode(codec.encode(ORDER)) == ORDER


def test_each_kind_has_its_form_on_the_wire() -> None:
    assert msgspec.json.decode(encoded(ORDER, Order)) == {
        "id": "00000000-0000-0000-0000-000000000007",
        "total": "19.90",
        "day": "2026-11-22",
        "at": "2026-11-22T09:14:00Z",
        "pause": "P1DT3.5S",
        "clock": "09:14:00",
        "image": "AP8=",
        "colour": "blue",
        "kind": "gift",
        "lines": [{"sku": "tea", "quantity": 2}],
        "corner": [1, 2.5],
        "note": {"text": "ring", "at": "2026-01-01T00:00:00+02:00"},
        "address": {"street": "1 Sea Road", "since": None, "area": None, "number": 3},
        "extra": {"big": "1152921504606846976"},
        "sizes": {"a": [1, "1180591620717411303424", "-18014398509481984"]},
        "tags": ["x"],
        "share": 0.5,
    }


@pytest.mark.parametrize("type_", [int, list[int], dict[str, int], tuple[int, str], int | None, dict[int, list[int]]])
@settings(deadline=None)
@given(data=st.data())
def test_integers_of_any_size_come_back(type_: Any, data: st.DataObject) -> None:
    value = data.draw(st.from_type(type_))
    assert decoded(encoded(value, type_), type_) == value


def test_integers_are_strings_only_beyond_the_safe_ones() -> None:
    assert (
        encoded([2**53, 2**53 + 1, -(2**53) - 1], list[int])
        == b'[9007199254740992,"9007199254740993","-9007199254740993"]'
    )
    assert refused(b'["5"]', list[int]) == "$[0]"
    assert refused(b'["9007199254740992"]', list[int]) == "$[0]"


def test_digits_in_a_string_stay_a_string() -> None:
    @dataclass
    class Card:
        number: str
        limit: int

    card = Card(":4242424242424242", 2**60)
    assert encoded(card, Card) == b'{"number":":4242424242424242","limit":"1152921504606846976"}'
    assert decoded(encoded(card, Card), Card) == card


def test_a_big_integer_that_might_be_a_string_is_refused() -> None:
    assert encoded([5, "a"], list[int | str]) == b'[5,"a"]'
    assert unwritable([1, 2**60], list[int | str]) == "$[1]"


def test_a_big_integer_in_a_float_stays_a_number() -> None:
    assert decoded(encoded([10**20], list[float | None]), list[float | None]) == [1e20]


@pytest.mark.parametrize("type_", [Note, Address])
def test_a_naive_datetime_is_refused_in_both_directions(type_: Any) -> None:
    name, instant = ("at" if type_ is Note else "since"), datetime(2026, 1, 1)  # noqa: DTZ001
    naive = Note("x", instant) if type_ is Note else Address(street="x", since=instant)
    assert unwritable(naive, type_) == f"$.{name}"
    first = b'"text"' if type_ is Note else b'"street"'
    assert refused(b"{" + first + b':"x","%s":"2026-01-01T00:00:00"}' % name.encode(), type_) == f"$.{name}"


def test_what_looks_like_a_naive_datetime_in_a_string_is_left_alone() -> None:
    note = Note("2026-01-01T00:00:00", datetime(2026, 1, 1, tzinfo=UTC))
    assert decoded(encoded(note, Note), Note) == note


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused(number: float) -> None:
    assert unwritable([0.0, number], list[float]) == "$[1]"
    assert unwritable(Address(street="x", area=number), Address) == "$.area"
    assert unwritable({"a": Decimal(number)}, dict[str, Decimal]) == "$.a"
    assert unwritable(Corner(1, number), Corner) == "$[1]"


def test_a_mistake_is_told_with_its_path() -> None:
    assert refused(b'{"sku":"a","quantity":"two"}', Line) == "$.quantity"
    assert refused(b'[{"sku":"a"}]', list[Line]) == "$[0]"
    assert refused(b"{", Line) == "$"
    assert refused(b"\xff", str) == "$"
    assert refused(b'{"street":5}', Address) == "$.street"
    assert refused(b'{"home":{"street":5}}', dict[str, Address]).startswith("$")
    assert refused(b"[" * 5000, Any) == "$"


def test_unknown_fields_are_ignored() -> None:
    assert decoded(b'{"sku":"a","quantity":1,"colour":"red"}', Line) == Line("a", 1)


def test_constraints_are_checked() -> None:
    Small = Annotated[int, msgspec.Meta(le=9)]
    assert decoded(b"9", Small) == 9
    assert refused(b"10", Small) == "$"


def test_what_is_no_json_cannot_be_encoded() -> None:
    assert unwritable(Line("a", object()), Line) == "$"  # type: ignore[arg-type]


def test_a_checked_value_is_of_its_type_and_has_nothing_else() -> None:
    @dataclass(frozen=True)
    class Longer(Line):
        secret: str = "x"

    codec = codec_for(Line)
    assert codec.encode_checked(Longer("a", 1)) == b'{"sku":"a","quantity":1}'
    for wrong in (None, "a", Line("a", "b"), {"sku": "a"}):  # type: ignore[arg-type]
        with pytest.raises(InvalidPayload):
            codec.encode_checked(wrong)


@pytest.mark.parametrize(
    ("type_", "value", "raw"),
    [
        (float, 1, b"1.0"),
        (Decimal, 1.5, b'"1.5"'),
        (int, 10**20, b'"100000000000000000000"'),
        (tuple[Line, ...], [{"sku": "a", "quantity": 1, "secret": "x"}], b'[{"sku":"a","quantity":1}]'),
        (Note, {"text": "null 1234567890123456"}, b'{"text":"null 1234567890123456","at":null}'),
    ],
)
def test_a_checked_value_has_the_form_of_its_type(type_: Any, value: Any, raw: bytes) -> None:
    assert codec_for(type_).encode_checked(value) == raw


def test_a_model_is_found_anywhere_inside_a_type() -> None:
    @dataclass
    class House:
        rooms: list[Address]
        by_name: dict[str, Address | None]

    house = House([Address(street="a")], {"b": Address(street="b", number=2**60), "c": None})
    assert decoded(encoded(house, House), House) == house


def test_a_codec_is_made_once() -> None:
    assert codec_for(Order) is codec_for(Order)
    assert codec_for(list[int]) is codec_for(list[int])


@pytest.mark.parametrize("type_", [object, complex, Line | Note, type, list[object], Any.__class__])
def test_a_type_that_json_cannot_carry_is_refused_when_it_is_declared(type_: Any) -> None:
    with pytest.raises(DeclarationError) as caught:
        codec_for(type_)
    assert caught.value.remedy


def test_a_model_that_writes_bytes_as_text_is_refused() -> None:
    class Picture(pydantic.BaseModel):
        image: bytes

    with pytest.raises(DeclarationError, match="bytes"):
        codec_for(Picture)


def test_a_model_with_base64_comes_back() -> None:
    class Picture(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
        image: bytes

    picture = Picture(image=b"\xff\xfe\xfd")
    assert decoded(encoded(picture, Picture), Picture) == picture


def test_a_tagged_union_is_told_by_its_tag() -> None:
    class Card(msgspec.Struct, tag="card"):
        number: int

    class Cash(msgspec.Struct, tag="cash"):
        number: str

    for value in (Card(2**60), Cash("9223372036854775807")):
        assert decoded(encoded(value, Card | Cash), Card | Cash) == value


def test_what_is_exactly_of_a_plain_type_is_written_at_once_and_still_checked() -> None:
    assert codec_for(str).encode_checked("é") == '"é"'.encode()
    with pytest.raises(InvalidPayload):
        codec_for(str).encode_checked("\ud800")
    with pytest.raises(InvalidPayload):
        codec_for(float).encode_checked(float("nan"))
    with pytest.raises(InvalidPayload):
        codec_for(int).encode_checked(True)
