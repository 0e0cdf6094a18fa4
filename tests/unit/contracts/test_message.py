from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pydantic
import pytest

from minuet.contracts.message import EventSpec, event, event_spec
from minuet.errors import DeclarationError


@event("shop.payments.charged", version=2, key="order", public=True)
@dataclass(frozen=True)
class Charged:
    order: str


@event("library.book-added", version=1, external=True)
class BookAdded(msgspec.Struct, frozen=True):
    isbn: str


@event("carrier.picked-up", version=1, key="parcel")
class PickedUp(pydantic.BaseModel):
    parcel: str


def test_what_is_declared_can_be_read() -> None:
    assert event_spec(Charged) == EventSpec(name="shop.payments.charged", version=2, key="order", public=True)
    assert event_spec(BookAdded) == EventSpec(name="library.book-added", version=1, external=True)
    assert event_spec(PickedUp) == EventSpec(name="carrier.picked-up", version=1, key="parcel")


def test_a_class_is_no_event_because_its_base_is_one() -> None:
    @dataclass(frozen=True)
    class Refunded(Charged):
        pass

    assert event_spec(Refunded) is None
    assert event_spec(str) is None
    assert event_spec(list[int]) is None


@pytest.mark.parametrize(
    "name",
    [
        "charged", "Orders.charged", "orders.", ".charged", "orders..charged", "orders.char_ged", "orders.charged-",
        "orders.v2", "orders.charged.v2", "orders charged", "orders.1st", "", "a." + "b" * 119,
    ],
)  # fmt: skip
def test_a_name_against_the_rules_is_refused(name: str) -> None:
    with pytest.raises(DeclarationError):
        event(name, version=1)


@pytest.mark.parametrize("name", ["orders.placed", "a.b", "shop.orders.placed-late", "a." + "b" * 118])
def test_a_name_within_the_rules_is_taken(name: str) -> None:
    event(name, version=1)


@pytest.mark.parametrize("version", [0, -1, True, 1.5, "1"])
def test_versions_count_from_one(version: Any) -> None:
    with pytest.raises(DeclarationError, match="version"):
        event("orders.placed", version=version)


def test_the_key_is_a_field() -> None:
    with pytest.raises(DeclarationError, match='key="parcel"'):
        event("orders.placed", version=1, key="parcel")(Charged)


def test_only_a_message_type_is_an_event() -> None:
    class Plain:
        pass

    class Derived(Charged):  # a dataclass by inheritance only: its own fields would not travel
        pass

    for wrong in (Plain, Derived, int):
        with pytest.raises(DeclarationError, match="no dataclass"):
            event("orders.placed", version=1)(wrong)
