"""A dataclass, a Struct and a Pydantic model of the same fields have the same shape, and read each other's bytes."""

from __future__ import annotations

import uuid
from dataclasses import field, make_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import annotated_types
import msgspec
import pydantic
from hypothesis import given, settings
from hypothesis import strategies as st

from minuet.contracts.codec import codec_for
from minuet.contracts.schema import schema_of, shape_digest
from minuet.errors import InvalidPayload


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Level(Enum):
    LOW = 1
    HIGH = 2


# Each plain type, with a value that may be its default. Types come in threes: for a dataclass, a Struct, a model.
PLAIN: list[tuple[Any, Any]] = [
    (str, "x"),
    (int, 3),
    (float, 0.5),
    (bool, True),
    (Decimal, Decimal("1.50")),
    (datetime, datetime(2026, 1, 1, tzinfo=UTC)),
    (date, date(2026, 1, 1)),
    (timedelta, timedelta(days=1, seconds=2)),
    (uuid.UUID, uuid.UUID(int=1)),
    (Size, Size.SMALL),
    (Level, Level.HIGH),
    (Literal["a", "b"], "b"),
    (Literal[1, 2], 2),
]
LIBRARIES = ("dataclass", "struct", "model")
NAMES = st.sampled_from(["id", "title", "default", "total", "lines", "a_b", "x1"])

Three = tuple[Any, Any, Any]
FieldOf = tuple[str, Three, Any, bool]


def field_with(default: Any) -> Any:
    return field(default_factory=list) if default == [] else field(default=default)


def made(library: str, name: str, fields: list[tuple[str, Any, Any, bool]]) -> Any:
    """Make a class of one library; a field is (name, type, default, has a default)."""
    fields = sorted(fields, key=lambda f: f[3])
    if library == "struct":
        return msgspec.defstruct(name, [(n, t, d) if has else (n, t) for n, t, d, has in fields], kw_only=True)
    if library == "dataclass":
        return make_dataclass(name, [(n, t, field_with(d)) if has else (n, t) for n, t, d, has in fields])
    return pydantic.create_model(name, **{n: (t, d if has else ...) for n, t, d, has in fields})  # type: ignore[call-overload]


@st.composite
def types(draw: st.DrawFn, depth: int) -> tuple[Three, Any, bool]:
    """Draw a type for each library, and a default that fits it, if it may have one."""
    kinds = ["plain", "bounded"] + (["list", "tuple", "pair", "map", "optional", "record"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "plain":
        plain, default = draw(st.sampled_from(PLAIN))
        return (plain, plain, plain), default, True
    if kind == "bounded":
        low = draw(st.integers(-5, 5))
        ours = Annotated[int, msgspec.Meta(ge=low)]
        return (ours, ours, Annotated[int, annotated_types.Ge(low)]), low, True
    if kind == "record":
        return draw(records(depth - 1)), None, False
    inner, default, has = draw(types(depth - 1))
    if kind == "list":
        return (list[inner[0]], list[inner[1]], list[inner[2]]), [], True  # type: ignore[valid-type]
    if kind == "tuple":
        return (tuple[inner[0], ...], tuple[inner[1], ...], tuple[inner[2], ...]), None, False  # type: ignore[valid-type]
    if kind == "pair":
        return (tuple[inner[0], int], tuple[inner[1], int], tuple[inner[2], int]), None, False  # type: ignore[valid-type]
    if kind == "map":
        return (dict[str, inner[0]], dict[str, inner[1]], dict[str, inner[2]]), None, False  # type: ignore[valid-type]
    return (inner[0] | None, inner[1] | None, inner[2] | None), default if has and default != [] else None, True


@st.composite
def records(draw: st.DrawFn, depth: int = 2) -> Three:
    """Draw the same record in each of the libraries, under names of their own."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    fields: list[FieldOf] = []
    for name in names:
        three, default, may = draw(types(depth))
        fields.append((name, three, default, may and draw(st.booleans())))
    return (
        made("dataclass", draw(st.sampled_from(["A", "B"])), [(n, t[0], d, has) for n, t, d, has in fields]),
        made("struct", draw(st.sampled_from(["A", "C"])), [(n, t[1], d, has) for n, t, d, has in fields]),
        made("model", draw(st.sampled_from(["A", "D"])), [(n, t[2], d, has) for n, t, d, has in fields]),
    )


@settings(max_examples=150, deadline=None)
@given(records())
def test_the_shape_is_the_same_in_each_library(three: Three) -> None:
    shapes = [shape_digest(cls) for cls in three]
    assert len(set(shapes)) == 1, [schema_of(cls) for cls in three]


@settings(max_examples=150, deadline=None)
@given(st.data(), records(depth=1))
def test_what_one_library_writes_another_reads(data: st.DataObject, three: Three) -> None:
    try:
        value = data.draw(st.from_type(three[0]))
        raw = codec_for(three[0]).encode_checked(value)
    except InvalidPayload:  # a naive datetime, a NaN, a number out of bounds: refused, and tested elsewhere
        return
    for cls in three:
        codec = codec_for(cls)
        again = codec.encode(codec.decode(raw))
        assert codec_for(three[0]).decode(again) == codec_for(three[0]).decode(raw)
