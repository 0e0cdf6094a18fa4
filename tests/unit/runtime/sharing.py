"""Several workers that share one simulated database: they are started, crash, stand still, and are asked things.

Whatever a worker is asked goes on in its process, and dies with it; the test itself goes on outside of them all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar, cast

from minuet import App, Service
from minuet.contracts.codec import codec_for
from minuet.contracts.message import event_spec
from minuet.engine.row import Decision
from minuet.ids import parse_run
from minuet.runtime.app import App as RuntimeApp
from minuet.runtime.client import encode_input
from minuet.runtime.host import Host
from minuet.runtime.hosts import Hosts
from minuet.runtime.local import LocalControl
from minuet.runtime.ownership import Ownership
from minuet.runtime.settings import Settings
from minuet.runtime.view import Acknowledged, RunView
from minuet.testing.clock import START_MS
from minuet.testing.simulation.broker import SimulatedBroker
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.clock import ProcessClock
from minuet.testing.simulation.database import SimulatedDatabase
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop
from minuet.testing.simulation.threads import SimulatedThreads

T = TypeVar("T")

LEASE_MS = 10_000
LEASE_S = LEASE_MS / 1000


class Cluster:
    """A database with some shards (None: one holds it), a broker, and workers; `build` makes a worker's services."""

    def __init__(
        self,
        build: Callable[[Worker], Sequence[Service]],
        workflows: Sequence[Any],
        *,
        seed: int = 1,
        shards: int | None = 8,
        faults: Faults | None = None,
        **settings: Any,
    ) -> None:
        self.chance = Chance(seed)
        self.loop = SimulationLoop(self.chance)
        self.faults = faults or Faults()
        self.build = build
        self.workflows = workflows
        self.settings = replace(Settings(), observer=False, **{"lease_ms": LEASE_MS, **settings})
        self.recorded: list[tuple[str, Decision]] = []
        self.databases: dict[str, SimulatedDatabase] = {}
        self.shards = shards
        self.behind_ms = 0  # how much the clock of the database was put back
        self.workers: list[Worker] = []
        self.broker = SimulatedBroker(self.loop, self.chance, self.faults)

    def database(self, address: str = "home") -> SimulatedDatabase:
        """Give the database of a participant."""
        if address not in self.databases:
            database = SimulatedDatabase(
                self.loop, self.chance, self.faults, address, shards=self.shards, now_ms=self.now_ms
            )
            database.on_recorded = lambda name, decision: self.recorded.append((name, decision))
            self.databases[address] = database
        return self.databases[address]

    def now_ms(self) -> int:
        return START_MS + int(self.loop.time() * 1000) - self.behind_ms

    def worker(self, name: str, *, address: str = "home", **more: Any) -> Worker:
        """Give a worker that is not started yet."""
        worker = Worker(self, name, address, **more)
        self.workers.append(worker)
        return worker

    async def started(self, *names: str) -> list[Worker]:
        """Start workers at once, and wait until each of them owns something."""
        workers = [self.worker(name) for name in names]
        await asyncio.gather(*(worker.start() for worker in workers))
        await until(lambda: all(worker.ownership.owns_some for worker in workers))
        return workers

    def rows(self, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Read what is recorded at home."""
        return self.database().query(sql, *arguments)

    def state(self, run: str) -> str:
        """Give the state of a run, as it is recorded."""
        ((state,),) = self.rows("select state from minuet_run where run = ?", parse_run(run))
        return str(state)

    def writers(self, run: str) -> list[str]:
        """Give the processes that have recorded facts of a run, in their order, each once in a row."""
        number, found = parse_run(run), list[str]()
        for name, decision in self.recorded:
            if decision.run == number and (decision.facts or decision.runs) and found[-1:] != [name]:
                found.append(name)
        return found


class Worker:
    """A process of a participant. `offers`: names of services that it performs; None: all."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        address: str,
        *,
        offset_ms: int = 0,
        offers: frozenset[str] | None = None,
        has_broker: bool = False,
    ) -> None:
        self.name = name
        self.cluster = cluster
        self.process = Process(cluster.loop, name)
        self.clock = ProcessClock(cluster.loop, offset_ms=offset_ms)
        services = list(cluster.build(self))
        self.app = App("shared", services=services, workflows=cluster.workflows)
        self.is_home = address == "home"
        performed = [s for s in services if offers is None or type(s).__name__.lower() in offers]
        self.host = Host(
            address,
            performed,
            cluster.database(address).store(self.process),
            self.clock,
            cluster.settings,
            {},
            broker=cluster.broker.connect(self.process) if has_broker else None,
            is_home=self.is_home,
            owner=name,
            threads=SimulatedThreads(cluster.loop, cluster.chance),
        )
        self._broker = cluster.broker if has_broker else None
        self.control: LocalControl

    async def start(self) -> Worker:
        """Open it."""
        plans = self.app.plans(self.cluster.settings)
        await self.do(self._open(list(plans.values()) if self.is_home else []))
        app: RuntimeApp = self.app
        here = cast("Hosts", _Here(self.host, self._broker))
        self.control = LocalControl(here, app.workflows, plans, app.events, app.services)
        return self

    async def _open(self, plans: list[Any]) -> None:
        await self.host.open(plans)
        if self.is_home and self.host.exchange is not None:
            await self.host.activation.open(plans)

    async def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Do something in this process; it is given up with the process."""
        return await self.process.spawn(coroutine)

    @property
    def ownership(self) -> Ownership:
        ownership = self.host.participant.ownership
        assert ownership is not None
        return ownership

    @property
    def shards(self) -> set[int]:
        return {lease.shard for lease in self.ownership.held}

    async def begin(self, flow: Any, input_: Any, *, key: str | None = None) -> str:
        """Start a run, and give its id."""
        view, _ = await self.do(self.control.start(flow.name, encode_input(flow, input_), key=key))
        return view.run

    async def wait(self, run: str, timeout_s: float = 120) -> RunView:
        """Wait for a run's end."""
        return await self.do(self.control.wait(run, timeout_s))

    async def send(self, event: Any, id_: str | None = None) -> None:
        """Send an event from outside."""
        spec = event_spec(type(event))
        assert spec is not None
        assert spec.key is not None
        key = str(getattr(event, spec.key))
        await self.do(self.control.send(spec.name, key, codec_for(type(event)).encode(event), id_=id_))

    async def ask(self, verb: str, run: str, *arguments: Any, **named: Any) -> Acknowledged:
        """Have an operator's verb performed."""
        return await self.do(getattr(self.control, verb)(run, *arguments, **named))

    async def close(self, grace_ms: int = 5_000) -> None:
        """End as a program does that is asked to."""
        await self.do(self.host.close(grace_ms))


class _Here:
    """The participants of one process, as `LocalControl` asks for them."""

    def __init__(self, host: Host, broker: object) -> None:
        self.home = host
        self.broker = broker
        self.observer = self.watch = None
        self.services: list[Host] = []
        self.on_home: Any = None

    def all(self) -> list[Host]:
        return [self.home]

    def listening(self) -> list[Host]:
        return [self.home]


@contextmanager
def cluster(*arguments: Any, **named: Any) -> Iterator[Cluster]:
    """Give a cluster, and drop it."""
    made = Cluster(*arguments, **named)
    try:
        yield made
    finally:
        made.loop.close()


def play(made: Cluster, script: Awaitable[T]) -> T:
    """Perform a test in a world; nothing that nobody has caught may have happened in it."""
    result: T = made.loop.run_until_complete(script)
    assert made.loop.failures == []
    return result


async def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait until something is so, by simulated time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
