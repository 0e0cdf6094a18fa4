"""Kill a real process under load, again and again, and look whether anything is lost, done twice, or never ends.

`python -m tests.acceptance.kills --kills 100` (`make kills`). The last line is JSON with all counts; the exit code is 1
if anything fell short, or if something that was to be tested did not happen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sqlite3
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from minuet import Busy, Client, NotRunning, StoreUnavailable
from tests.acceptance.errands import Errand, Nudged, entries, run_errand
from tests.acceptance.process import Process

T = TypeVar("T")

APP = "tests.acceptance.errands:app"
OPEN_AT_MOST = 250  # errands that have not ended yet
CLIENTS = 12
FIRST_PROGRESS_TIMEOUT_S = 20.0
DRAIN_TIMEOUT_S = 90.0


@dataclass(kw_only=True)
class Counts:
    """What happened. The first group must be zero, the second must not: what did not happen was not tested."""

    lost: int = 0
    twice: int = 0
    missing: int = 0
    unexpected: int = 0
    unended: int = 0
    stuck: int = 0
    wrong_end: int = 0
    several_runs: int = 0
    outside_missing: int = 0
    damaged: int = 0
    exit_code: int = 0

    kills: int = 0
    acknowledged: int = 0
    events_acknowledged: int = 0
    completed: int = 0
    compensated: int = 0
    other_way: int = 0
    timers_fired: int = 0
    events_early: int = 0
    outside_repeated: int = 0
    answers_lost: int = 0
    kills_before_answer: int = 0
    retried: int = 0
    facts: int = 0

    first_progress_s: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    seed: int = 0

    def wrong(self) -> list[str]:
        """Name what fell short."""
        values = asdict(self)
        names = list(values)
        middle = names.index("kills")
        bad = [f"{n} is {values[n]}" for n in names[:middle] if values[n]]
        return bad + [f"{n} is 0" for n in names[middle : names.index("first_progress_s")] if not values[n]]


class Load:
    """Clients who begin errands and nudge them, and ask again while nobody answers."""

    def __init__(self, client: Client, dice: random.Random) -> None:
        self.errands: dict[str, Errand] = {}  # acknowledged
        self.nudged: set[str] = set()  # acknowledged
        self.early: set[str] = set()
        self.answers_lost = 0
        self.is_over = False
        self._client = client
        self._dice = dice
        self._count = 0
        self._room = asyncio.Semaphore(OPEN_AT_MOST)

    def ended(self, count: int) -> None:
        """Say that so many errands more have ended."""
        for _ in range(count):
            self._room.release()

    async def work(self) -> None:
        """Begin errands until it is over."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(CLIENTS):
                clients.create_task(self._begin_errands())

    async def _begin_errands(self) -> None:
        while not self.is_over:
            try:
                await asyncio.wait_for(self._room.acquire(), 0.2)
            except TimeoutError:
                continue
            errand = self._errand()
            if errand.nudged and self._dice.random() < 0.5:
                self.early.add(errand.key)
                await self._nudge(errand)
            await self._until_answered(lambda e=errand: self._client.start(run_errand, e, key=e.key))  # type: ignore[misc]
            self.errands[errand.key] = errand
            if errand.nudged and errand.key not in self.early:
                await self._nudge(errand)

    def _errand(self) -> Errand:
        self._count += 1
        dice = self._dice
        return Errand(
            key=f"e-{self._count:06}",
            items=tuple(range(dice.choice([0, 1, 3, 5]))),
            rounds=dice.randrange(5),
            sold_out=dice.random() < 0.25,
            refused=dice.random() < 0.25,
            nudged=dice.random() < 0.5,
            failures=dice.choice([0, 0, 0, 1, 2]),
            pause=timedelta(milliseconds=dice.choice([1, 20, 200])),
        )

    async def _nudge(self, errand: Errand) -> None:
        await self._until_answered(lambda: self._client.send(Nudged(errand.key), id=f"nudge-{errand.key}"))
        self.nudged.add(errand.key)

    async def _until_answered(self, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await ask()
            except (NotRunning, Busy):
                await asyncio.sleep(0.02)
            except StoreUnavailable:
                self.answers_lost += 1  # unknown whether it was done: the same again is done once
                await asyncio.sleep(0.02)


class Eyes:
    """Reads the file beside the process that writes it."""

    def __init__(self, store: Path) -> None:
        self._connection = sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def all(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        """Give the rows of a query."""
        return self._connection.execute(query, arguments).fetchall()

    def one(self, query: str, *arguments: object) -> Any:
        """Give the one value of a query."""
        return self.all(query, *arguments)[0][0]

    def ended(self) -> int:
        """Count the runs that have ended."""
        return int(self.one("select count(*) from minuet_run where ended_at_ms is not null"))


async def kill_often(folder: Path, kills: int, seed: int, say: Callable[[str], None]) -> Counts:
    """Kill so often, let everything come to its end, and count."""
    dice, counts, began = random.Random(seed), Counts(seed=seed), monotonic()
    world = folder / "world.txt"
    process = Process(APP, folder / "errands.db", ERRANDS_WORLD=str(world), MINUET_LOG_LEVEL="warning")
    first_progress: list[float] = []
    try:
        await process.start()
        eyes = Eyes(process.store)
        async with Client(process.url) as client:
            load = Load(client, dice)
            working = asyncio.create_task(load.work())
            watching = asyncio.create_task(_watch(eyes, load))
            for n in range(kills):
                await asyncio.sleep(dice.uniform(0.0, 0.7))
                process.kill()
                while n % 10 == 4 or dice.random() < 0.1:  # also while it comes up, perhaps again and again
                    process.spawn()
                    await asyncio.sleep(dice.uniform(0.05, 0.6))
                    process.kill()
                    counts.kills += 1
                    counts.kills_before_answer += 1
                    if dice.random() < 0.7:
                        break
                counts.kills += 1
                entered = eyes.one("select coalesce(max(id), 0) from entry")
                process.spawn()
                first_progress.append(await _progress(eyes, process, entered))
                say(f"{n + 1} of {kills} kills · {len(load.errands):,} acknowledged · {eyes.ended():,} ended")
                if working.done():
                    working.result()
            load.is_over = True
            await working
            watching.cancel()
            until = monotonic() + DRAIN_TIMEOUT_S
            while eyes.ended() < len(load.errands) and monotonic() < until:
                say(f"{len(load.errands):,} acknowledged · {eyes.ended():,} ended")
                await asyncio.sleep(0.2)
        counts.exit_code = await process.stop()
        _count(counts, load, eyes, world)
        eyes.close()
    finally:
        process.close()
    first_progress.sort()
    counts.first_progress_s = {
        f"p{p}": round(first_progress[min(len(first_progress) - 1, len(first_progress) * p // 100)], 3)
        for p in (50, 99)
    }
    counts.seconds = round(monotonic() - began, 1)
    return counts


async def _watch(eyes: Eyes, load: Load) -> None:
    """Let the load begin as many errands as have ended."""
    known = 0
    while True:
        await asyncio.sleep(0.05)
        ended = eyes.ended()
        load.ended(ended - known)
        known = ended


async def _progress(eyes: Eyes, process: Process, entered: int) -> float:
    """Wait until something new is on the books, and give how long that took."""
    until = process.began_s + FIRST_PROGRESS_TIMEOUT_S
    while eyes.one("select coalesce(max(id), 0) from entry") <= entered:
        if monotonic() > until or not process.is_alive:
            raise RuntimeError(f"nothing goes on after a kill:\n{process.said()}")
        await asyncio.sleep(0.01)
    return monotonic() - process.began_s


def _count(counts: Counts, load: Load, eyes: Eyes, world: Path) -> None:
    """Compare what was acknowledged with what is stored, in our tables, in the services', and outside."""
    runs: dict[str, list[str]] = {}
    for key, state in eyes.all("select key, state from minuet_run"):
        runs.setdefault(key, []).append(state)
    found: dict[str, Counter[str]] = {key: Counter() for key in load.errands}
    for errand, what in eyes.all("select errand, what from entry"):
        found.setdefault(errand, Counter())[what] += 1
    outside = Counter(world.read_text().splitlines())
    called = Counter(line.split()[0] for line in outside.elements())

    counts.acknowledged, counts.events_acknowledged = len(load.errands), len(load.nudged)
    counts.answers_lost, counts.events_early = load.answers_lost, len(load.early)
    counts.several_runs = sum(len(states) > 1 for states in runs.values())
    for key, errand in load.errands.items():
        states = runs.get(key, [])
        counts.lost += not states
        counts.unended += any(state not in ("completed", "compensated") for state in states)
        counts.stuck += any(state in ("stuck", "quarantined") for state in states)
        counts.wrong_end += any(state != ("compensated" if errand.refused else "completed") for state in states)
        wanted = entries(errand)
        counts.twice += sum(found[key][what] > n for what, n in wanted.items())
        counts.missing += sum(found[key][what] < n for what, n in wanted.items())
        counts.unexpected += len(found[key].keys() - wanted.keys())
        counts.outside_missing += not called[key] or (errand.refused and not called[f"-{key}"])
        counts.completed += states == ["completed"]
        counts.compensated += states == ["compensated"]
        counts.other_way += found[key]["market"] > 0
        counts.timers_fired += found[key]["unheard"] > 0
        counts.retried += errand.failures > 0
        counts.outside_repeated += called[key] > errand.failures + 1
    counts.unexpected += sum(bool(rows) for key, rows in found.items() if key not in load.errands)
    counts.facts = eyes.one("select count(*) from minuet_fact")
    counts.damaged = eyes.one("pragma integrity_check") != "ok"


def _sayer() -> Callable[[str], None]:
    """Give what tells a person how far it is: on one line of a terminal, else a line every few seconds."""
    moves, last = sys.stderr.isatty(), [monotonic()]

    def say(text: str) -> None:
        if moves:
            sys.stderr.write(f"\r\x1b[2K{text}")
            sys.stderr.flush()
        elif monotonic() - last[0] > 5:
            last[0] = monotonic()
            print(text, file=sys.stderr, flush=True)

    return say


def main(argv: Sequence[str] | None = None) -> int:
    """Kill, count, and print the counts; 1 if anything fell short."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance.kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None, help="of the moments and the errands; any by default")
    told = parser.parse_args(argv)
    seed = told.seed if told.seed is not None else random.SystemRandom().randrange(1 << 32)
    with tempfile.TemporaryDirectory(prefix="minuet-kills-") as folder:
        counts = asyncio.run(kill_often(Path(folder), told.kills, seed, _sayer()))
    if sys.stderr.isatty():
        print(file=sys.stderr)
    wrong = counts.wrong()
    for what in wrong:
        print(f"wrong: {what}", file=sys.stderr)
    print(json.dumps({**asdict(counts), "ok": not wrong}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
