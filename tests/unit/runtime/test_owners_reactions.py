"""Several workers share a store: a reaction is performed by the owner of its subscription, and by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from minuet import Service, Transaction, action, event, injected, on
from minuet.engine.lane import Lanes
from minuet.engine.port import RunFilter
from minuet.engine.row import Decision, RunRow, SubscriptionRow
from minuet.errors import StaleOwner
from minuet.ids import shard_of_name
from tests.unit.runtime.sharing import LEASE_S, Cluster, Worker, cluster, play, until


@event("shop.sold", version=1, key="item")
@dataclass
class Sold:
    item: str
    count: int


class Counting(Service):
    def __init__(self, worker: Worker, seen: list[tuple[str, str]]) -> None:
        self.worker = worker
        self.seen = seen

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (id integer primary key, what text)")

    @on(Sold)
    async def tally(self, sold: Sold, *, tx: Transaction = injected()) -> None:
        self.seen.append((self.worker.name, sold.item))
        await tx.execute("insert into entry (what) values (?)", f"tally {sold.item}")

    @on(Sold, order_key="item")
    async def ship(self, sold: Sold) -> None:
        await asyncio.sleep(2)
        self.seen.append((self.worker.name, f"ship {sold.item}"))

    @on(Sold, cardinality="all")
    async def forget(self, sold: Sold) -> None:
        self.seen.append((self.worker.name, f"forget {sold.item}"))


def made(seen: list[tuple[str, str]], **more: Any) -> Any:
    def build(worker: Worker) -> Sequence[Service]:
        return [Counting(worker, seen)]

    return cluster(build, [], **more)


def owner_of(c: Cluster, name: str) -> Worker | None:
    shard = shard_of_name(name, c.shards or 1)
    found = [w for w in c.workers if w.process.is_alive and shard in w.shards]
    return found[0] if len(found) == 1 else None


@pytest.mark.parametrize("seed", range(4))
def test_each_event_is_applied_once_by_the_owner_of_the_subscription(seed: int) -> None:
    seen: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        for n in range(10):
            await (a, b)[n % 2].send(Sold(f"{n}", n))
        await until(lambda: len(seen) == 10 + 10 + 20)
        await asyncio.sleep(5)
        for name in ("tally", "ship"):
            owner = owner_of(c, f"counting.{name}")
            assert owner is not None
        assert sorted(what for _, what in seen if what.isdecimal()) == sorted(f"{n}" for n in range(10))
        assert sorted(what for _, what in seen if what.startswith("ship")) == sorted(f"ship {n}" for n in range(10))
        assert sorted(c.rows("select what from entry")) == sorted((f"tally {n}",) for n in range(10))

    with made(seen, seed=seed) as c:
        play(c, script(c))


def test_a_reaction_that_each_process_has_is_performed_in_each() -> None:
    seen: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        await a.send(Sold("tea", 1))
        await until(
            lambda: {x for x in seen if x[1].startswith("forget")} == {("a", "forget tea"), ("b", "forget tea")}
        )
        await a.close()
        rows = c.rows("select name, active from minuet_subscription where name like 'counting.forget%' order by name")
        assert rows == [("counting.forget@a", 0), ("counting.forget@b", 1)]
        assert not b.host.participant.stopping

    with made(seen) as c:
        play(c, script(c))


@pytest.mark.parametrize("seed", range(4))
def test_a_subscription_of_a_crashed_worker_goes_on_at_another(seed: int) -> None:
    seen: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        for n in range(6):
            await a.send(Sold(f"{n}", n))
        await asyncio.sleep(0.5)
        crashed = owner_of(c, "counting.ship")
        assert crashed is not None
        crashed.process.crash()
        other = b if crashed is a else a
        await other.send(Sold("6", 6))
        before = c.loop.time()
        wanted = {f"ship {n}" for n in range(7)}
        await until(lambda: wanted <= {what for name, what in seen if name == other.name})
        assert c.loop.time() - before < LEASE_S + 6
        await until(lambda: len(c.rows("select what from entry")) == 7)

    with made(seen, seed=seed) as c:
        play(c, script(c))


def test_a_zombie_moves_no_position_and_applies_nothing() -> None:
    seen: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        owner = owner_of(c, "counting.tally")
        assert owner is not None
        other = b if owner is a else a
        for n in range(20):
            await owner.send(Sold(f"{n}", n))
        owner.process.pause()
        await until(lambda: len(other.shards) == 8)
        owner.process.resume()
        await other.send(Sold("20", 20))
        await until(lambda: len(c.rows("select what from entry")) == 21)
        await asyncio.sleep(30)
        assert len(c.rows("select what from entry")) == 21
        refused = c.database().refused_stale
        await asyncio.sleep(30)
        assert c.database().refused_stale == refused  # it has stopped, and does not try on
        fence = next(iter(owner.ownership.held))._replace(epoch=0)
        decision = Decision()
        decision.fence = fence
        decision.ensure_messages().subscriptions = [SubscriptionRow(9, "x", "shop.sold", 0, 1, 0)]
        with pytest.raises(StaleOwner):
            await owner.do(owner.host.participant.record(decision))

    with made(seen) as c:
        play(c, script(c))


def test_a_subscription_is_begun_also_where_it_could_not_be_read_when_its_shard_came() -> None:
    seen: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        b = c.worker("b")
        await b.start()
        a.process.crash()
        c.database().faults = c.faults.parse("read_error=1")
        b.host.store.owners = _nobody  # type: ignore[method-assign]
        b.host.store.time_ms = lambda: _time(c)  # type: ignore[method-assign]
        b.host.store.list_runs = _nothing  # type: ignore[method-assign]
        await until(lambda: len(b.shards) == 8)
        await asyncio.sleep(0.5)
        c.database().faults = c.faults.parse("none")
        await b.send(Sold("tea", 1))
        await until(lambda: c.rows("select what from entry") == [("tally tea",)], 10)

    with made(seen) as c:
        play(c, script(c))


def test_what_is_about_to_be_recorded_as_waiting_has_not_been_let_go_on_by_anybody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        await a.send(Sold("tea", 1))
        await until(lambda: ("a", "ship tea") in seen)
        ship = a.host.inlet.subscribers["counting.ship"]
        monkeypatch.setattr(Lanes, "blockers", property(lambda _: {1}))
        let_go = list[int]()
        monkeypatch.setattr(ship, "let_go", lambda _event, _key, entry: let_go.append(entry))
        await a.do(ship._look_at_blockers())
        assert let_go == [1]  # nothing is recorded of it any more
        ship._open[1] = None
        a.process.call(ship._open.pop, 1, after_s=0.0001)  # while the store is asked
        await a.do(ship._look_at_blockers())
        assert let_go == [1]

    with made(seen) as c:
        play(c, script(c))


async def _nobody() -> dict[str, int]:
    return {}


async def _time(c: Cluster) -> int:
    return c.now_ms()


async def _nothing(which: RunFilter) -> list[RunRow]:
    return []


@event("shop.asked", version=1, key="item")
@dataclass
class Asked:
    item: str


class Buying(Service):
    """Its reaction awaits an action that takes effect once for a key, and takes its time."""

    @action(effect_key="item")
    async def buy(self, item: str) -> str:
        await asyncio.sleep(20)
        return item

    @on(Asked)
    async def asked(self, asked: Asked) -> None:
        await self.buy(asked.item)


def test_the_turn_of_an_effect_is_free_again_when_its_subscription_was_lost() -> None:
    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        await a.send(Asked("tea"))
        await asyncio.sleep(1)
        c.database().partition(a.process)
        await until(lambda: not a.shards)
        c.database().heal(a.process)
        await until(lambda: c.rows("select key from minuet_effect") == [("tea",)])

    with cluster(lambda _: [Buying()], []) as c:
        play(c, script(c))


def test_all_that_is_decided_about_a_shared_subscription_is_under_its_lease() -> None:
    seen: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        for n in range(4):
            await (a, b)[n % 2].send(Sold("tea", n))
        await until(lambda: len([x for x in seen if x[1].startswith("ship")]) == 4)
        await asyncio.sleep(3)
        names = dict(c.rows("select subscription, name from minuet_subscription"))
        for _, decision in c.recorded:
            if decision.messages is None:
                continue
            keys = [k.subscription for k in (*decision.messages.applied, *decision.messages.deliveries)]
            for name in {names[k] for k in keys if "@" not in names[k]}:
                assert decision.fence is not None
                assert decision.fence.shard == shard_of_name(name, 8)

    with made(seen) as c:
        play(c, script(c))
