"""The order of a key between stores, over a broker that keeps none."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from minuet import Service, Transaction, event, injected, on
from minuet.contracts.envelope import Envelope
from minuet.engine.broker import BrokerCapability, Received
from minuet.runtime.hosts import Hosts
from minuet.runtime.local import LocalControl
from minuet.runtime.settings import Settings
from minuet.testing.clock import ManualClock

pytestmark = pytest.mark.asyncio

KEYS, EACH = 5, 20


@event("stock.counted", version=1, key="sku")
@dataclass(frozen=True)
class Counted:
    sku: str
    number: int


class Shelf(Service):
    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists count (id integer primary key, sku text, number integer)")

    @on(Counted, order_key="sku")
    async def note(self, counted: Counted, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into count (sku, number) values (?, ?)", counted.sku, counted.number)


class Shuffling:
    """A broker that gives what was published in any order, a third of it twice, once it is told to."""

    capabilities = frozenset({BrokerCapability.DURABLE, BrokerCapability.SYNCED})

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.held: list[Envelope] = []
        self.groups: dict[str, tuple[set[str], Callable[[Sequence[Received]], None]]] = {}
        self.acknowledged = 0

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def on_return(self, call: Callable[[], None] | None) -> None: ...

    async def publish(self, batch: Sequence[Envelope]) -> None:
        self.held += batch

    async def subscribe(self, group: str, topics: Collection[str], deliver: Any, **_: Any) -> Shuffling:
        self.groups[group] = set(topics), deliver
        return self

    def acknowledge(self, tags: Sequence[Any]) -> None:
        self.acknowledged += len(tags)

    def release(self, tags: Sequence[Any], delay_ms: int) -> None:
        raise AssertionError("nothing has to come again here")

    async def change(self, topics: Collection[str]) -> None: ...

    def shuffle(self, without: Collection[str] = ()) -> None:
        found, self.held = [e for e in self.held if e.id not in without], []
        found += self.r.sample(found, len(found) // 3)
        self.r.shuffle(found)
        for envelope in found:
            for topics, deliver in self.groups.values():
                if envelope.topic in topics:
                    deliver([Received(envelope, object(), 1)])


@pytest.mark.parametrize("seed", range(3))
async def test_per_key_the_applied_order_is_that_of_publication(seed: int, tmp_path: Path) -> None:
    broker, clock = Shuffling(seed), ManualClock()
    hosts, control = await opened(tmp_path, broker, clock)
    try:
        for number in range(EACH):
            for sku in range(KEYS):
                await control.send("stock.counted", str(sku), b'{"sku": "%d", "number": %d}' % (sku, number))
        await until(lambda: len(broker.held) == KEYS * EACH)
        broker.shuffle()
        await until(lambda: shelf(hosts).inlet.subscribers["shelf.note"].applied == KEYS * EACH)
    finally:
        await hosts.close(1_000)
    assert applied(tmp_path) == {str(sku): list(range(EACH)) for sku in range(KEYS)}


async def test_what_comes_after_a_lost_event_waits_and_is_found_in_failed_within_its_time(tmp_path: Path) -> None:
    broker, clock = Shuffling(0), ManualClock()
    hosts, control = await opened(tmp_path, broker, clock)
    try:
        for number in range(3):
            await control.send("stock.counted", "tea", b'{"sku": "tea", "number": %d}' % number, id_=f"n{number}")
        await control.send("stock.counted", "cups", b'{"sku": "cups", "number": 0}')
        await until(lambda: len(broker.held) == 4)
        broker.shuffle(without={"n1"})
        await until(lambda: shelf(hosts).inlet.subscribers["shelf.note"].applied == 2)
        assert await control.failed() == []
        for _ in range(310):
            await clock.advance(timedelta(seconds=1))
        async with asyncio.timeout(60):
            while not (failed := await control.failed()):  # the clock stands still, and the store's thread catches up
                await asyncio.sleep(0.001)
        (gap,) = failed
    finally:
        await hosts.close(1_000)
    assert gap.kind == "dead-letter"
    assert gap.reason.startswith("gap")
    assert applied(tmp_path) == {"tea": [0], "cups": [0]}


async def test_a_participant_that_begins_late_does_not_wait_for_what_was_published_before(tmp_path: Path) -> None:
    broker, clock = Shuffling(0), ManualClock()
    hosts, control = await opened(tmp_path, broker, clock, with_shelf=False)
    await control.send("stock.counted", "tea", b'{"sku": "tea", "number": 0}')
    await until(lambda: len(broker.held) == 1)
    await hosts.close(1_000)
    await clock.advance(timedelta(seconds=1))
    broker.held.clear()
    hosts, control = await opened(tmp_path, broker, clock)
    try:
        await control.send("stock.counted", "tea", b'{"sku": "tea", "number": 1}')
        await until(lambda: len(broker.held) == 1)
        assert broker.held[0].attributes["minuetprevious"] == "1"
        broker.shuffle()
        await until(lambda: shelf(hosts).inlet.subscribers["shelf.note"].applied == 1)
    finally:
        await hosts.close(1_000)


async def opened(
    folder: Path, broker: Shuffling, clock: ManualClock, *, with_shelf: bool = True
) -> tuple[Hosts, LocalControl]:
    settings = Settings(store_url=f"sqlite:///{folder / 'shop.db'}", store_per_service=True, observer=False)
    services: list[Service] = [Shelf()] if with_shelf else []
    hosts = Hosts("shop", services, clock, settings, {}, broker)
    await hosts.open([])
    return hosts, LocalControl(hosts, {}, {}, {"stock.counted": Counted}, services)


def shelf(hosts: Hosts) -> Any:
    (host,) = hosts.services
    return host


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():
            await asyncio.sleep(0.001)


def applied(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    connection = sqlite3.connect(folder / "shop.shelf.db")
    for sku, number in connection.execute("select sku, number from count order by id"):
        found.setdefault(sku, []).append(number)
    connection.close()
    return found
