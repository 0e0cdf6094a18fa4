"""A program that is to be killed: a process under load, who reads its files beside it, and what is compared."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from minuet import Busy, Client, NotRunning, StoreUnavailable
from tests.acceptance.kills_counts import Counts
from tests.acceptance.process import Process

T = TypeVar("T")

LOOK_S = 0.05
READ_TIMEOUT_S = 60.0


class Eyes:
    """Reads a file beside the process that writes it; opened when something is read."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file, if it is open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def all(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Give the rows of a query."""
        if self._connection is None:
            self._connection = sqlite3.connect(f"file:{self._store}?mode=ro", uri=True, timeout=READ_TIMEOUT_S)
        return self._connection.execute(query, arguments).fetchall()

    def one(self, query: str, *arguments: object) -> Any:
        """Give the one value of a query."""
        return self.all(query, *arguments)[0][0]

    def ended(self) -> int:
        """Count the runs that have ended."""
        return int(self.one("select count(*) from minuet_run where ended_at_ms is not null"))

    def openings(self) -> int:
        """Count how often the store was opened."""
        return int(self.one("select value from minuet_store where name = 'epoch'"))

    def is_whole(self) -> bool:
        """Say whether the file is what SQLite takes for one."""
        return bool(self.one("pragma integrity_check") == "ok")


class Load(ABC):
    """Clients who begin one run after the other, and ask again while nobody answers.

    `open_at_most`: as long as so many of their runs have not ended, they begin none.
    """

    def __init__(self, client: Client, dice: random.Random, *, clients: int, open_at_most: int) -> None:
        self.client = client
        self.dice = dice
        self.acknowledged = 0
        self.ended = 0
        self.answers_lost = 0
        self.is_over = False
        self._clients = clients
        self._open_at_most = open_at_most
        self._open = 0  # begun, or about to be

    @abstractmethod
    async def begin(self) -> None:
        """Begin one run; it is acknowledged when this returns."""

    async def work(self) -> None:
        """Begin runs until it is over."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(self._clients):
                clients.create_task(self._begin_some())

    async def until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer: to the same question the same one, whether or not it was heard before."""
        while True:
            try:
                return await ask()
            except (NotRunning, Busy):
                await asyncio.sleep(0.02)
            except StoreUnavailable:
                self.answers_lost += 1  # unknown whether it was done: the same again is done once
                await asyncio.sleep(0.02)

    async def _begin_some(self) -> None:
        while not self.is_over:
            if self._open - self.ended >= self._open_at_most:
                await asyncio.sleep(LOOK_S)
                continue
            self._open += 1
            await self.begin()
            self.acknowledged += 1


class Victim(ABC):
    """A program that is killed under load. `counts`: what came of it."""

    name: str
    at_least: int
    """So many runs say something about what runs meet with."""

    process: Process
    counts: Counts

    @abstractmethod
    def close(self) -> None:
        """Read its files no more."""

    @abstractmethod
    def load(self, client: Client) -> Load:
        """Give who begins runs."""

    @abstractmethod
    def openings(self) -> int:
        """Count how often its stores were opened, all together."""

    @abstractmethod
    def done(self) -> int:
        """Give a number that grows with whatever is done."""

    @abstractmethod
    def ended(self) -> int:
        """Count the runs that have ended."""

    @abstractmethod
    def left(self) -> int:
        """Count what is still to be seen to; 0 once everything has come to its end."""

    @abstractmethod
    def glance(self) -> None:
        """Count, while it goes on, what is left to chance."""

    @abstractmethod
    def compare(self) -> None:
        """Compare what was acknowledged with what is stored, in our tables, in the services', and outside."""
