"""A record of a disk, with what was acknowledged when: a real program over the real store, in simulated time."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from unittest.mock import patch

from minuet.errors import RunFailed, StoreError
from minuet.runtime import hosts
from minuet.runtime.settings import Settings
from minuet.stores.sqlite.connection import open_writer
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.clock import ProcessClock
from minuet.testing.simulation.loop import SimulationLoop
from minuet.tools.app import App
from tests.powercut.disk import Disk
from tests.powercut.driver import file_of
from tests.powercut.store import InlineStore
from tests.powercut.trade import NOTE, ORDERS, Confirmed, Order, Warehouse, sell
from tests.powercut.vfs import reseed

FIRST_LIFE_S = 4.5
ENDS_S = 600.0  # simulated
AGAIN_S = 1.0  # a client, or whoever starts programs, tries again


@dataclass(frozen=True, slots=True)
class State:
    """What the store held after a transaction: it began before the operation `began`, and was there from `acked` on.

    `acked` is None where an operation failed, so that nobody could know whether it is there.
    """

    began: int
    acked: int | None
    digest: str


@dataclass(frozen=True, slots=True)
class Told:
    """What a client was told before the operation `at`: that an order's run has begun, or how it has ended."""

    at: int
    key: str
    end: str | None


class Record:
    """What became of one disk: its operations, and what was said of it meanwhile."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.states: list[State] = []
        self.told: list[Told] = []
        self._began = 0
        self.base = self.peek()
        disk.on_failure = self._failed

    def expected(self, cut: int) -> tuple[str, set[str]]:
        """Give what is sure to be there after a power cut before this operation, and what else may be."""
        sure, since = self.base, 0
        for n, state in enumerate(self.states):
            if state.acked is not None and state.acked <= cut:
                sure, since = state.digest, n + 1
        return sure, {s.digest for s in self.states[since:] if s.began < cut} - {sure}

    def begins(self) -> None:
        """See `Witness`."""
        self._began = len(self.disk.record)

    def done(self, connection: sqlite3.Connection) -> None:
        """See `Witness`."""
        self.states.append(State(self._began, len(self.disk.record), digest_of(connection)))

    def tell(self, key: str, end: str | None = None) -> None:
        """Hear what a client is told now."""
        self.told.append(Told(len(self.disk.record), key, end))

    def _failed(self) -> None:
        """Note what may be there, whatever is told of it, from the operation on that has failed."""
        self.states.append(State(self._began, None, self.peek()))

    def peek(self) -> str:
        """Give what another process would find now, without touching the disk."""
        copy = Disk({name: bytes(content) for name, content in self.disk.files.items()})
        try:
            connection = open_writer(file_of(copy.folder))
            try:
                return digest_of(connection)
            finally:
                connection.close()
        finally:
            copy.close()


def play(disk: Disk, seed: int, *, orders: int = ORDERS, lives: int = 2, later_ms: int = 0) -> Record:
    """Perform all orders over a disk, in so many lives of the program; whatever of them is there already goes on.

    `later_ms`: how much later than usual the first of them begins.

    To be called within `simulated_disks`.
    """
    record, loop = Record(disk), SimulationLoop(Chance(seed))
    reseed(seed)
    chance = Random(f"store {seed}")
    with patch.object(hosts, "open_store", lambda _: InlineStore(disk, chance, record)), _quiet():
        try:
            loop.run_until_complete(_Trade(record, ProcessClock(loop, offset_ms=later_ms), seed, orders).perform(lives))
        finally:
            loop.close()
    return record


def digest_of(connection: sqlite3.Connection) -> str:
    """Give a digest of every row of every table."""
    digest = blake2b(digest_size=16)
    tables = connection.execute("select name, sql from sqlite_schema where sql is not null order by type, name")
    for name, sql in tables.fetchall():
        digest.update(f"{name} {sql}".encode())
        if sql.lower().startswith("create table"):
            digest.update(repr(connection.execute(f'select * from "{name}"').fetchall()).encode())
    return digest.hexdigest()


class _Trade:
    """The program, those who have it started again, and its clients."""

    def __init__(self, record: Record, clock: ProcessClock, seed: int, orders: int) -> None:
        self._record = record
        self._clock = clock
        self._chance = Random(f"trade {seed}")
        self._orders = [Order(f"o-{n}", n, NOTE * self._chance.randrange(1, 6)) for n in range(orders)]

    async def perform(self, lives: int) -> None:
        """Perform all orders."""
        async with asyncio.timeout(ENDS_S):
            for left in range(lives - 1, 0, -1):
                app = await self._open()
                clients = [asyncio.ensure_future(self._order(app, o)) for o in self._orders[:: left + 1]]
                await asyncio.sleep(FIRST_LIFE_S)
                for client in clients:
                    client.cancel()
                await asyncio.gather(*clients, return_exceptions=True)
                await app.stop(grace_ms=0)
            app = await self._open()
            await asyncio.gather(*(self._order(app, order) for order in self._orders))
            await asyncio.sleep(10)  # reactions come after
            await app.stop()

    async def _open(self) -> App:
        while True:
            app = App("trade", services=[Warehouse()], workflows=[sell], clock=self._clock)
            try:
                await app.open(Settings(store_url="sqlite:///store.db", observer=False, slots=4))
            except StoreError:
                await asyncio.sleep(AGAIN_S)
            else:
                return app

    async def _order(self, app: App, order: Order) -> None:
        """Be a client: ask until it is told, confirm, and wait for the end."""
        await asyncio.sleep(self._chance.random() * 3)
        while True:
            try:
                run = await app.start(sell, order, key=order.id)
                self._record.tell(order.id)
                if order.number % 2:
                    await app.send(Confirmed(order.id), id=f"confirmed {order.id}")
                try:
                    await run.result()
                    self._record.tell(order.id, "completed")
                except RunFailed:
                    self._record.tell(order.id, await run.status())
                return
            except StoreError:
                await asyncio.sleep(AGAIN_S)


@contextmanager
def _quiet() -> Iterator[None]:
    """Have nothing logged: failures are meant."""
    logger = logging.getLogger("minuet")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
