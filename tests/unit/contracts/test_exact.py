"""What JSON cannot say by itself, walked through beside the description of its type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple, TypedDict

import msgspec
import pytest
from msgspec.inspect import type_info

from minuet.contracts import exact
from minuet.errors import DeclarationError, InvalidPayload

BIG = exact.SAFE_INTEGER + 1


@dataclass
class Tree:
    size: int
    name: str
    parts: list[Tree]


class Point(NamedTuple):
    x: int
    label: str


class Counts(TypedDict):
    total: int


class Cat(msgspec.Struct, tag="cat"):
    lives: int


class Dog(msgspec.Struct, tag="dog"):
    lives: str


class Pair(msgspec.Struct, array_like=True, tag="pair"):
    count: int
    label: str


def test_the_leaves_of_a_type_that_holds_itself_are_found_once() -> None:
    assert [type(leaf).__name__ for leaf in exact.leaves(type_info(Tree))] == ["StrType", "IntType"]


def test_a_type_is_refused_for_something_deep_inside_of_it() -> None:
    class Socket: ...

    exact.check_type(type_info(dict[str, list[Tree]]))
    with pytest.raises(DeclarationError, match="Socket"):
        exact.check_type(type_info(dict[str, tuple[int, Socket]]))


@pytest.mark.parametrize(
    ("type_", "value", "wire"),
    [
        (int, BIG, str(BIG)),
        (int, exact.SAFE_INTEGER, exact.SAFE_INTEGER),
        (Annotated[int, msgspec.Meta(gt=0)], BIG, str(BIG)),
        (int | None, BIG, str(BIG)),
        (float, BIG, BIG),
        (bool, True, True),
        (list[int], [1, -BIG], [1, str(-BIG)]),
        (tuple[int, str], [BIG, "1"], [str(BIG), "1"]),
        (Point, [BIG, "1"], [str(BIG), "1"]),
        (Pair, ["pair", BIG, "1"], ["pair", str(BIG), "1"]),
        (dict[str, int], {"a": BIG}, {"a": str(BIG)}),
        (Counts, {"total": BIG}, {"total": str(BIG)}),
        (Cat | Dog, {"type": "cat", "lives": BIG}, {"type": "cat", "lives": str(BIG)}),
        (Any, {"a": [BIG]}, {"a": [str(BIG)]}),
    ],
)
def test_integers_beyond_the_safe_ones_are_strings_on_the_wire(type_: Any, value: Any, wire: Any) -> None:
    info = type_info(type_)
    assert exact.to_wire(value, info) == wire
    if type_ is not Any:
        assert exact.from_wire(wire, info) == value


@pytest.mark.parametrize(
    ("type_", "wire"),
    [
        (int, "12"),  # a string that needs to be none
        (int, "0" + str(BIG)),
        (str, str(BIG)),
        (Dog | Cat, {"type": "dog", "lives": str(BIG)}),
        (Counts, {"other": str(BIG)}),
        (Any, str(BIG)),
    ],
)
def test_other_strings_of_digits_stay_strings(type_: Any, wire: Any) -> None:
    assert exact.from_wire(wire, type_info(type_)) == wire


def test_a_big_integer_where_a_string_may_stand_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidPayload) as caught:
        exact.to_wire({"a": [1, BIG]}, type_info(dict[str, list[int | str]]))
    assert caught.value.subject["path"] == "$.a[1]"


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, Decimal("NaN"), Decimal("-Infinity"), datetime(2026, 1, 1)],  # noqa: DTZ001 - naive
)
def test_a_value_that_has_no_form_is_refused_with_its_path(value: Any) -> None:
    for info, holder, path in (
        (type_info(list[Any]), [value], "$[0]"),
        (type_info(dict[str, Any]), {"a": value}, "$.a"),
    ):
        with pytest.raises(InvalidPayload) as caught:
            exact.to_wire(holder, info)
        assert caught.value.subject["path"] == path


def test_a_datetime_with_an_offset_and_finite_numbers_pass() -> None:
    values = [datetime(2026, 1, 1, tzinfo=UTC), 1.5, Decimal("1.5"), None]
    assert exact.to_wire(values, type_info(list[Any])) == values
