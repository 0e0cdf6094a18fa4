"""W6: `kill -9` with many runs in flight, and started again: how long, what ran twice, what was lost."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import signal
import time
from pathlib import Path

from benchmarks.contest import SYNCED, Bar, Entry, Figures, Work, ratio
from benchmarks.driver import MeasurementFailed, spawn
from benchmarks.meter import Meter
from benchmarks.peer.entries import SYSTEMS, peers
from benchmarks.program import open_app
from benchmarks.w1_sequence import Order, order
from minuet import Service, action, workflow

IN_FLIGHT = 500
BODIES, STARTED = "bodies", "started"
OPEN = ("running", "compensating", "stuck", "quarantined")


def killed_at(size: int) -> int:
    """Give the body during which the process is killed: all runs have begun, and none has ended long ago."""
    return size + size // 4


class Bodies:
    """Notes each step body that begins, in a file that outlives the process; kills it at a given one."""

    def __init__(self, file: Path, dies_at: int | None) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._dies_at = dies_at
        self._count = 0

    def note(self, value: str, step: str) -> None:
        """Note a body by its step and the first word of its value, the order's id; it may be the last."""
        os.write(self._descriptor, f"{value.partition(' ')[0]} {step}\n".encode())
        self._count += 1
        if self._count == self._dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


class Steps(Service):
    def __init__(self, bodies: Bodies) -> None:
        self.bodies = bodies

    @action
    async def reserve(self, order: Order) -> str:
        self.bodies.note(order.id, "reserve")
        return f"{order.id} {order.note}"

    @action
    async def charge(self, reserved: str) -> str:
        self.bodies.note(reserved, "charge")
        return reserved

    @action
    async def ship(self, charged: str) -> str:
        self.bodies.note(charged, "ship")
        return charged


@workflow
async def sequence(order: Order, *, steps: Steps) -> str:
    reserved = await steps.reserve(order)
    charged = await steps.charge(reserved)
    return await steps.ship(charged)


def killed_and_again(folder: Path, shared: Path, size: int) -> Figures:
    """Kill a process with `size` runs in flight, and let another take them up."""
    return in_two_processes(__name__, folder, shared, size)


def in_two_processes(module: str, folder: Path, shared: Path, size: int, **options: bool) -> Figures:
    """Start the first process of a work, which is killed; start the second; tell what was twice, and what was lost."""
    arguments = {"folder": str(folder), "shared": str(shared), "size": size, **options}
    first = spawn(f"{module}:process", {**arguments, "dies": True})
    first.communicate()
    if first.returncode != -signal.SIGKILL:
        raise MeasurementFailed("the first process was to be killed, and was not")
    with Meter() as meter:
        restarted_at = time.monotonic()
        second = spawn(f"{module}:process", {**arguments, "dies": False})
        told, _ = second.communicate()
        if second.returncode:
            raise MeasurementFailed("the second process failed")
    process: Figures = json.loads(told.splitlines()[-1])
    began = collections.Counter((folder / BODIES).read_text().splitlines())
    started = len((folder / STARTED).read_text().splitlines())
    return {
        "secs": process["ended_at"] - restarted_at,
        "cpu_s_per_1000": meter.cpu_s / size * 1000,
        "started": started,
        "twice": sum(times - 1 for times in began.values()),
        "lost": max(0.0, started - process["ended"]),
    }


def process(folder: Path, shared: Path, size: int, *, dies: bool) -> Figures:
    """Be one of the two processes."""
    return asyncio.run(_process(folder, size, dies=dies))


async def _process(folder: Path, size: int, *, dies: bool) -> Figures:
    steps = Steps(Bodies(folder / BODIES, killed_at(size) if dies else None))
    async with open_app([steps], [sequence], folder / "w6.db") as app:  # takes up by itself what was going on
        if dies:
            with (folder / STARTED).open("a") as started:

                async def start(i: int) -> None:
                    run = await app.start(sequence, order(i))
                    print(run.id, file=started, flush=True)

                async with asyncio.TaskGroup() as clients:
                    for i in range(size):
                        clients.create_task(start(i))
                await asyncio.sleep(600)
        while await app.control.runs(states=OPEN, limit=1):
            await asyncio.sleep(0.005)
        ended_at = time.monotonic()
        ended = len(await app.control.runs(states=("completed",), limit=2 * size))
        return {"ended_at": ended_at, "ended": ended}


def _against(system: str) -> Bar:
    return Bar(
        what=f"seconds of {system}, times ours",
        value=lambda f: ratio(
            f("secs", "W6", system, "killed", IN_FLIGHT), f("secs", "W6", "minuet", "killed", IN_FLIGHT)
        ),
    )


WORK = Work(
    name="W6",
    title="crash: kill -9 with runs in flight, started again",
    entries=(
        Entry(
            system="minuet",
            what="killed",
            durability=SYNCED,
            program=f"{__name__}:killed_and_again",
            sizes=(IN_FLIGHT, 4 * IN_FLIGHT),
            quick=(10, 20),
        ),
        *peers("killed", "w6_crash:killed_and_again", sizes=(IN_FLIGHT // 4, IN_FLIGHT), quick=(3, 6)),
    ),
    bars=(
        Bar(
            what="seconds from the second start until all 500 have ended",
            value=lambda f: f("secs", "W6", "minuet", "killed", IN_FLIGHT),
            at_most=2,
        ),
        Bar(
            what="step bodies that ran twice, of 500 in flight",
            value=lambda f: f("twice", "W6", "minuet", "killed", IN_FLIGHT),
            at_most=IN_FLIGHT,
        ),
        Bar(what="runs lost", value=lambda f: f("lost", "W6", "minuet", "killed"), at_most=0),
        *map(_against, SYSTEMS),
    ),
)
