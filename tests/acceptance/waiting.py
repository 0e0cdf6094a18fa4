"""A program whose workflow waits for what somebody has to say."""

from __future__ import annotations

from dataclasses import dataclass

from minuet import App, Service, action, event, wait_for, workflow


@event("shop.picked-up", version=1, key="order")
@dataclass(frozen=True)
class PickedUp:
    order: str


class Shop(Service):
    @action(pure=True)
    async def look(self) -> None: ...


@workflow
async def wait(*, shop: Shop) -> None:
    await shop.look()
    await wait_for(PickedUp, key="o-1")


app = App("waiting", services=[Shop()], workflows=[wait])
