"""W5: one run of many steps, one after another; the process is killed at the middle, and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import SYNCED, Bar, Entry, Figures, Work, ratio
from benchmarks.driver import MeasurementFailed, spawn
from benchmarks.meter import Disk, Meter, peak_mb
from benchmarks.peer.entries import SYSTEMS, peers
from benchmarks.program import open_app
from minuet import Service, action, workflow

STEPS = 5_000


@dataclass(frozen=True)
class Count:
    to: int


class Steps(Service):
    def __init__(self, *, dies_at: int | None) -> None:
        self.dies_at = dies_at
        self.began_at: float | None = None

    @action
    async def add(self, total: int) -> int:
        if self.began_at is None:
            self.began_at = time.monotonic()
        if total == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return total + 1


@workflow
async def long(count: Count, *, steps: Steps) -> int:
    total = 0
    for _ in range(STEPS):
        total = await steps.add(total)
        if total >= count.to:
            break
    return total


def killed_and_again(folder: Path, shared: Path, size: int) -> Figures:
    """Perform one run of `size` steps in two processes."""
    return in_two_processes(__name__, folder, shared, size)


def in_two_processes(module: str, folder: Path, shared: Path, size: int, **options: bool) -> Figures:
    """Start the first process of a work, which kills itself; start the second; tell what both took."""
    disk = Disk(folder, 1_000)
    _sync_all(disk)
    arguments = {"folder": str(folder), "shared": str(shared), "size": size, **options}
    with Meter() as meter:
        first = spawn(f"{module}:process", {**arguments, "dies": True})
        first.communicate()
        if first.returncode != -signal.SIGKILL:
            raise MeasurementFailed("the first process was to be killed, and was not")
        restarted_at = time.monotonic()
        second = spawn(f"{module}:process", {**arguments, "dies": False})
        told, _ = second.communicate()
        if second.returncode:
            raise MeasurementFailed("the second process failed")
    _sync_all(disk)
    disk.close()
    process: Figures = json.loads(told.splitlines()[-1])
    return {
        "secs": meter.secs,
        "per_s": size / meter.secs,
        "cpu_s_per_1000": meter.cpu_s / size * 1000,
        "progress_secs": process["began_at"] - restarted_at,
        "memory_mb": process.get("memory_mb", 0.0),
        "in_syncs": meter.secs * 1000 / (size * disk.median_ms),
    }


def _sync_all(disk: Disk) -> None:
    for _ in range(500):
        disk.sync()


def process(folder: Path, shared: Path, size: int, *, dies: bool) -> Figures:
    """Be one of the two processes: the first kills itself at the middle."""
    return asyncio.run(_process(folder, size, dies=dies))


async def _process(folder: Path, size: int, *, dies: bool) -> Figures:
    steps = Steps(dies_at=size // 2 if dies else None)
    async with open_app([steps], [long], folder / "w5.db") as app:  # takes up by itself what was going on
        run = await app.start(long, Count(size), key="long") if dies else await app.find(long, "long")
        assert await run.result() == size
        assert steps.began_at is not None
        return {"began_at": steps.began_at, "ended_at": time.monotonic(), "memory_mb": peak_mb()}


def _against(system: str) -> Bar:
    return Bar(
        what=f"seconds of {system}, times ours",
        value=lambda f: ratio(f("secs", "W5", system, "killed"), f("secs", "W5", "minuet", "killed")),
    )


WORK = Work(
    name="W5",
    title="long: one run of many steps, killed at the middle",
    entries=(
        Entry(
            system="minuet",
            what="killed",
            durability=SYNCED,
            program=f"{__name__}:killed_and_again",
            sizes=(STEPS // 4, STEPS),
            quick=(10, 20),
        ),
        *peers("killed", "w5_long:killed_and_again", sizes=(STEPS // 4, STEPS), quick=(4, 8)),
    ),
    bars=(
        Bar(
            what="seconds, in syncs of the disk a step",
            value=lambda f: f("in_syncs", "W5", "minuet", "killed"),
            at_most=1.5,
        ),
        Bar(
            what="seconds from the second start until progress",
            value=lambda f: f("progress_secs", "W5", "minuet", "killed"),
            at_most=0.5,
        ),
        *map(_against, SYSTEMS),
    ),
)
