"""A simulated world: databases, a broker, the processes of an app, and the world outside, made from one seed.

A scenario does in it what users do: it starts runs, sends events, cancels. Meanwhile the nemesis lets things go wrong.
Then the faults stop, and everything must come to its end.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from minuet.contracts.service import service_spec
from minuet.engine.invariant import History, without_row
from minuet.engine.port import StoredRun
from minuet.engine.row import Decision
from minuet.ids import run_text
from minuet.plans.plan import Plan, make_plan
from minuet.runtime.app import App
from minuet.runtime.library import Library
from minuet.runtime.settings import Settings
from minuet.testing.clock import START_MS
from minuet.testing.simulation.broker import SimulatedBroker
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.client import SimulatedClient
from minuet.testing.simulation.clock import ProcessClock, pass_time
from minuet.testing.simulation.database import SimulatedDatabase
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop, Stuck
from minuet.testing.simulation.member import Member
from minuet.testing.simulation.nemesis import Nemesis
from minuet.testing.simulation.outside import Outside
from minuet.testing.simulation.quiet import is_quiet, next_due_ms
from minuet.testing.simulation.settled import unsettled
from minuet.testing.simulation.threads import SimulatedThreads

Build = Callable[["World"], App]
"""Makes the app of one process: called at each start, so that what a service keeps in memory is lost in a crash."""
Scenario = Callable[["World"], Awaitable[None]]

SHARDS = 8
LEASE_MS = 10_000
ENDS_WITHIN_S = 3_600.0  # of simulated time, after the faults have stopped
LOOK_EVERY_S = 0.25
_COUNTED = {
    "facts": "select count(*) from minuet_fact",
    "compensations": "select count(*) from minuet_fact where label = 'compensated'",
    "tombstones": "select count(*) from minuet_attempt where state = 'tombstone'",
    "dead_letters": "select count(*) from minuet_delivery where state in ('dead', 'skipped')",
}


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How an app is laid out. `styles`: as the setting; `is_apart`: each service has a store of its own, and a broker.

    `workers`: processes that share a store.
    """

    styles: Mapping[str, str] = field(default_factory=dict)
    is_apart: bool = False
    workers: int = 1

    def __str__(self) -> str:
        """Say it in a few words."""
        styles = ", ".join(f"{name}: {style}" for name, style in self.styles.items()) or "as written"
        return f"{styles}; {'a store for each service' if self.is_apart else 'one store'}, {self.workers} worker(s)"


@dataclass(kw_only=True)
class Verdict:
    """What became of a world. `violations`: empty if all went well; `trace`: a digest of everything that happened."""

    seed: int
    layout: Layout
    violations: list[str]
    counts: dict[str, int]
    struck: list[str]
    story: list[tuple[float, str, str]]
    trace: str
    steps: int
    seconds: float
    states: dict[str, int]


class World:
    """One world. Make it, `run` a scenario in it once, and close it."""

    def __init__(
        self,
        build: Build,
        *,
        seed: int,
        layout: Layout,
        faults: Faults,
        only: Collection[str] | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.build = build
        self.seed = seed
        self.layout = layout
        self.chance = Chance(seed, only=only)
        self.faults = faults.drawn(self.chance)
        self.loop = SimulationLoop(self.chance)
        self.history = History()
        self.violations: list[str] = []
        self._wrong_clocks: dict[str, tuple[int, float]] = {}  # by how much each is ahead, and its rate
        self._ahead_ms = 0  # by how much the clocks were put forward
        self.story: list[tuple[float, str, str]] = []
        self.outsides: dict[str, Outside] = {}
        self.checks: list[Callable[[World], list[str]]] = []  # done when everything has come to its end
        self.acknowledged: dict[str, str] = {}  # run id by key: what somebody was told has begun
        self.settings = replace(
            settings or Settings(),
            observer=False,
            lease_ms=LEASE_MS,
            store_per_service=layout.is_apart,
            styles=dict(layout.styles),
        )
        self._made: Compiled | None = None
        app = build(self)
        self.app = app
        names = frozenset(service_spec(type(s)).name for s in app.services)
        self.broker = (
            SimulatedBroker(
                self.loop, self.chance, self.faults, is_synced=self.chance.strikes("lossy_broker", 0.5) is False
            )
            if layout.is_apart
            else None
        )
        self.databases: dict[str, SimulatedDatabase] = {}
        self.members: list[Member] = []
        home = "home"
        if layout.is_apart:
            self._add(home, frozenset())
            for name in sorted(names):
                self._add(name, frozenset({name}))
        else:
            self._add(home, names)
        self.nemesis = Nemesis(self)
        self.client = SimulatedClient(self)

    def _add(self, address: str, offers: frozenset[str]) -> None:
        """Add a participant: its database, and the processes that share it."""
        workers = self.layout.workers
        database = SimulatedDatabase(
            self.loop,
            self.chance,
            self.faults,
            address,
            shards=SHARDS if workers > 1 else None,
            now_ms=lambda: START_MS + self._ahead_ms + int(self.loop.time() * 1000),
        )
        database.on_recorded = lambda process, decision: self._recorded(address, process, decision)
        self.databases[address] = database
        self.members += [Member(self, address, n, database, offers, is_home=address == "home") for n in range(workers)]

    # What members need

    def plans(self, app: App) -> dict[str, Plan]:
        """Compile the workflows, once."""
        return self._compiled(app).plans

    def library(self, app: App) -> Library:
        """Give what is made of plans, once for all processes."""
        return self._compiled(app).library

    def _compiled(self, app: App) -> Compiled:
        if self._made is None:
            self._made = compiled(app, self.settings)
        return self._made

    def new_clock(self, member: Member) -> ProcessClock:
        """Give a process its clock, which may be wrong: each time in another way, where the time is the store's.

        Who has a store of its own goes by its own clock, which may be ahead or behind, but does not jump.
        """
        found = self._wrong_clocks.get(member.name) if member.database.shards is None else None
        if found is None:
            found = (0, 1.0)
            if self.faults.clock_jump and self.chance.strikes("clock_skew", 1.0):  # by name, so that it is shrunk
                r = self.chance.stream("clock")
                found = (r.randint(-3_600_000, 3_600_000), r.uniform(0.95, 1.05))
            self._wrong_clocks[member.name] = found
        offset_ms, rate = found
        return ProcessClock(self.loop, offset_ms=self._ahead_ms + offset_ms, rate=rate)

    def new_threads(self, process: Process) -> SimulatedThreads:
        """Give a process what takes the place of threads."""
        return SimulatedThreads(self.loop, self.chance)

    def outside(self, name: str, **more: Any) -> Outside:
        """Give somebody else's service, with its ledger; the same for the same name."""
        if name not in self.outsides:
            self.outsides[name] = Outside(self.loop, self.chance, self.faults, name, **more)
        return self.outsides[name]

    # What happens

    @property
    def now_s(self) -> float:
        """The simulated seconds since the beginning."""
        return self.loop.time()

    @property
    def wall_ms(self) -> int:
        """The time of the slowest clock there is, in milliseconds since 1970 UTC."""
        clocks = [m.clock.now_ms() for m in self.members if m.clock is not None]
        return min(clocks, default=START_MS + self._ahead_ms)

    def skip(self, by_ms: int) -> None:
        """Put all clocks forward, never back: nobody has to look every few seconds for what is due in a fortnight."""
        if by_ms > 0:
            self._ahead_ms += by_ms
            for member in self.members:
                if member.clock is not None:
                    member.clock.jump(by_ms)

    def note(self, where: str, what: str) -> None:
        """Put something into the story."""
        self.story.append((self.loop.time(), where, what))

    def always(self, holds: bool, what: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Say what must hold now."""
        if not holds:
            self.violations.append(f"at {self.now_s:.3f} s: {what}")

    def _recorded(self, where: str, process: str, decision: Decision) -> None:
        if decision.facts or decision.changes or decision.runs:
            facts = [f"{f.position}{f'[{f.round}]' if f.round else ''} {f.label}" for f in decision.facts]
            told = ", ".join([*("begun" for _ in decision.runs), *facts, *(f"-> {c.state}" for c in decision.changes)])
            self.note(process, f"run {run_text(decision.run)}: {told}")
        self.violations += self.history.take(where, decision)

    # Running

    def run(self, scenario: Scenario, *, ends_within_s: float = ENDS_WITHIN_S) -> Verdict:
        """Perform a scenario with its faults, then let everything come to its end; say what was wrong."""
        mistakes = _Mistakes(self.violations)
        logging.getLogger("minuet").addHandler(mistakes)
        try:
            self.loop.run_until_complete(self._run(scenario, ends_within_s))
        except Stuck as e:
            self.violations.append(f"stuck: {e}")
        except Exception as e:  # noqa: BLE001 - whatever it was, it is this world's failure, and is told with its seed
            self.violations.append(f"the scenario failed: {type(e).__name__}: {e}")
        finally:
            logging.getLogger("minuet").removeHandler(mistakes)
        return self._verdict()

    async def _run(self, scenario: Scenario, ends_within_s: float) -> None:
        for member in self.members:
            member.start()
        self.nemesis.begin()
        await scenario(self)
        await self.nemesis.end()
        until = self.now_s + ends_within_s
        while left := unsettled(self):
            if self.now_s >= until:
                self.violations += [f"does not end: {what}" for what in left[:20]]
                break
            await pass_time(LOOK_EVERY_S)
            if is_quiet(self) and (due := next_due_ms(self)) is not None:
                self.skip(due - self.wall_ms)
        stored = self.stored()
        self.violations += self.history.at_the_end(stored, self._programs())
        self.violations += without_row(self.acknowledged, stored)
        for outside in self.outsides.values():
            self.violations += [
                f"{outside.name}: {kind} {key} took effect {n} times" for kind, key, n in outside.twice()
            ]
        for check in self.checks:
            self.violations += check(self)
        self.violations += self.loop.failures

    def stored(self) -> dict[int, dict[str, StoredRun]]:
        """Give all runs as they are stored, by run and store."""
        found: dict[int, dict[str, StoredRun]] = {}
        for name, database in self.databases.items():
            for stored in database.all_runs():
                found.setdefault(stored.run.run, {})[name] = stored
        return found

    def _programs(self) -> dict[str, Plan]:
        return {p.digest: p for p in self.plans(self.app).values()}

    def _verdict(self) -> Verdict:
        counts = self.chance.counts
        counts["commits"] = sum(d.commits for d in self.databases.values())
        counts["stale_owner"] = sum(d.refused_stale for d in self.databases.values())
        counts["restarts"] = sum(m.starts - 1 for m in self.members)
        counts["redelivered"] = 0 if self.broker is None else self.broker.redelivered
        for name, query in _COUNTED.items():
            counts[name] = sum(n for d in self.databases.values() for (n,) in d.query(query))
        trace = hashlib.sha256("\n".join(f"{t:.6f} {where} {what}" for t, where, what in self.story).encode())
        home = self.databases["home"]
        states = dict(home.query("select state, count(*) from minuet_run group by state"))
        return Verdict(
            seed=self.seed,
            layout=self.layout,
            violations=list(dict.fromkeys(self.violations)),
            counts=dict(counts),
            struck=list(self.chance.struck),
            story=self.story,
            trace=trace.hexdigest(),
            steps=self.loop.steps,
            seconds=self.loop.time(),
            states=states,
        )

    def close(self) -> None:
        """Drop everything; what the code that cleans up says then is of no interest."""
        log = logging.getLogger("minuet")
        was_disabled, log.disabled = log.disabled, True
        try:
            self.loop.close()
        finally:
            log.disabled = was_disabled
        for database in self.databases.values():
            database.close()


class _Mistakes(logging.Handler):
    """Takes what is logged as a mistake of Minuet: a task that failed, something that could not be taken."""

    def __init__(self, violations: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._violations = violations

    def emit(self, record: logging.LogRecord) -> None:
        """Take one: those that come with an exception, which nobody has expected."""
        if record.exc_info:
            self._violations.append(f"logged: {record.getMessage()}")


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What was made of the workflows of an app, which are held so that no others get their `id`s."""

    flows: list[Any]
    plans: dict[str, Plan]
    library: Library


_COMPILED: dict[tuple[Any, ...], Compiled] = {}
_COMPILED_MAX = 32


def compiled(app: App, settings: Settings) -> Compiled:
    """Compile the workflows of an app, or give what was made of the same before: worlds differ in other things."""
    key = tuple((name, id(flow), str(settings.placement(name))) for name, flow in app.workflows.items())
    if key not in _COMPILED:
        if len(_COMPILED) == _COMPILED_MAX:
            _COMPILED.clear()
        plans = {name: make_plan(w.tree, settings.placement(name)) for name, w in app.workflows.items()}
        _COMPILED[key] = Compiled(flows=list(app.workflows.values()), plans=plans, library=Library())
    return _COMPILED[key]
