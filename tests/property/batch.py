"""Performs many runs of many plans at once, by real participants over real stores, in time that stands still.

Time passes only when nothing else can happen, as in `ensemble`; then it passes for all runs together. So a message may
be as late as it likes, and still no timer is due before what it raced with has come.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from minuet.contracts.envelope import Envelope
from minuet.contracts.service import Service, service_spec
from minuet.engine.row import Decision, InboxRow, WaitRow
from minuet.ids import parse_round, parse_run
from minuet.plans.placement import is_conductor
from minuet.runtime.host import Host
from minuet.runtime.settings import Settings
from minuet.testing.clock import START_MS
from tests.property.acting import TIMEOUT_MS, Performance, World, services
from tests.property.loose_broker import LooseBroker
from tests.property.watched_store import Log, Shelf

HOME = "made-home"
ROOMY = 10_000  # more runs than there are
CALM_TURNS = 20  # of the loop, in which nothing has happened
QUIET_MS = 200_000  # without a fact: nothing more will happen, and participants have asked home thrice
HANGS_S = 20
WRONG_AT_MOST = 100
CRASH_WITHIN = 300  # turns, from one crash to the next


class LeapClock:
    """A clock that stands still until it is told to leap to the next sleeper."""

    def __init__(self) -> None:
        self._now_ms = START_MS
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        """Give milliseconds since 1970 UTC."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """Give milliseconds that never go back."""
        return self._now_ms

    async def sleep_ms(self, duration_ms: float) -> None:
        """Wait until the clock has leapt that far."""
        if duration_ms <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_ms + round(duration_ms), next(self._order), woken))
        await woken

    def leap(self) -> None:
        """Go to the next instant at which somebody wakes, and wake all who do."""
        due_ms = None
        while self._sleepers and (due_ms is None or self._sleepers[0][0] == due_ms):
            due, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                due_ms = self._now_ms = due
                woken.set_result(None)


@dataclass(frozen=True, kw_only=True)
class How:
    """How a batch is performed. `folder`: stores are files there. `crashes`: how many participants crash, one by one.

    `is_together`: everything in one store. `late_plans`: some participants learn the plans when runs have begun.
    """

    seed: int
    folder: Path | None = None
    is_together: bool = False
    crashes: int = 0
    runs_in_memory: int = ROOMY
    late_plans: bool = False

    @property
    def is_short_of_memory(self) -> bool:
        """Whether messages wait for room: then nothing may keep runs in memory while time passes."""
        return self.runs_in_memory < ROOMY


class Batch:
    """Participants, and the runs that they perform."""

    def __init__(self, how: How, performances: Sequence[Performance]) -> None:
        self.how = how
        self.performances = performances
        self.r = random.Random(f"batch {how.seed}")
        self.clock = LeapClock()
        self.log = Log()
        self.log.last_ms = self.clock.now_ms()
        self.world = World(self.clock, self.log, how.seed, self._at)
        if how.is_short_of_memory:
            self.world.failures = 0
        self.broker = LooseBroker(self.clock, how.seed, tells_all=how.late_plans, delay_ms=self._delay_ms)
        self.settings = Settings(slots=20_000, runs_in_memory=how.runs_in_memory)
        offered = services(self.world)
        self.offered: dict[str, list[Service]] = {HOME: offered if how.is_together else []}
        if not how.is_together:
            self.offered |= {service_spec(type(s)).name: [s] for s in offered}
        self.shelves = {
            name: Shelf(name, how.folder / f"{name}.db" if how.folder else None, self.log, self.clock.now_ms)
            for name in self.offered
        }
        self.hosts: dict[str, Host] = {}
        self.plans = list({p.plan.digest: p.plan for p in performances}.values())
        self.owners = {(p.digest, r.position): r.who for p in self.plans for r in p.rules if r.kind == "wait"}
        self.crashes = 0
        self._recorded: list[tuple[str, list[InboxRow]]] = []
        self._until_crash = self.r.randrange(5, CRASH_WITHIN)
        self._may_crash = False

    async def perform(self) -> None:
        """Open all, perform all runs, and go on until nothing more can happen; everything stays open."""
        for name in self.offered:
            self.hosts[name] = await self._open(name, knows_plans=name == HOME or not self.how.late_plans)
        if self.how.late_plans:
            await self.hosts[HOME].activation.open(self.plans)
        todo = list(self.performances)
        self.r.shuffle(todo)
        waves = self.r.randint(1, 4)
        for wave in range(waves):
            await self._begin(todo[wave::waves])
            for _ in range(self.r.randrange(60)):
                await self._turn()
        self._may_crash = True
        while self.clock.now_ms() < self.log.last_ms + QUIET_MS:
            await self.calm()
            self.clock.leap()
            if self.clock.now_ms() > START_MS + 100 * 3_600_000:
                raise AssertionError("it does not come to an end")
        await self.calm()

    async def close(self) -> None:
        """Close all."""
        for host in self.hosts.values():
            await host.close(0)
        for shelf in self.shelves.values():
            await shelf.end_life()
            await shelf.close()

    async def _open(self, name: str, *, knows_plans: bool) -> Host:
        host = Host(
            name,
            self.offered[name],
            self.shelves[name].new_life(),
            self.clock,
            self.settings,
            {},
            broker=None if self.how.is_together else self.broker,
            is_home=name == HOME,
        )
        await host.open(self.plans if knows_plans else [])
        return host

    # Beginning

    async def _begin(self, performances: Sequence[Performance]) -> None:
        """Begin runs; what comes for them early comes now."""
        participant = self.hosts[HOME].participant
        begun = []
        for p in performances:
            while not participant.has_room:
                await self._turn()
            d = participant.begin(p.plan.digest, None, str(p.input).encode())
            p.run = d.knowledge.run
            self.world.runs[p.run] = p
            begun.append(participant.acknowledge(d))
        early: dict[str, list[InboxRow]] = {}
        for p in performances:
            for (position, _), (key, when, says) in p.oracle.awaited.items():
                if when == "early":
                    where = self._at(self.owners[p.plan.digest, position])
                    early.setdefault(where, []).append(self._event(f"e{position}", key, says))
        for where, rows in early.items():
            self._send(where, rows)
        while not all(done.done() for done in begun):
            await self._turn()
        for done in begun:
            done.result()

    def _at(self, who: str) -> str:
        return HOME if self.how.is_together or is_conductor(who) else who

    # Events

    def _event(self, event: str, key: str, says: int) -> InboxRow:
        now = self.clock.now_ms()
        return InboxRow(
            "/outside", f"{event} {key}", event, 1, key, str(says), "kept", None, None, None, now, now + 10**9
        )

    def _send(self, where: str, rows: list[InboxRow]) -> None:
        """Have events recorded at a participant, whether it is up or not; if it is it looks whether they fit."""
        decision = Decision()
        decision.inbox = rows
        self.shelves[where].record(decision, lambda: self._recorded.append((where, rows)))

    def _answer(self, where: str, wait: WaitRow) -> None:
        """Have the event come for which a wait was just armed, if it comes in time and is not there already."""
        p = self.world.runs[wait.run]
        key, when, says = p.oracle.awaited[wait.position, parse_round(wait.round)]
        if key != wait.key:
            self.world.wrong.setdefault(wait.run, []).append(f"{wait} has not the key {key}")
        elif when == "soon":
            self._send(where, [self._event(wait.event, key, says)])

    def _look(self) -> None:
        for where, wait in self.log.take_armed():
            self._answer(where, wait)
        recorded, self._recorded = self._recorded, []
        for where, rows in recorded:
            if (host := self.hosts.get(where)) is None:
                self._recorded.append((where, rows))
                continue
            for row in rows:
                host.matcher.look_at(row.event, row.key)

    # Messages

    def _delay_ms(self, envelope: Envelope) -> int:
        """Hold back some commands to do what is given up meanwhile: they must not be done any more."""
        a = envelope.attributes
        if a.get("minuetdirection") != "forward" or (run := parse_run(str(a["minuetrun"]))) not in self.world.runs:
            return 0
        p, round_ = self.world.runs[run], str(a["minuetround"])
        n = p.nodes[str(a["minuetposition"])]
        depth = next(len(r.scope) for r in p.plan.rules if r.kind == "run" and r.position == n.position)
        label = p.oracle.step(n, parse_round(round_) if depth else ())
        is_given_up = label == "rejected:timeout" and n.timeout_then == "abandon"
        return TIMEOUT_MS + self.r.randrange(1, TIMEOUT_MS) if is_given_up and self.r.random() < 0.4 else 0

    # Time

    async def _turn(self) -> None:
        """Let everybody do what can be done now."""
        if len(self.log.wrong_anywhere) > WRONG_AT_MOST:
            raise AssertionError(f"the stores refuse again and again: {self.log.wrong_anywhere[0]}")
        self.broker.turn()
        self._look()
        await asyncio.sleep(0)
        if self._may_crash and self.crashes < self.how.crashes:
            self._until_crash -= 1
            if self._until_crash <= 0:
                self._may_crash = False
                await self._crash(self.r.choice(list(self.hosts)))
                self._until_crash = self.r.randrange(5, CRASH_WITHIN)
                self._may_crash = True

    async def calm(self) -> None:
        """Go on until nothing can happen before time passes."""
        calm = 0
        while calm < CALM_TURNS:
            await self._turn()
            calm += 1
            if self.broker.is_busy or self._recorded or self.log.armed:
                calm = 0
            elif busy := [s for s in self.shelves.values() if s.under_way or (s.life and s.life.is_holding)]:
                calm = 0
                await self._until_changed(busy)

    async def _until_changed(self, shelves: Sequence[Shelf]) -> None:
        """Wait for a store without going round, so that its thread gets on."""
        waiting = [s for s in shelves if s.under_way]
        if not waiting:
            return
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for shelf in waiting:
            shelf.when_changed = changed
        async with asyncio.timeout(HANGS_S):
            await changed

    # Crashes

    async def _crash(self, name: str) -> None:
        """Let a participant die in the midst of everything, be away for a while, and come back over its store."""
        self.crashes += 1
        host, shelf = self.hosts.pop(name), self.shelves[name]
        assert shelf.life is not None
        shelf.life.crash()
        host.participant.stopping = True
        if host.exchange is not None:
            await host.exchange.close()
        await host.ticker.close()
        await asyncio.gather(host.worker.stop(0), host.inlet.stop(0))
        await host.participant.close()
        host.threads.close()
        for _ in range(self.r.randrange(40)):
            await self._turn()
        await shelf.end_life()
        self.hosts[name] = await self._open(name, knows_plans=name == HOME)
