"""The program that is killed: every kind of node, every kind of action, and what must be on the books afterwards.

`Books` is transactional: its rows are committed with the facts, so each is there exactly once. `World` is not: it
appends to a file that no transaction knows, so each of its lines is there at least once.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta

from minuet import (
    App,
    Context,
    Rejection,
    Service,
    Transaction,
    action,
    attempt,
    compensation,
    each,
    event,
    injected,
    sleep,
    together,
    wait_for,
    workflow,
)

ROUNDS = 4
UNHEARD = timedelta(milliseconds=150)


@dataclass(frozen=True)
class Errand:
    """What one run is to meet with: which way it goes is known before it begins."""

    key: str
    items: tuple[int, ...] = ()
    rounds: int = 0  # rounds of the loop before it is left
    sold_out: bool = False  # the attempt takes its other way
    refused: bool = False  # the whole is compensated
    nudged: bool = False  # an event comes, and is waited for without a limit
    failures: int = 0  # attempts of the call outside that raise
    pause: timedelta = timedelta(0)


@event("errand.nudged", version=1, key="errand", external=True)
@dataclass(frozen=True)
class Nudged:
    errand: str


class SoldOut(Rejection): ...


class Refused(Rejection): ...


class Books(Service):
    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (id integer primary key, errand text, what text)")

    @action
    async def enter(self, errand: str, what: str, *, tx: Transaction = injected()) -> list[str]:
        await tx.execute("insert into entry (errand, what) values (?, ?)", errand, what)
        return [errand, what]

    @compensation(enter)
    async def strike(self, entered: list[str], *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into entry (errand, what) values (?, ?)", entered[0], f"-{entered[1]}")

    @action(rejects=(SoldOut,))
    async def buy(self, errand: str, is_sold_out: bool, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into entry (errand, what) values (?, 'bought')", errand)
        if is_sold_out:
            raise SoldOut("undo the row above")  # a rejection leaves nothing behind

    @compensation(buy)
    async def give_back(self, bought: None, *, context: Context = injected(), tx: Transaction = injected()) -> None:
        await tx.execute("insert into entry (errand, what) values (?, '-bought')", context.key)

    @action(rejects=(Refused,))
    async def judge(self, is_refused: bool) -> None:
        if is_refused:
            raise Refused("as it was asked for")


class World(Service):
    """Knows nothing of transactions: a file to which lines are appended."""

    def __init__(self, file: str) -> None:
        self.file = file

    @action
    async def call(self, errand: str, failures: int, *, context: Context = injected()) -> str:
        self._append(f"{errand} {context.op_key}")
        await asyncio.sleep(0.005)
        if context.attempt <= failures:
            raise ConnectionResetError("the world is not always there")
        return errand

    @compensation(call)
    def call_off(self, errand: str) -> None:  # in a thread
        self._append(f"-{errand} -")

    def _append(self, line: str) -> None:
        file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, f"{line}\n".encode())
        finally:
            os.close(file)


@workflow
async def count_to(errand: str, rounds: int, *, books: Books) -> int:
    done = 0
    for n in range(ROUNDS):
        await books.enter(errand, f"round {n}")
        done = n + 1
        if done > rounds:
            break
    return done


@workflow
async def run_errand(errand: Errand, *, books: Books, world: World) -> str:
    await books.enter(errand.key, "begin")
    _, rounds = await together(
        world.call(errand.key, errand.failures).retry(30, first=0.02, factor=1.5, at_most=0.2),
        count_to(errand.key, errand.rounds, books=books),
    )
    await each(errand.items, lambda item: books.enter(errand.key, f"item {item}"), limit=20, at_once=3)
    async with attempt(SoldOut) as tried:
        await books.enter(errand.key, "shop")
        await books.buy(errand.key, errand.sold_out)
    if tried.rejected:
        await books.enter(errand.key, "market")
    if errand.nudged:
        await wait_for(Nudged, key=errand.key, by=books)
        await books.enter(errand.key, "nudged")
    else:
        unheard = await wait_for(Nudged, key=errand.key, by=books, timeout=UNHEARD)
        if unheard is None:
            await books.enter(errand.key, "unheard")
    await sleep(errand.pause, by=books)
    await books.judge(errand.refused)
    await books.enter(errand.key, "end")
    return f"{rounds} rounds"


app = App(
    "errands",
    services=[Books(), World(os.environ.get("ERRANDS_WORLD", "world.txt"))],
    workflows=[run_errand],
)


def entries(errand: Errand) -> Counter[str]:
    """Give the rows that must be on the books when the errand has ended."""
    found = Counter(["begin", *(f"item {i}" for i in errand.items)])
    found.update(f"round {n}" for n in range(min(errand.rounds + 1, ROUNDS)))
    found.update(["market"] if errand.sold_out else ["shop", "bought"])
    found.update(["nudged"] if errand.nudged else ["unheard"])
    if errand.refused:
        found.update([f"-{what}" for what in found])
    else:
        found.update(["end"])
    if errand.sold_out:
        found.update(["shop", "-shop"])
    return found
