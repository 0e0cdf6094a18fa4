"""A chain of three reactions under load, in a process of its own that is killed: `python -m tests.acceptance.chain`.

Half of the events come from outside, half from the action of a workflow. Each stage keeps a row in its transaction;
some attempts fail, so that keys are held up, and go on.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from random import Random

from minuet import (
    App,
    Busy,
    RetryPolicy,
    Service,
    Transaction,
    action,
    event,
    injected,
    on,
    publish,
    workflow,
)

KEYS = 20
SENDERS = 16
SOON = RetryPolicy(attempts=50, first_ms=20, at_most_ms=60)  # each kill may count as an attempt


@event("chain.begun", version=1, key="key")
@dataclass(frozen=True)
class Begun:
    key: str
    number: int


@event("chain.gone-on", version=1, key="key")
@dataclass(frozen=True)
class GoneOn:
    key: str
    number: int


@event("chain.ended", version=1, key="key")
@dataclass(frozen=True)
class Ended:
    key: str
    number: int


class Moody(Service):
    """Keeps a row for each event, and fails now and then."""

    dice = Random()

    async def enter(self, tx: Transaction, stage: str, key: str, number: int) -> None:
        await tx.execute("insert into entry (stage, key, number) values (?, ?, ?)", stage, key, number)
        if self.dice.random() < 0.02:
            raise ConnectionError("not in the mood")


class First(Moody):
    async def setup(self, tx: Transaction) -> None:
        await tx.execute(
            "create table if not exists entry (id integer primary key, stage text, key text, number integer)"
        )

    @action(emits=(Begun,))
    async def announce(self, number: int, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into entry (stage, key, number) values ('announced', '', ?)", number)
        publish(Begun(str(number % KEYS), number))

    @on(Begun, order_key="key", emits=(GoneOn,), retry=SOON)
    async def begin(self, begun: Begun, *, tx: Transaction = injected()) -> None:
        await self.enter(tx, "first", begun.key, begun.number)
        publish(GoneOn(begun.key, begun.number))


class Second(Moody):
    @on(GoneOn, order_key="key", emits=(Ended,), retry=SOON)
    async def go_on(self, gone: GoneOn, *, tx: Transaction = injected()) -> None:
        await asyncio.sleep(0)
        await self.enter(tx, "second", gone.key, gone.number)
        publish(Ended(gone.key, gone.number))


class Third(Moody):
    @on(Ended, order_key="key", retry=SOON)
    async def end(self, ended: Ended, *, tx: Transaction = injected()) -> None:
        await self.enter(tx, "third", ended.key, ended.number)


@workflow
async def announce(number: int, *, first: First) -> None:
    await first.announce(number)


def chain(store: Path) -> App:
    """Make the program over a store."""
    return App("chain", services=[First(), Second(), Third()], workflows=[announce], store=f"sqlite:///{store}")


async def send_until_killed(store: Path, acknowledged: Path) -> None:
    """Send one event after the other, and write down which of them are durable."""
    begin = 1 + max((int(line) for line in _lines(acknowledged)), default=0) + 10_000
    numbers = iter(range(begin, begin + 10_000_000))
    with acknowledged.open("a", buffering=1) as book:
        async with chain(store) as app:

            async def client() -> None:
                for number in numbers:
                    try:
                        if number % 2:
                            await app.send(Begun(str(number % KEYS), number), id=f"n-{number}")
                        else:
                            await app.start(announce, number, key=f"n-{number}")
                    except Busy:
                        await asyncio.sleep(0.01)
                        continue
                    book.write(f"{number}\n")
                    await asyncio.sleep(0.002)

            await asyncio.gather(*(client() for _ in range(SENDERS)))


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


if __name__ == "__main__":
    asyncio.run(send_until_killed(Path(sys.argv[1]), Path(sys.argv[2])))
