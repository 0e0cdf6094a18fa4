"""Kill and pause real processes under load, again and again, and look whether anything is lost, done twice, never ends.

`python -m tests.acceptance.kills --kills 500` (`make kills`). Several programs, each over files of its own, are killed
beside each other. At the end a table of all counts is printed, and one line of JSON; the exit code is 1 if anything
fell short, if something that was to be tested did not happen, or if a program went on too late.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic

from minuet import Client
from tests.acceptance.kills_counts import LEFT_TO_CHANCE, Counts, percentile
from tests.acceptance.kills_errands import Errands
from tests.acceptance.kills_shop import Shop
from tests.acceptance.kills_victim import LOOK_S, Load, Victim

PROGRAMS: dict[str, Callable[[Path, random.Random], Victim]] = {"errands": Errands, "shop": Shop}
PROGRESS_TIMEOUT_S = 60.0
DRAIN_TIMEOUT_S = 120.0
SECOND_EXIT_CODE = 4  # another process has the file

Say = Callable[[str], None]


class Budget:
    """How many kills there are to be, over all programs: whoever is quick is killed more often."""

    def __init__(self, kills: int) -> None:
        self.kills = kills
        self.left = kills


class Killer:
    """Kills and pauses one program, at random moments of every kind."""

    def __init__(self, victim: Victim, dice: random.Random, budget: Budget) -> None:
        self._victim = victim
        self._process = victim.process
        self._counts = victim.counts
        self._dice = dice
        self._budget = budget
        self._opens_in_s = 0.5  # from a start until the store is open, as it was the last time
        self._round = 0

    async def trouble(self) -> None:
        """Make one round of trouble, and see that it goes on.

        Every fourth round has a pause, and two of three a second kill before it went on; more are left to chance.
        """
        n, self._round = self._round, self._round + 1
        await asyncio.sleep(self._dice.uniform(0.0, 0.7))
        if n % 8 == 0:
            await self._pause(is_beset=n % 16 == 0)
        if n % 8 == 4:
            await self._stop_for_a_moment()
            self._kill("kills_while_paused")
        else:
            self._kill("kills_under_load")
        if n % 3:
            await (self._kill_at_start if n % 3 == 1 else self._kill_at_recovery)()
            while self._dice.random() < 0.2:
                await self._dice.choice((self._kill_at_start, self._kill_at_recovery))()
        await self._go_on()

    def _kill(self, kind: str) -> None:
        self._process.kill()
        self._budget.left -= 1
        self._counts.seen.update(("kills", kind))

    async def _kill_at_start(self) -> None:
        """Kill it at some moment before its stores are open, as far as can be told from the last time."""
        opened, done = self._victim.openings(), self._victim.done()
        self._process.spawn()
        await asyncio.sleep(self._dice.uniform(0.0, self._opens_in_s))
        self._kill_as_far_as_it_came(opened, done)

    async def _kill_at_recovery(self) -> None:
        """Kill it at some moment after its stores were opened, and before it has gone on."""
        opened, done = self._victim.openings(), self._victim.done()
        self._process.spawn()
        await self._until(lambda: self._victim.openings() > opened)
        self._opens_in_s = monotonic() - self._process.began_s
        await asyncio.sleep(self._dice.uniform(0.0, 0.1))
        self._kill_as_far_as_it_came(opened, done)

    def _kill_as_far_as_it_came(self, opened: int, done: int) -> None:
        self._process.kill()
        self._budget.left -= 1
        kind = "kills_at_start" if self._victim.openings() == opened else "kills_at_recovery"
        self._counts.seen.update(("kills", kind if self._victim.done() == done else "kills_under_load"))

    async def _stop_for_a_moment(self) -> None:
        self._process.pause()
        await asyncio.sleep(self._dice.uniform(0.02, 1.0))

    async def _pause(self, *, is_beset: bool) -> None:
        """Pause it, perhaps start another one over its file meanwhile, and see that it goes on."""
        await self._stop_for_a_moment()
        if is_beset:
            code = await self._process.second()
            self._counts.seen["second_refused"] += code == SECOND_EXIT_CODE
            self._counts.wrong["second_not_refused"] += code != SECOND_EXIT_CODE
        done, began = self._victim.done(), monotonic()
        self._process.resume()
        self._counts.seen["pauses"] += 1
        await self._until(lambda: self._victim.done() > done)
        self._counts.after_pause_s.append(monotonic() - began)
        await asyncio.sleep(self._dice.uniform(0.0, 0.3))

    async def _go_on(self) -> None:
        done = self._victim.done()
        self._process.spawn()
        await self._until(lambda: self._victim.done() > done)
        self._counts.first_progress_s.append(monotonic() - self._process.began_s)

    async def _until(self, is_so: Callable[[], bool]) -> None:
        until = monotonic() + PROGRESS_TIMEOUT_S
        while not is_so():
            if monotonic() > until or not self._process.is_alive:
                raise RuntimeError(f"{self._victim.name} does not go on:\n{self._process.said()}")
            await asyncio.sleep(0.005)


async def kill_often(victim: Victim, budget: Budget, dice: random.Random, say: Say) -> None:
    """Kill one program until the budget is spent, let everything come to its end, and compare.

    What is left to chance and has not happened by then is waited for: by as many kills again, at most.
    """
    killer, counts, process = Killer(victim, dice, budget), victim.counts, victim.process
    try:
        await process.start()
        async with Client(process.url) as client:
            load = victim.load(client)
            async with asyncio.TaskGroup() as beside:
                working = beside.create_task(load.work())
                watching = beside.create_task(_watch(victim, load))
                while budget.left > 0 or _may_happen_yet(victim, budget):
                    await killer.trouble()
                    kills = budget.kills - budget.left
                    say(f"{kills} kills · {victim.name}: {load.acknowledged:,} acknowledged, {load.ended:,} ended")
                await _in_time(lambda: load.acknowledged >= victim.at_least)
                load.is_over = True
                await working
                await _in_time(lambda: victim.left() == 0)
                watching.cancel()
        counts.wrong["exit_code"] = await process.stop()
        victim.compare()
    finally:
        victim.close()
        process.close()


def _may_happen_yet(victim: Victim, budget: Budget) -> bool:
    victim.glance()
    return budget.left > -budget.kills and bool(set(victim.counts.missing) & set(LEFT_TO_CHANCE))


async def _watch(victim: Victim, load: Load) -> None:
    """Let the load begin as many runs as have ended."""
    while True:
        load.ended = victim.ended()
        await asyncio.sleep(LOOK_S)


async def _in_time(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, or for long enough: whatever is not so then is counted."""
    until = monotonic() + DRAIN_TIMEOUT_S
    while not is_so() and monotonic() < until:
        await asyncio.sleep(LOOK_S)


async def kill_beside(names: Sequence[str], folder: Path, kills: int, seed: int, say: Say) -> list[Victim]:
    """Kill several programs beside each other; gives them with their counts."""
    budget, victims = Budget(kills), list[tuple[Victim, random.Random]]()
    for name in names:
        dice = random.Random(f"{seed} {name}")
        (folder / name).mkdir()
        victims.append((PROGRAMS[name](folder / name, dice), dice))
    async with asyncio.TaskGroup() as beside:
        for victim, dice in victims:
            beside.create_task(kill_often(victim, budget, dice, say))
    return [victim for victim, _ in victims]


def table(counts: Mapping[str, Counts]) -> str:
    """Draw the counts of all programs, a column for each."""
    lines = [" " * 24 + "".join(f"{name:>12}" for name in counts)]
    for kind in ("wrong", "seen"):
        columns = [getattr(c, kind) for c in counts.values()]
        for what in dict.fromkeys(what for column in columns for what in column):
            cells = [f"{int(column[what]):,}" if what in column else "" for column in columns]
            lines.append(what.replace("_", " ").ljust(24) + "".join(f"{cell:>12}" for cell in cells))
    for title, kind in (("first progress", "first_progress_s"), ("after a pause", "after_pause_s")):
        for percent in (50, 99):
            cells = [f"{percentile(getattr(c, kind), percent):.3f} s" for c in counts.values()]
            lines.append(f"{title} p{percent}".ljust(24) + "".join(f"{cell:>12}" for cell in cells))
    return "\n".join(lines)


def _sayer() -> Say:
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
    parser.add_argument("--kills", type=int, default=500, help="over all programs")
    parser.add_argument("--programs", nargs="+", choices=list(PROGRAMS), default=list(PROGRAMS))
    parser.add_argument("--seed", type=int, default=None, help="of the moments and the load; any by default")
    parser.add_argument("--p99", type=float, default=2.0, metavar="S", help="bar of the first progress after a start")
    told = parser.parse_args(argv)
    seed = told.seed if told.seed is not None else random.SystemRandom().randrange(1 << 32)
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="minuet-kills-") as folder:
        victims = asyncio.run(kill_beside(told.programs, Path(folder), told.kills, seed, _sayer()))
    found = {victim.name: victim.counts for victim in victims}
    fell_short = [f"{name}: {what}" for name, counts in found.items() for what in counts.fell_short()]
    total = Counts()
    for name, counts in found.items():
        total.add(counts)
        p99 = percentile(counts.first_progress_s, 99)
        if p99 >= told.p99:
            fell_short.append(f"{name}: 99 of 100 starts went on within {p99} s; the bar is {told.p99} s")
    print(f"\n{table({**found, 'all': total})}\n")
    for what in fell_short:
        print(f"fell short: {what}", file=sys.stderr)
    shown = {
        "ok": not fell_short,
        "fell_short": fell_short,
        **total.wrong,
        **total.seen,
        "first_progress_p99_s": percentile(total.first_progress_s, 99),
        "secs": round(monotonic() - began),
        "seed": seed,
    }
    print(json.dumps(shown))
    return 1 if fell_short else 0


if __name__ == "__main__":
    sys.exit(main())
