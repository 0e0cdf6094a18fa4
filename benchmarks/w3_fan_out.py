"""W3: one run, `each` over many items in parallel."""

from __future__ import annotations

import asyncio
from pathlib import Path

from benchmarks.contest import SYNCED, Bar, Entry, Figures, Work, ratio
from benchmarks.meter import Meter
from benchmarks.peer.entries import SYSTEMS, peers
from benchmarks.program import open_app
from minuet import Service, action, each, workflow

ITEMS = 1_000


class Steps(Service):
    @action
    async def double(self, item: int) -> int:
        return 2 * item


@workflow
async def fan_out(items: list[int], *, steps: Steps) -> list[int]:
    return await each(items, lambda item: steps.double(item), limit=5_000)  # noqa: PLW0108 - the language wants a lambda


def one_run(folder: Path, shared: Path, size: int) -> Figures:
    """Perform one run over `size` items."""
    return asyncio.run(_one_run(folder, size))


async def _one_run(folder: Path, size: int) -> Figures:
    async with open_app([Steps()], [fan_out], folder / "w3.db") as app:
        await app.run(fan_out, [1, 2, 3])
        with Meter() as meter:
            doubled = await app.run(fan_out, list(range(size)))
    assert doubled == [2 * item for item in range(size)]
    return meter.figures(size)


def _against(system: str) -> Bar:
    return Bar(
        what=f"seconds of {system} for 1,000 items, times ours",
        value=lambda f: ratio(f("secs", "W3", system, "one run", ITEMS), f("secs", "W3", "minuet", "one run", ITEMS)),
    )


WORK = Work(
    name="W3",
    title="fan-out: one run over many items",
    entries=(
        Entry(
            system="minuet",
            what="one run",
            durability=SYNCED,
            program=f"{__name__}:one_run",
            sizes=(ITEMS, 4 * ITEMS),
            quick=(10, 20),
        ),
        *peers("one run", "w3_fan_out:one_run", sizes=(ITEMS // 4, ITEMS), quick=(5, 10)),
    ),
    bars=(
        Bar(
            what="seconds for 1,000 items",
            value=lambda f: f("secs", "W3", "minuet", "one run", ITEMS),
            at_most=0.15,
        ),
        *map(_against, SYSTEMS),
        Bar(
            what="items/s at 4,000 items, times 1,000",
            value=lambda f: ratio(
                f("per_s", "W3", "minuet", "one run", 4 * ITEMS), f("per_s", "W3", "minuet", "one run", ITEMS)
            ),
        ),
    ),
)
