"""What is told of how something came about: the circle that reactions have gone round."""

from __future__ import annotations

import msgspec
import pytest

from minuet import App, Service, event, on, publish
from minuet.runtime.view import DeadLetterView
from tests.unit.runtime.conftest import until

pytestmark = pytest.mark.asyncio


@event("shop.placed", version=1, key="k")
class Placed(msgspec.Struct, frozen=True):
    k: str


@event("stock.reserved", version=1, key="k")
class Reserved(msgspec.Struct, frozen=True):
    k: str


class Stock(Service):
    @on(Placed, emits=(Reserved,))
    async def reserve(self, placed: Placed) -> None:
        publish(Reserved(placed.k))


class Shop(Service):
    @on(Reserved, emits=(Placed,))
    async def place_again(self, reserved: Reserved) -> None:
        publish(Placed(reserved.k))


async def test_a_circle_is_stopped_and_shown_with_the_types_and_reactions_on_the_way() -> None:
    found: list[DeadLetterView] = []

    async def is_dead() -> bool:
        found[:] = await app.control.letters.dead_letters()
        return bool(found)

    async with App("shop", services=[Stock(), Shop()], store="sqlite://") as app:
        await app.send(Placed("o-1"))
        await until(is_dead)
    (letter,) = found
    assert letter.reason == "hop-limit"
    assert letter.error.endswith(
        "more than 64 is a circle: stock.reserved → shop.place_again → shop.placed → stock.reserve → stock.reserved"
    ) or letter.error.endswith(
        "more than 64 is a circle: shop.placed → stock.reserve → stock.reserved → shop.place_again → shop.placed"
    )
