"""The simulated database: what befalls commits, reads, connections and their processes, and that a seed repeats it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from minuet.engine.basis import Basis
from minuet.engine.port import Outcome
from minuet.engine.row import Decision, Lease, PassedRow
from minuet.errors import AlreadyOpen, MinuetError, StaleOwner, StoreFull, StoreUnavailable
from minuet.ids import RunIds
from minuet.testing.clock import START_MS
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.connection import connect
from minuet.testing.simulation.database import DOWN_S, SimulatedDatabase
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop, current_process
from minuet.testing.simulation.store import COMMIT_S, READ_S, SILENCE_S
from minuet.testing.store_desk import (
    NOW_MS,
    Desk,
    Script,
    ScriptedWork,
    decision,
    execute,
    fact_row,
    inbox_row,
    one_statement,
    run_row,
    start,
    wait_row,
)

SEEDS = range(20)
SHARDS = 4
TTL_MS = 10_000


class SmallWorld:
    """A loop, a database, and desks of as many processes as are wanted; tests go on outside of them all."""

    def __init__(self, seed: int = 1, *, faults: Faults | None = None, shards: int | None = None) -> None:
        self.chance = Chance(seed)
        self.loop = SimulationLoop(self.chance)
        self.database = SimulatedDatabase(
            self.loop, self.chance, Faults(), "home", shards=shards, now_ms=self.now_ms, lag_max=3
        )
        self.faults = faults or Faults()
        self.recorded: list[tuple[str, int]] = []
        self.database.on_recorded = lambda name, made: self.recorded.append((name, made.run))

    def now_ms(self) -> int:
        return START_MS + int(self.loop.time() * 1000)

    async def desk(self, name: str = "p") -> tuple[Process, Desk]:
        """Open the store of a new process; what goes wrong does so from then on."""
        process = Process(self.loop, name)
        desk = Desk(self.database.store(process))
        await desk.open()
        self.database.faults = self.faults
        return process, desk

    def runs(self) -> list[int]:
        return [run for (run,) in self.database.query("select run from minuet_run order by run")]


@contextmanager
def a_world(seed: int = 1, **settings: Any) -> Iterator[SmallWorld]:
    world = SmallWorld(seed, **settings)
    yield world
    assert world.loop.failures == []
    world.loop.close()
    world.database.close()


def perform(world: SmallWorld, test: Coroutine[Any, Any, None]) -> None:
    world.loop.run_until_complete(test)


def told_by(desk: Desk) -> list[Outcome]:
    return [outcome for group in desk.groups for outcome in group]


def run_of(shard: int) -> int:
    return RunIds().next(NOW_MS, shard)


def under(lease: Lease, made: Decision) -> Decision:
    made.fence = lease
    return made


def passing(shard: int) -> Decision:
    made = Decision()
    made.ensure_messages().passed = [PassedRow("m-1", shard, "{}", NOW_MS)]
    return made


# Commits


def test_what_is_submitted_at_once_is_committed_at_once_and_told_later() -> None:
    with a_world() as world:

        async def test() -> None:
            _, desk = await world.desk()
            before_s, commits = world.loop.time(), world.database.commits
            outcomes = [desk.hand_in(start(run)) for run in (3, 1, 2)]
            assert not any(outcome.done() for outcome in outcomes)
            assert world.runs() == []
            await asyncio.gather(*outcomes)
            assert COMMIT_S[0] <= world.loop.time() - before_s <= COMMIT_S[1]
            assert world.database.commits == commits + 1
            assert world.recorded == [("p", 3), ("p", 1), ("p", 2)]
            assert len(desk.groups) == 1

        perform(world, test())


def test_a_handler_is_performed_in_its_process() -> None:
    with a_world() as world:

        async def test() -> None:
            process, desk = await world.desk()
            seen: list[Process | None] = []

            def script() -> Script:
                yield execute("create table seat (n integer)")
                seen.append(current_process())
                return start(1)

            await desk.record(ScriptedWork(script))
            assert seen == [process]
            assert world.database.query("select count(*) from seat") == [(0,)]

        perform(world, test())


@pytest.mark.parametrize(
    ("fault", "error", "is_recorded"),
    [
        ("unknown_applied", StoreUnavailable, True),
        ("unknown_lost", StoreUnavailable, False),
        ("busy", StoreUnavailable, False),
        ("full", StoreFull, False),
    ],
)
def test_a_fault_of_a_commit_is_told_of_all_its_group(
    fault: str, error: type[MinuetError], *, is_recorded: bool
) -> None:
    with a_world(faults=Faults(**{fault: 1.0})) as world:

        async def test() -> None:
            _, desk = await world.desk()
            world.database.faults = Faults()
            await desk.store.setup(one_statement(execute("create table seat (n integer)")))
            world.database.faults = world.faults
            work = one_statement(execute("insert into seat values (1)"), start(3))
            outcomes = await desk.outcomes(start(1), start(2), work)
            assert [type(outcome.error) for outcome in outcomes] == [error] * 3
            assert [outcome.work for outcome in outcomes] == [None, None, work]
            assert world.runs() == ([1, 2, 3] if is_recorded else [])
            assert [run for _, run in world.recorded] == world.runs()
            assert world.database.query("select count(*) from seat") == [(int(is_recorded),)]
            assert world.chance.counts[fault] == 1
            assert (await desk.store.load_run(1) is not None) == is_recorded
            world.database.faults = Faults()
            await desk.record(start(1), start(2), one_statement(execute("insert into seat values (2)"), start(3)))
            assert world.runs() == [1, 2, 3]
            assert world.database.query("select count(*) from seat") == [(1,)], "a handler's writes stand once"

        perform(world, test())


def test_what_was_decided_on_an_unknown_commit_is_not_recorded() -> None:
    with a_world(faults=Faults(unknown_applied=1.0)) as world:

        async def test() -> None:
            _, desk = await world.desk()
            first, second = start(1), start(2)
            first.basis = second.basis = Basis()
            unknown = desk.hand_in(first)
            await asyncio.sleep(0)
            groundless = desk.hand_in(second)
            await unknown
            world.database.faults = Faults()
            assert isinstance((await groundless).error, StoreUnavailable)
            assert world.runs() == [1]

        perform(world, test())


@pytest.mark.parametrize(("fault", "left"), [("unknown_applied", {"a": 1}), ("unknown_lost", {}), ("busy", {})])
def test_claims_meet_the_same_faults_as_commits(fault: str, left: dict[str, int]) -> None:
    with a_world(faults=Faults(**{fault: 1.0}), shards=SHARDS) as world:

        async def test() -> None:
            _, desk = await world.desk()
            with pytest.raises(StoreUnavailable):
                await desk.store.claim("a", 1, TTL_MS)
            assert await desk.store.owners() == left

        perform(world, test())


def test_a_read_that_fails_is_said_to_fail() -> None:
    with a_world(faults=Faults(read_error=1.0)) as world:

        async def test() -> None:
            _, desk = await world.desk()
            with pytest.raises(StoreUnavailable):
                await desk.store.load_run(1)
            world.database.faults = Faults()
            assert await desk.store.load_run(1) is None

        perform(world, test())


# Crashes and pauses


def test_what_is_under_way_at_a_crash_is_recorded_or_lost_and_never_told() -> None:
    seen = set()
    for seed in SEEDS:
        with a_world(seed) as world:

            async def test(world: SmallWorld = world) -> None:
                process, desk = await world.desk()
                desk.hand_in(start(1))
                await asyncio.sleep(world.chance.between("crash", 0, COMMIT_S[0]))
                process.crash()
                await asyncio.sleep(1)
                assert told_by(desk) == []
                assert [run for _, run in world.recorded] == world.runs()
                seen.add(tuple(world.runs()))

            perform(world, test())
    assert seen == {(), (1,)}


def test_what_waits_for_the_next_group_and_what_a_handler_has_not_done_are_lost_at_a_crash() -> None:
    for seed in SEEDS:
        with a_world(seed) as world:

            async def test(world: SmallWorld = world) -> None:
                process, desk = await world.desk()
                desk.hand_in(one_statement(execute("create table seat (n integer)"), start(1)))
                await asyncio.sleep(0)  # it is on its way
                desk.hand_in(start(2))
                process.crash()
                await asyncio.sleep(1)
                assert world.runs() == []

            perform(world, test())


def test_an_exclusive_database_is_held_by_one_living_process() -> None:
    with a_world() as world:

        async def test() -> None:
            process, desk = await world.desk("p")
            with pytest.raises(AlreadyOpen, match=r"\(p\)"):
                await world.desk("q")
            process.crash()
            _, heir = await world.desk("q")
            await heir.record(start(1))
            await heir.store.close()
            _, third = await world.desk("r")
            assert await third.store.load_run(1) is not None
            assert await desk.store.claim("p", 1, TTL_MS) == []

        perform(world, test())


def test_an_opening_that_was_given_up_holds_nothing() -> None:
    with a_world() as world:

        async def test() -> None:
            opening = asyncio.ensure_future(world.desk("p"))
            await asyncio.sleep(0)
            opening.cancel()
            await asyncio.sleep(1)
            await world.desk("q")

        perform(world, test())


def test_an_opening_whose_answer_is_lost_holds_nothing() -> None:
    lost = 0
    for seed in SEEDS:
        with a_world(seed) as world:

            async def test(world: SmallWorld = world) -> bool:
                process = Process(world.loop, "p")
                opening = asyncio.ensure_future(Desk(world.database.store(process)).open())
                await asyncio.sleep(READ_S[1] / 2)
                world.database.partition(process)
                await asyncio.wait([opening])
                if opening.exception() is None:
                    return False
                await world.desk("q")
                return True

            lost += world.loop.run_until_complete(test())
    assert lost > 0


def test_whoever_opens_next_finds_what_will_ever_be_recorded_of_the_dead() -> None:
    seen = set()
    for seed in SEEDS:
        with a_world(seed) as world:

            async def test(world: SmallWorld = world) -> None:
                # Commits last longer than opening does, so without care some of them would come later.
                process, desk = await world.desk()
                desk.hand_in(start(1))
                await asyncio.sleep(0)
                process.crash()
                await world.desk("heir")
                found = world.runs()
                await asyncio.sleep(1)
                assert world.runs() == found
                seen.add(tuple(found))

            perform(world, test())
    assert seen == {(), (1,)}


def test_a_zombie_is_refused() -> None:
    refused = 0
    for seed in SEEDS:
        with a_world(seed, shards=SHARDS) as world:

            async def test(world: SmallWorld = world) -> None:
                zombie, desk = await world.desk("zombie")
                (lease,) = await desk.store.claim("zombie", 1, TTL_MS)
                outcome = desk.hand_in(under(lease, start(run_of(lease.shard))))
                await asyncio.sleep(0)
                zombie.pause()
                await asyncio.sleep(TTL_MS / 1000 + 1)
                _, heir = await world.desk("heir")
                assert lease.shard in [taken.shard for taken in await heir.store.claim("heir", SHARDS, TTL_MS)]
                before = world.runs()
                zombie.resume()
                error = (await outcome).error
                assert world.runs() == before, "it wrote after the shard was taken"
                assert (error is None) == bool(before)
                assert error is None or isinstance(error, StaleOwner)
                assert world.database.refused_stale == (error is not None)

            perform(world, test())
            refused += world.database.refused_stale
    assert 0 < refused < len(SEEDS), "some were in time, and some were not"


# Connections


def test_while_it_restarts_everything_fails_and_then_all_is_there() -> None:
    with a_world() as world:

        async def test() -> None:
            _, desk = await world.desk()
            await desk.record(start(1))
            world.database.restart()
            with pytest.raises(StoreUnavailable):
                await desk.store.load_run(1)
            assert isinstance(await desk.refused(start(2)), StoreUnavailable)
            with pytest.raises(StoreUnavailable):
                await world.desk("q")
            await asyncio.sleep(DOWN_S[1])
            assert await desk.store.load_run(1) is not None
            assert world.runs() == [1]
            await desk.record(start(2))

        perform(world, test())


def test_a_commit_during_which_it_restarts_is_unknown() -> None:
    seen = set()
    for seed in SEEDS:
        with a_world(seed) as world:

            async def test(world: SmallWorld = world) -> None:
                _, desk = await world.desk()
                outcome = desk.hand_in(start(1))
                await asyncio.sleep(COMMIT_S[0])
                if not outcome.done():
                    world.database.restart()
                    assert isinstance((await outcome).error, StoreUnavailable)
                    seen.add(tuple(world.runs()))

            perform(world, test())
    assert seen == {(), (1,)}


def test_who_is_cut_off_hears_nothing_for_a_while_and_others_do_not_mind() -> None:
    with a_world(shards=SHARDS) as world:

        async def test() -> None:
            process, desk = await world.desk("p")
            _, other = await world.desk("q")
            world.database.partition(process)
            before_s = world.loop.time()
            with pytest.raises(StoreUnavailable):
                await desk.store.load_run(1)
            assert world.loop.time() - before_s >= SILENCE_S[0]
            assert isinstance(await desk.refused(start(1)), StoreUnavailable)
            await other.record(start(2))
            assert world.runs() == [2]
            world.database.heal(process)
            await desk.record(start(1))

        perform(world, test())


def test_a_commit_during_which_its_process_is_cut_off_is_unknown_even_if_that_is_over_soon() -> None:
    seen = set()
    for seed in SEEDS:
        with a_world(seed) as world:

            async def test(world: SmallWorld = world) -> None:
                process, desk = await world.desk()
                outcome = desk.hand_in(start(1))
                await asyncio.sleep(COMMIT_S[0])
                if not outcome.done():
                    world.database.partition(process)
                    world.database.heal(process)
                    assert isinstance((await outcome).error, StoreUnavailable)
                    seen.add(tuple(world.runs()))

            perform(world, test())
    assert seen == {(), (1,)}


def test_a_failover_that_lags_forgets_the_last_commits_and_every_lease() -> None:
    with a_world(shards=SHARDS) as world:

        async def test() -> None:
            _, desk = await world.desk()
            (lease,) = await desk.store.claim("p", 1, 10 * TTL_MS)
            for run in range(1, 6):
                await desk.record(under(lease, start(run)))
            before = await Desk(world.database.store(Process(world.loop, "q"))).open()
            under_way = desk.hand_in(start(9))
            await asyncio.sleep(0)
            undone = world.database.forget_tail(3)  # an opening, and two decisions
            assert isinstance((await under_way).error, StoreUnavailable)
            assert [made.run for made in undone] == [4, 5]
            assert world.runs() == [1, 2, 3]
            assert isinstance(await desk.refused(under(lease, start(6))), StaleOwner)
            taken = await desk.store.claim("p", SHARDS, TTL_MS)
            assert {t.shard: t.epoch for t in taken}[lease.shard] > lease.epoch
            after = await Desk(world.database.store(Process(world.loop, "r"))).open()
            assert before.incarnation != after.incarnation
            assert world.database.forget_tail(100) == [], "no more than it remembers"
            assert world.runs() == [1, 2, 3]

        perform(world, test())


# Owners


def test_leases_run_out_by_the_clock_of_the_server() -> None:
    with a_world(shards=SHARDS) as world:

        async def test() -> None:
            _, desk = await world.desk("p")
            _, other = await world.desk("q")
            held = await desk.store.claim("p", SHARDS, TTL_MS)
            assert await other.store.claim("q", SHARDS, TTL_MS) == []
            await asyncio.sleep(TTL_MS / 1000 - 1)
            assert await desk.store.renew("p", held[:1], TTL_MS) == held[:1]
            await asyncio.sleep(1)
            assert len(await other.store.claim("q", SHARDS, TTL_MS)) == SHARDS - 1
            await desk.store.give_back("p", held[:1])
            assert await desk.store.owners() == {"q": SHARDS - 1}

        perform(world, test())


def test_others_are_told_for_whom_something_was_left_unless_the_hint_is_lost() -> None:
    heard = list[tuple[str, Collection[int]]]()
    with a_world(shards=SHARDS) as world:

        async def test() -> None:
            process, desk = await world.desk("p")
            other_process, other = await world.desk("q")
            desk.store.on_news(lambda shards: heard.append(("p", shards)))
            other.store.on_news(lambda shards: heard.append(("q", shards)))
            run = run_of(2)
            await desk.record(decision(run, runs=[run_row(run)], waits=[wait_row(run, "p-1")]))
            await desk.record(decision(inbox=[inbox_row("m-1", key="p-1")]))
            await desk.record(decision(inbox=[inbox_row("m-2", key="nobody waits")]))
            await desk.record(decision(run, facts=[fact_row(run, "1")]))
            await other.record(passing(3))
            await asyncio.sleep(1)
            assert heard == [("q", [2]), ("p", [3])]
            world.database.partition(other_process)
            await desk.record(passing(1))
            process.crash()
            await asyncio.sleep(1)
            assert len(heard) == 2

        perform(world, test())
    with a_world(shards=SHARDS, faults=Faults(delay=0.1)) as world:

        async def lose() -> None:
            _, desk = await world.desk("p")
            _, other = await world.desk("q")
            heard.clear()
            other.store.on_news(lambda shards: heard.append(("q", shards)))
            for n in range(100):
                made = Decision()
                made.ensure_messages().passed = [PassedRow(f"m-{n}", 1, "{}", NOW_MS)]
                await desk.record(made)
            await asyncio.sleep(1)
            assert len(heard) == 100 - world.chance.counts["news_lost"]
            assert 0 < len(heard) < 100

        perform(world, lose())


# The whole


def test_a_world_opens_with_the_schema_and_touches_no_file() -> None:
    connection = connect()
    assert connection.execute("pragma journal_mode").fetchone() == ("memory",)
    assert connection.execute("pragma foreign_keys").fetchone() == (1,)
    assert connection.execute("select count(*) from minuet_run").fetchone() == (0,)
    other = connect()
    other.execute("create table seat (n integer)")
    assert connection.execute("select count(*) from sqlite_master where name = 'seat'").fetchone() == (0,)
    (before,) = connection.execute("pragma schema_version").fetchone()
    connection.become(connection.serialize())
    (after,) = connection.execute("pragma schema_version").fetchone()
    assert after != before, "what was prepared before has to be prepared anew"
    connection.close()
    other.close()


def test_a_closed_store_takes_nothing_and_reads_nothing() -> None:
    with a_world() as world:

        async def test() -> None:
            _, desk = await world.desk()
            outcome = desk.hand_in(start(1))
            await desk.store.close()
            assert outcome.result().error is None
            with pytest.raises(StoreUnavailable):
                desk.store.submit(start(2))
            with pytest.raises(StoreUnavailable):
                await desk.store.load_run(1)

        perform(world, test())


def _story(seed: int) -> list[Any]:
    """Let two processes write and read while all kinds of things go wrong; give all that was seen, and when."""
    story = list[Any]()
    with a_world(seed, shards=SHARDS, faults=Faults.all()) as world:

        async def work(name: str, first: int) -> None:
            process, desk = await world.desk(name)
            desk.store.on_news(lambda shards: story.append((world.loop.time(), name, list(shards))))
            for run in range(first, first + 40):
                try:
                    lease = (await desk.store.claim(name, 1, 50) or [Lease(0, 0)])[0]
                    made = start(run)
                    made.ensure_messages().passed = [PassedRow(f"m-{run}", 1, "{}", NOW_MS)]
                    outcomes = await desk.outcomes(under(lease, made), start(run + 1000))
                    story.append((world.loop.time(), name, [type(o.error) for o in outcomes]))
                    story.append(len(await desk.store.runs_to_load(0, 999)))
                except StoreUnavailable:
                    story.append((world.loop.time(), name, "unavailable"))
                if run % 13 == 0:
                    world.database.partition(process)
                    await asyncio.sleep(0.1)
                    world.database.heal(process)

        async def test() -> None:
            working = [asyncio.ensure_future(work(name, first)) for name, first in (("p", 1), ("q", 101))]
            await asyncio.sleep(0.2)
            world.database.restart()
            await asyncio.wait(working)
            for task in working:
                task.result()

        perform(world, test())
        story += [world.recorded, world.loop.steps, world.database.query("select * from minuet_store order by name")]
    return story


def test_a_seed_repeats_everything() -> None:
    assert _story(1) == _story(1)
    assert _story(1) != _story(2)
