"""Lets processes, clocks, links and servers fail in a simulated world, until it is told to end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from minuet.testing.simulation.clock import pass_time
from minuet.testing.simulation.member import Member

if TYPE_CHECKING:
    from minuet.testing.simulation.world import World

LONG = 0.15  # the share of absences that are longer than a lease
ZOMBIE_S = 12.0  # somewhat longer than a lease: who stands still so long comes back, and owns nothing any more
COMMITS_WITHIN_S = 20.0
JUMP_MS = 86_400_000  # at most, either way


class Nemesis:
    """One world's. Each fault comes at times of its own, drawn at its rate."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Let things go wrong from now on."""
        faults, members = self._world.faults, self._world.members
        for m in members:
            acts: dict[str, Callable[[Member], Awaitable[None] | None]] = {
                "crash": self._crash,
                "pause": self._pause,
                "partition": self._cut,
            }
            if m.database.shards is not None:
                acts |= {"clock_jump": self._jump, "zombie": self._make_zombie}
            for fault, act in acts.items():
                self._befall(fault, m.name, getattr(faults, fault) / len(members), partial(act, m))
        for database in self._world.databases.values():
            self._befall("database_restart", database.name, faults.database_restart, database.restart)
        if self._world.broker is not None:
            self._befall("broker_crash", "broker", faults.broker_crash, self._world.broker.crash)

    async def end(self) -> None:
        """Let nothing go wrong any more: what is down is started, what is cut is joined, what stands still goes on."""
        self._world.chance.is_calm = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for m in self._world.members:
            self._join(m)
            m.start_if_down()
            if m.process is not None and m.process.is_paused:
                m.process.resume()

    def _befall(self, fault: str, whom: str, rate: float, act: Callable[[], Awaitable[None] | None]) -> None:
        if rate > 0:
            self._spawn(self._again_and_again(fault, whom, rate, act))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(self._world.loop.create_task(coroutine))

    async def _again_and_again(
        self, fault: str, whom: str, rate: float, act: Callable[[], Awaitable[None] | None]
    ) -> None:
        world, times = self._world, self._world.chance.stream(f"{fault} of {whom}")
        while True:
            await pass_time(times.expovariate(rate))
            if world.chance.happens(fault):
                world.note(whom, f"!! {fault.replace('_', ' ')}")
                acted = act()
                if acted is not None:
                    await acted

    def _away_s(self, what: str, member: Member) -> float:
        """Draw how long somebody is away: now and then for longer than a lease."""
        r = self._world.chance.stream(f"{what} of {member.name}")
        if what == "crash" and member.database.shards is None:  # nobody is waiting for its lease
            return min(r.expovariate(2), 5)
        return r.uniform(5, 40) if r.random() < LONG else r.uniform(0.01, 2)

    async def _crash(self, member: Member) -> None:
        member.crash()
        await pass_time(self._away_s("crash", member))
        member.start_if_down()

    async def _pause(self, member: Member) -> None:
        process = member.process
        if process is not None and process.is_alive and not process.is_paused:
            process.pause()
            await pass_time(self._away_s("pause", member))
            process.resume()

    async def _make_zombie(self, member: Member) -> None:
        """Have an owner stand still in the midst of a commit, until others own what it did; then it goes on."""
        process, store = member.process, member.store
        if process is None or store is None or process.is_paused:
            return
        paused: asyncio.Future[None] = self._world.loop.create_future()

        def pause() -> None:
            process.pause()
            paused.set_result(None)

        store.on_commit = pause
        try:
            await asyncio.wait([paused], timeout=COMMITS_WITHIN_S)
        finally:
            store.on_commit = None
        if paused.done():
            await pass_time(self._world.chance.between(f"zombie {member.name}", ZOMBIE_S, 2 * ZOMBIE_S))
            process.resume()

    async def _jump(self, member: Member) -> None:
        if member.clock is not None:
            r = self._world.chance.stream(f"jump of {member.name}")
            member.clock.jump(int(r.choice((-1, 1)) * JUMP_MS ** r.random()))

    async def _cut(self, member: Member) -> None:
        """Cut a process off from the broker, from its database, or from both; then join them, not at once."""
        process, r = member.process, self._world.chance.stream(f"partition of {member.name}")
        if process is None:
            return
        which = r.randrange(1, 4) if self._world.broker is not None else 1
        if which & 1:
            member.database.partition(process)
        if which & 2 and self._world.broker is not None:
            self._world.broker.partition(process)
        await pass_time(self._away_s("partition", member))
        if which & 1:
            member.database.heal(process)
        await pass_time(r.uniform(0, 3))
        if which & 2 and self._world.broker is not None:
            self._world.broker.heal(process)

    def _join(self, member: Member) -> None:
        if member.process is not None:
            member.database.heal(member.process)
            if self._world.broker is not None:
                self._world.broker.heal(member.process)
