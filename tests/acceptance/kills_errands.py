"""Errands as a program that is killed: every kind of node and of action, over one file."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

from minuet import Client
from tests.acceptance.errands import Errand, Nudged, entries, run_errand
from tests.acceptance.kills_counts import Counts
from tests.acceptance.kills_victim import Eyes, Load, Victim
from tests.acceptance.process import Process

APP = "tests.acceptance.errands:app"
WRONG = (
    "lost",
    "twice",
    "missing",
    "unexpected",
    "unended",
    "stuck",
    "wrong_end",
    "several_runs",
    "outside_missing",
    "left_over",
    "damaged",
    "exit_code",
)
SEEN = (
    "acknowledged",
    "events_acknowledged",
    "completed",
    "compensated",
    "other_way",
    "timers_fired",
    "events_early",
    "outside_repeated",
    "answers_lost",
    "retried",
    "facts",
)


class ErrandLoad(Load):
    """Clients who begin errands and nudge them."""

    def __init__(self, client: Client, dice: random.Random) -> None:
        super().__init__(client, dice, clients=12, open_at_most=250)
        self.errands: dict[str, Errand] = {}  # acknowledged
        self.nudged: set[str] = set()  # acknowledged
        self.early: set[str] = set()
        self._count = 0

    async def begin(self) -> None:
        """Begin an errand; half of those that wait for it are nudged before."""
        errand = self._errand()
        if errand.nudged and self.dice.random() < 0.5:
            self.early.add(errand.key)
            await self._nudge(errand)
        await self.until_answered(lambda: self.client.start(run_errand, errand, key=errand.key))
        self.errands[errand.key] = errand
        if errand.nudged and errand.key not in self.early:
            await self._nudge(errand)

    def _errand(self) -> Errand:
        self._count += 1
        dice = self.dice
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
        await self.until_answered(lambda: self.client.send(Nudged(errand.key), id=f"nudge-{errand.key}"))
        self.nudged.add(errand.key)


class Errands(Victim):
    """A program of errands in a folder."""

    name = "errands"
    at_least = 200

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self._dice = dice
        self._world = folder / "world.txt"
        self.process = Process(APP, folder / "errands.db", ERRANDS_WORLD=str(self._world), MINUET_LOG_LEVEL="warning")
        self.counts = Counts(WRONG, SEEN)
        self._eyes = Eyes(self.process.store)

    def close(self) -> None:
        """Read its file no more."""
        self._eyes.close()

    def load(self, client: Client) -> Load:
        """Give who begins errands."""
        self._load = ErrandLoad(client, self._dice)
        return self._load

    def openings(self) -> int:
        """Count how often the store was opened."""
        return self._eyes.openings()

    def done(self) -> int:
        """Give the last entry on the books."""
        return int(self._eyes.one("select coalesce(max(id), 0) from entry"))

    def ended(self) -> int:
        """Count the runs that have ended."""
        return self._eyes.ended()

    def left(self) -> int:
        """Count the errands that have not ended."""
        return len(self._load.errands) - self.ended()

    def glance(self) -> None:
        """See what was called outside, though it had been called, and whose answers were lost."""
        called = self._called()
        again = sum(called[key] > errand.failures + 1 for key, errand in self._load.errands.items())
        self.counts.seen["outside_repeated"] = again
        self.counts.seen["answers_lost"] = self._load.answers_lost

    def compare(self) -> None:
        """Compare each errand with what it was to meet with."""
        self.glance()
        load, eyes, counts = self._load, self._eyes, self.counts
        runs: dict[str, list[str]] = {}
        for key, state in eyes.all("select key, state from minuet_run"):
            runs.setdefault(key, []).append(state)
        found: dict[str, Counter[str]] = {key: Counter() for key in load.errands}
        for errand, what in eyes.all("select errand, what from entry"):
            found.setdefault(errand, Counter())[what] += 1
        called = self._called()
        for key, wanted in load.errands.items():
            _compare(counts, wanted, runs.get(key, []), found[key], called)
        counts.wrong["unexpected"] += sum(bool(rows) for key, rows in found.items() if key not in load.errands)
        counts.wrong["left_over"] = sum(eyes.one(f"select count(*) from minuet_{t}") for t in ("timer", "wait"))
        counts.wrong["damaged"] = not eyes.is_whole()
        counts.seen["acknowledged"], counts.seen["events_acknowledged"] = len(load.errands), len(load.nudged)
        counts.seen["events_early"] = len(load.early)
        counts.seen["facts"] = eyes.one("select count(*) from minuet_fact")

    def _called(self) -> Counter[str]:
        return Counter(line.split()[0] for line in self._world.read_text().splitlines())


def _compare(counts: Counts, errand: Errand, states: list[str], found: Counter[str], called: Counter[str]) -> None:
    end = "compensated" if errand.refused else "completed"
    wanted = entries(errand)
    counts.wrong.update(
        lost=not states,
        several_runs=len(states) > 1,
        unended=any(state not in ("completed", "compensated") for state in states),
        stuck=any(state in ("stuck", "quarantined") for state in states),
        wrong_end=any(state != end for state in states),
        twice=sum(found[what] > n for what, n in wanted.items()),
        missing=sum(found[what] < n for what, n in wanted.items()),
        unexpected=len(found.keys() - wanted.keys()),
        outside_missing=not called[errand.key] or (errand.refused and not called[f"-{errand.key}"]),
    )
    counts.seen.update(
        completed=states == ["completed"],
        compensated=states == ["compensated"],
        other_way=found["market"] > 0,
        timers_fired=found["unheard"] > 0,
        retried=errand.failures > 0,
    )
