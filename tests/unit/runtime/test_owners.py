"""Several workers share a store: who owns which shard, what becomes of its runs, and that nobody else writes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from minuet import Service, Transaction, action, event, injected, sleep, together, wait_for, workflow
from minuet.engine import decide
from minuet.errors import Busy, StaleOwner, StoreUnavailable
from minuet.ids import parse_run, run_text, shard_of
from tests.unit.runtime.sharing import LEASE_S, Cluster, Worker, cluster, play, until


@event("house.rung", version=1, key="door")
@dataclass
class Rung:
    door: str


class Works(Service):
    """Does things that take their time; `begun` is outside of all processes."""

    def __init__(self, worker: Worker, begun: list[tuple[str, str]]) -> None:
        self.worker = worker
        self.begun = begun

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (id integer primary key, what text)")

    @action
    async def note(self, what: str, *, tx: Transaction = injected()) -> str:
        await tx.execute("insert into entry (what) values (?)", what)
        return what

    @action
    async def toil(self, what: str) -> str:
        self.begun.append((self.worker.name, what))
        await asyncio.sleep(5)
        return f"{what} done"


@workflow
async def job(what: str, *, works: Works) -> str:
    await works.note(what)
    done = await works.toil(what)
    await works.note(f"{what} again")
    return done


@workflow
async def grind(what: str, *, works: Works) -> str:
    return await works.toil(what)


@workflow
async def joined(what: str, *, works: Works) -> str:
    left, right = await together(works.toil(f"{what} left"), works.toil(f"{what} right"))
    await works.note(f"{what}: {left}, {right}")
    return what


@workflow
async def both(what: str, *, works: Works) -> str:
    left, right = await together(works.toil(f"{what} left"), wait_for(Rung, key=what))
    return f"{left}, {right.door}"


@workflow
async def nap(what: str, *, works: Works) -> str:
    await sleep(timedelta(seconds=30))
    return await works.note(what)


FLOWS = [job, grind, joined, both, nap]


def made(begun: list[tuple[str, str]] | None = None, **more: Any) -> Any:
    kept = [] if begun is None else begun

    def build(worker: Worker) -> Sequence[Service]:
        return [Works(worker, kept)]

    return cluster(build, FLOWS, **more)


def entries(c: Cluster) -> list[str]:
    return [what for (what,) in c.rows("select what from entry order by id")]


# Sharing out


def test_workers_share_out_all_shards_fairly() -> None:
    async def script(c: Cluster) -> None:
        await c.started("a")
        assert len(c.workers[0].shards) == 8
        await c.started("b", "c")
        await until(lambda: sorted(len(w.shards) for w in c.workers) == [2, 3, 3])
        assert set.union(*(w.shards for w in c.workers)) == set(range(8))

    with made() as c:
        play(c, script(c))


@pytest.mark.parametrize("seed", range(5))
def test_workers_that_start_in_the_same_instant_end_with_one_owner_of_each_shard(seed: int) -> None:
    async def script(c: Cluster) -> None:
        await c.started("a", "b", "c", "d")
        await until(lambda: all(len(w.shards) == 2 for w in c.workers))
        assert set.union(*(w.shards for w in c.workers)) == set(range(8))

    with made(seed=seed) as c:
        play(c, script(c))


def test_nobody_is_left_with_nothing_as_long_as_there_are_shards() -> None:
    async def script(c: Cluster) -> None:
        await c.started("a", "b", "c")
        await until(lambda: sorted(len(w.shards) for w in c.workers) == [1, 1, 2], 60)

    with made(shards=4) as c:
        play(c, script(c))


def test_who_owns_nothing_begins_nothing_and_says_so() -> None:
    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        b = c.worker("b")
        await b.start()
        assert a.shards == {0}
        assert b.shards == set()
        with pytest.raises(Busy, match="shards"):
            await b.do(b.control.start("job", b'"x"', wait_for_room=False))
        with pytest.raises(Busy, match="shards"):
            await b.begin(job, "x")
        assert (await b.wait(await a.begin(job, "x"))).state == "completed"

    with made(shards=1) as c:
        play(c, script(c))


def test_whoever_holds_a_store_alone_takes_no_leases() -> None:
    async def script(c: Cluster) -> None:
        a = await c.worker("a").start()
        assert a.host.participant.ownership is None
        assert (await a.wait(await a.begin(job, "x"))).state == "completed"
        assert all(decision.fence is None for _, decision in c.recorded)
        assert c.rows("select count(*) from minuet_lease") == [(0,)]

    with made(shards=None) as c:
        play(c, script(c))


def test_runs_begin_in_owned_shards_one_after_the_other() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        await until(lambda: len(a.shards) == len(b.shards) == 4)
        for worker in (a, b):
            runs = [parse_run(await worker.begin(nap, "x")) or 0 for _ in range(8)]
            assert {shard_of(run) for run in runs} == worker.shards

    with made() as c:
        play(c, script(c))


# Running


def test_a_run_ends_where_it_began_and_its_end_is_seen_at_every_worker() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(job, "tea")
        before = c.loop.time()
        views = await asyncio.gather(a.wait(run), b.wait(run))
        assert [view.result for view in views] == ["tea done"] * 2
        assert c.loop.time() - before < 7
        assert c.writers(run) == ["a"]
        assert entries(c) == ["tea", "tea again"]

    with made() as c:
        play(c, script(c))


def test_all_that_is_decided_about_a_run_is_under_the_lease_of_its_shard() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        for worker in (a, b):
            await worker.wait(await worker.begin(job, worker.name))
        for _, decision in c.recorded:
            assert (decision.fence is None) == (decision.run == 0)
            if decision.fence is not None:
                assert decision.fence.shard == shard_of(decision.run)

    with made() as c:
        play(c, script(c))


def test_runs_of_a_crashed_worker_go_on_at_another_when_its_lease_has_run_out() -> None:
    begun: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        runs = [await a.begin(job, f"tea {n}") for n in range(10)]
        await until(lambda: len(begun) == 10)
        before = c.loop.time()
        a.process.crash()
        for run in runs:
            assert (await b.wait(run)).state == "completed"
        assert c.loop.time() - before < LEASE_S + 2 + 5
        assert all(c.writers(run) == ["a", "b"] for run in runs)
        assert len(b.shards) == 8

    with made(begun) as c:
        play(c, script(c))
        assert sorted(entries(c)) == sorted([f"tea {n}" for n in range(10)] + [f"tea {n} again" for n in range(10)])
        assert len(begun) == 20


def test_an_attempt_of_a_crashed_worker_counts() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(job, "tea")
        await until(lambda: c.rows("select count(*) from minuet_fact") == [(1,)])
        a.process.crash()
        number = parse_run(run)
        await until(lambda: bool(c.rows("select 1 from minuet_attempt where run = ?", number)))
        assert c.rows("select attempts, state from minuet_attempt where run = ?", number) == [(1, "running")]
        assert (await b.wait(run)).state == "completed"

    with made() as c:
        play(c, script(c))


def test_timers_of_a_crashed_worker_fire_at_another() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(nap, "nap")
        before = c.loop.time()
        await asyncio.sleep(22)
        a.process.crash()
        assert (await b.wait(run)).state == "completed"
        assert 30 <= c.loop.time() - before < 22 + LEASE_S + 2

    with made() as c:
        play(c, script(c))


def test_timers_are_due_by_the_clock_of_the_store_whatever_that_of_a_worker_says() -> None:
    async def script(c: Cluster) -> None:
        a = await c.worker("a", offset_ms=-3_600_000).start()
        b = await c.worker("b", offset_ms=3_600_000).start()
        before = c.loop.time()
        run = await a.begin(nap, "nap")
        await asyncio.sleep(5)
        a.process.crash()
        assert (await b.wait(run)).state == "completed"
        assert 30 <= c.loop.time() - before < 31

    with made(shards=1) as c:
        play(c, script(c))


def test_ids_are_not_made_twice_when_the_stores_clock_is_put_back() -> None:
    async def script(c: Cluster) -> None:
        a = await c.worker("a").start()
        b = await c.worker("b").start()
        assert b.shards == set()
        first = [parse_run(await a.begin(nap, "x")) or 0 for _ in range(20)]
        a.process.crash()
        await until(lambda: b.ownership.owns_some)
        c.behind_ms = 60_000
        await asyncio.sleep(2)
        second = [parse_run(await b.begin(nap, "x")) or 0 for _ in range(20)]
        assert min(second) > max(first)

    with made(shards=1) as c:
        play(c, script(c))


# Losing


@pytest.mark.parametrize("seed", range(8))
def test_a_zombie_is_refused_and_forgets_what_it_knew(seed: int) -> None:
    begun: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        runs = [await a.begin(job, f"tea {n}") for n in range(20)]
        await until(lambda: len(begun) >= 10)
        a.process.pause()
        await until(lambda: len(b.shards) == 8)
        a.process.resume()
        await asyncio.sleep(0.2)
        assert not [k for k in a.host.participant.runs.values() if run_text(k.run) in runs]
        for run in runs:
            assert (await a.wait(run)).state == "completed"
            assert c.writers(run) in (["a", "b"], ["a"], ["a", "b", "a"])
        await until(lambda: len(a.shards) == 4)

    with made(begun, seed=seed) as c:
        play(c, script(c))
        assert sorted(entries(c)) == sorted([f"tea {n}{x}" for n in range(20) for x in ("", " again")])
        assert c.rows("select count(*) from minuet_run where state = 'quarantined'") == [(0,)]


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_zombie_that_lacks_what_the_new_owner_knows_sets_no_run_aside(
    is_lost: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def lacks() -> None:
        raise AssertionError("a value is not known")

    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        await until(lambda: len(a.shards) == 8)
        run = parse_run(await a.begin(nap, "nap")) or 0
        if is_lost:
            c.rows("update minuet_lease set owner = 'b', epoch = epoch + 1 where shard = ?", shard_of(run))
        participant = a.host.participant

        async def fail() -> None:
            participant.input(participant.runs[run], lacks)

        await a.do(fail())
        await asyncio.sleep(0.5)
        assert c.state(run_text(run)) == ("running" if is_lost else "quarantined")

    with made() as c:
        play(c, script(c))
    assert ("is set aside" in caplog.text) is not is_lost


def test_late_commits_of_a_zombie_are_counted_as_refused() -> None:
    begun: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        for n in range(40):
            await a.begin(job, f"tea {n}")
        await asyncio.sleep(4.98)  # its actions are about to answer
        a.process.pause()
        await until(lambda: len(b.shards) == 8)
        a.process.resume()
        await until(lambda: c.rows("select count(*) from minuet_run where load is not null") == [(0,)])

    refused = 0
    for seed in range(4):
        with made(begun, seed=seed) as c:
            play(c, script(c))
            assert len(entries(c)) == 80
            refused += c.database().refused_stale
    assert refused > 0


def test_who_cannot_renew_stops_by_itself_before_its_time_is_over() -> None:
    begun: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        await a.begin(nap, "nap")
        assert len(a.host.participant.runs) == 1
        c.database().partition(a.process)
        cut = c.loop.time()
        await until(lambda: not a.shards)
        assert c.loop.time() - cut <= LEASE_S * 2 / 3 + 0.1
        assert len(b.shards) == 4  # nobody has taken anything yet
        assert not a.host.participant.runs
        await until(lambda: len(b.shards) == 8)
        assert c.loop.time() - cut >= LEASE_S * 2 / 3
        c.database().heal(a.process)
        await until(lambda: len(a.shards) == len(b.shards) == 4)

    with made(begun) as c:
        play(c, script(c))


def test_what_waited_for_a_slot_is_not_begun_any_more_when_its_shard_is_lost() -> None:
    begun: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        for n in range(6):
            await a.begin(grind, f"tea {n}")
        await until(lambda: len(begun) == 1)
        c.database().partition(a.process)
        await until(lambda: not a.shards)
        before = len(begun)
        await asyncio.sleep(60)
        assert len(begun) == before

    with made(begun, slots=1) as c:
        play(c, script(c))


def test_a_worker_that_was_held_up_begins_nothing_of_what_it_has_lost() -> None:
    begun: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        runs = [await a.begin(grind, f"tea {n}") for n in range(12)]
        await until(lambda: len(begun) == 1)
        await asyncio.sleep(4.9)  # the first is about to end, and the next one waits for its slot
        a.process.pause()
        await asyncio.sleep(LEASE_S * 3)
        at = len(begun)
        a.process.resume()
        await asyncio.sleep(0.0005)
        assert [name for name, _ in begun[at:] if name == "a"] == []
        for run in runs:
            await b.wait(run, 600)

    for seed in range(4):
        begun.clear()
        with made(begun, seed=seed, slots=1) as c:
            play(c, script(c))


def test_whoever_waits_at_a_worker_that_loses_the_run_goes_on_waiting() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        performing = a.process.spawn(a.control.perform(job, b'"tea"'))
        await until(lambda: c.rows("select count(*) from minuet_fact") == [(1,)])
        c.database().partition(a.process)
        await until(lambda: len(b.shards) == 8)
        c.database().heal(a.process)
        view = await asyncio.wait_for(performing, 60)
        assert not isinstance(view, bytes)
        assert view.result == "tea done"

    with made() as c:
        play(c, script(c))


def test_whoever_has_stopped_by_himself_has_his_shards_again_as_soon_as_the_store_answers() -> None:
    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        c.database().partition(a.process)
        await until(lambda: not a.shards)
        await asyncio.sleep(1)
        c.database().heal(a.process)
        healed = c.loop.time()
        await until(lambda: len(a.shards) == 8)
        assert c.loop.time() - healed < 5  # and its lease had more than 10 s to run

    with made(lease_ms=60_000) as c:
        play(c, script(c))


def test_what_is_refused_tells_at_once_that_a_shard_is_lost() -> None:
    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        await until(lambda: len(a.shards) == 8)
        run = await a.begin(nap, "nap")
        shard = shard_of(parse_run(run) or 0)
        c.rows("update minuet_lease set owner = 'somebody', epoch = epoch + 1 where shard = ?", shard)
        with pytest.raises(StaleOwner):
            await a.do(a.host.participant.ask(parse_run(run) or 0, lambda k: decide.pause(k, 0)))
        assert a.shards == set(range(8)) - {shard}
        assert c.state(run) == "running"

    with made() as c:
        play(c, script(c))


def test_what_was_read_of_a_run_is_not_taken_when_its_shard_was_lost_meanwhile() -> None:
    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        run = parse_run(await a.begin(nap, "1")) or 0
        await a.begin(nap, "2")
        assert run not in a.host.participant.runs
        loading = a.process.spawn(a.host.participant.load(run))
        await asyncio.sleep(0)
        await asyncio.sleep(0.0001)
        assert not loading.done()
        a.ownership.refused(StaleOwner("it is lost"), a.ownership.lease_of(run))
        with pytest.raises(StaleOwner):
            await loading
        assert run not in a.host.participant.runs

    with made(runs_in_memory=1) as c:
        play(c, script(c))


def test_starts_that_are_refused_are_made_in_another_shard() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        starting = [a.process.spawn(a.control.start("nap", b'"x"')) for _ in range(20)]
        starting += [a.process.spawn(a.control.start("nap", b'"x"', key=f"{n}")) for n in range(20)]
        await asyncio.sleep(0.0005)
        a.process.pause()
        await until(lambda: len(b.shards) == 8)
        a.process.resume()
        runs = {view.run for view, _ in await asyncio.gather(*starting)}
        assert len(runs) == 40
        assert c.rows("select count(*) from minuet_run") == [(40,)]

    refused = 0
    for seed in range(4):
        with made(seed=seed) as c:
            play(c, script(c))
            refused += c.database().refused_stale
    assert refused > 0


def test_an_attempt_counts_also_where_its_run_is_asked_for_before_it_is_taken_up() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = parse_run(await a.begin(both, "front"))
        await until(lambda: c.rows("select count(*) from minuet_wait") == [(1,)])
        hanging = c.loop.create_future()
        b.host.recovery._take_up = lambda *_, **__: hanging  # type: ignore[method-assign,assignment]
        a.process.crash()
        await until(lambda: len(b.shards) == 8)
        await b.send(Rung("front"))
        await until(lambda: bool(c.rows("select 1 from minuet_attempt where run = ?", run)))
        assert c.rows("select attempts from minuet_attempt where run = ?", run) == [(1,)]

    with made() as c:
        play(c, script(c))


def test_what_waits_for_a_slot_is_not_performed_twice_when_its_run_is_read_anew() -> None:
    begun: list[tuple[str, str]] = []

    async def script(c: Cluster) -> None:
        a = await c.worker("a").start()
        run = await a.begin(joined, "tea")
        await until(lambda: len(begun) == 1)
        c.database().faults = c.faults.parse("unknown_lost=1")
        with pytest.raises(StoreUnavailable):
            await a.ask("pause", run)
        c.database().faults = c.faults.parse("none")
        await a.wait(run)
        assert sorted(what for _, what in begun) == ["tea left", "tea left", "tea right"]

    with made(begun, shards=None, slots=1) as c:
        play(c, script(c))


# Giving back


def test_a_worker_that_ends_in_order_leaves_nobody_waiting_for_its_lease() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        await asyncio.sleep(5)  # it is settled who owns what
        run = await a.begin(nap, "nap")
        await a.close()
        closed = c.loop.time()
        await until(lambda: len(b.shards) == 8)
        assert c.loop.time() - closed < 2
        assert (await b.wait(run)).state == "completed"

    with made() as c:
        play(c, script(c))


def test_shares_change_hands_under_load_and_every_run_ends_once() -> None:
    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        runs = [await a.begin(job, f"tea {n}") for n in range(30)]
        b, d = await c.started("b", "d")
        await asyncio.sleep(2)
        await b.close()
        for run in runs:
            assert (await d.wait(run)).state == "completed"

    for seed in range(3):
        with made(seed=seed) as c:
            play(c, script(c))
            assert sorted(entries(c)) == sorted([f"tea {n}{x}" for n in range(30) for x in ("", " again")])


# Races


@pytest.mark.parametrize("seed", range(6))
def test_a_key_that_is_started_at_two_workers_at_once_is_one_run(seed: int) -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        runs = await asyncio.gather(*(w.begin(job, "tea", key="k") for w in (a, b, a, b)))
        assert len(set(runs)) == 1
        assert (await b.wait(runs[0])).state == "completed"
        assert c.rows("select count(*) from minuet_run") == [(1,)]

    with made(seed=seed) as c:
        play(c, script(c))


@pytest.mark.parametrize("seed", range(6))
def test_starts_recoveries_and_takeovers_that_race_end_with_each_join_fired_once(seed: int) -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        runs = [await w.begin(joined, f"{w.name}{n}") for n in range(6) for w in (a, b)]
        await asyncio.sleep(2)
        a.process.crash()
        b.process.pause()
        third = c.worker("c")
        fourth = c.worker("d")
        await asyncio.gather(third.start(), fourth.start())
        await asyncio.sleep(LEASE_S + 1)
        b.process.resume()
        runs += [await third.begin(joined, f"c{n}") for n in range(3)]
        for run in runs:
            assert (await fourth.wait(run, 300)).state == "completed"
        assert len(entries(c)) == len(runs)

    with made(seed=seed) as c:
        play(c, script(c))


def test_a_start_whose_answer_is_lost_goes_on_all_the_same() -> None:
    async def script(c: Cluster) -> None:
        (a,) = await c.started("a")
        c.database().faults = c.faults.parse("unknown_applied=0.4")
        for n in range(10):
            with_error = await asyncio.gather(a.begin(job, f"tea {n}", key=f"{n}"), return_exceptions=True)
            assert len(with_error) == 1
        c.database().faults = c.faults.parse("none")
        await until(lambda: c.rows("select count(*) from minuet_run where load is not null") == [(0,)])

    for shards in (None, 4):
        with made(shards=shards, seed=3) as c:
            if shards is None:
                play(c, _lost_alone(c))
            else:
                play(c, script(c))


async def _lost_alone(c: Cluster) -> None:
    a = await c.worker("a").start()
    c.database().faults = c.faults.parse("unknown_applied=0.4")
    for n in range(10):
        await asyncio.gather(a.begin(job, f"tea {n}", key=f"{n}"), return_exceptions=True)
    c.database().faults = c.faults.parse("none")
    await until(lambda: c.rows("select count(*) from minuet_run where load is not null") == [(0,)])
