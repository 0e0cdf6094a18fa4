"""The simulated broker: it passes the suite where nothing goes wrong, and each fault does what it says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Any

import pytest

from minuet.engine.broker import BrokerCapability, Received
from minuet.errors import BrokerUnavailable
from minuet.testing.broker_suite import BrokerSuite, MakeBroker, envelope
from minuet.testing.simulation import broker as broker_module
from minuet.testing.simulation.broker import Connection, SimulatedBroker, SimulatedSubscription
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop

UNTIL_QUIET_S = 1_000.0


def runs_on(loop: SimulationLoop, process: Process) -> Callable[[Any], None]:
    """Give what the suite runs its tests with, in place of `asyncio.run`."""
    return lambda test: loop.run_until_complete(process.spawn(test))


class OverWorld(BrokerSuite):
    """The suite, over the server of one simulated world."""

    faults = Faults()
    is_synced = True

    @pytest.fixture
    def broker(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeBroker]:
        chance = Chance(1)
        loop = SimulationLoop(chance)
        server, process = SimulatedBroker(loop, chance, self.faults, is_synced=self.is_synced), Process(loop, "p")
        assert server.capabilities == self.capabilities
        monkeypatch.setattr(asyncio, "run", runs_on(loop, process))
        yield lambda: server.connect(process)
        assert loop.failures == []
        loop.close()


class TestWithoutFaults(OverWorld):
    capabilities = frozenset(BrokerCapability) - {BrokerCapability.REPLAY}


class TestUnsyncedWithoutCrash(OverWorld):
    capabilities = frozenset({BrokerCapability.DURABLE, BrokerCapability.ORDERED})
    is_synced = False


class TestReordering(OverWorld):
    """It keeps every promise but that of order."""

    capabilities = frozenset({BrokerCapability.DURABLE, BrokerCapability.SYNCED})
    faults = Faults(reorder=0.3)


class Town:
    """A server, and processes that hear as `bank` and acknowledge what they heard, unless they are told not to."""

    def __init__(self, seed: int = 1, *, is_synced: bool = True, **faults: float) -> None:
        self.chance = Chance(seed)
        self.loop = SimulationLoop(self.chance)
        self.server = SimulatedBroker(self.loop, self.chance, Faults(**faults), is_synced=is_synced)
        self.shop = Process(self.loop, "shop")
        self.out = self.server.connect(self.shop)
        self.heard: list[tuple[str, str]] = []  # by which process, and which message
        self.at_s: dict[str, float] = {}  # when each was first heard
        self.received: list[Received] = []
        self.acknowledges = True

    def run(self, scenario: Awaitable[None]) -> None:
        self.loop.run_until_complete(scenario)

    async def listens(self, name: str, topics: Collection[str] = ("orders",), **how: Any) -> Process:
        """Have a new process hear."""
        process = Process(self.loop, name)
        await self.joins(process, self.server.connect(process), topics, **how)
        return process

    async def joins(
        self, process: Process, connection: Connection, topics: Collection[str] = ("orders",), **how: Any
    ) -> SimulatedSubscription:
        member: list[SimulatedSubscription] = []

        def deliver(batch: Sequence[Received]) -> None:
            self.received += batch
            for received in batch:
                self.heard.append((process.name, received.envelope.id))
                self.at_s.setdefault(received.envelope.id, self.loop.time())
            if self.acknowledges:
                member[0].acknowledge([received.tag for received in batch])

        async def subscribe() -> None:
            member.append(await connection.subscribe("bank", topics, deliver, **how))

        await self.of(process, subscribe())
        return member[0]

    async def of(self, process: Process, work: Any) -> Any:
        """Have something done in a process, and wait for it."""
        return await process.spawn(work)

    async def publish(self, ids: Sequence[str], topic: str = "orders") -> None:
        await self.of(self.shop, self.out.publish([envelope(i, topic, key=i) for i in ids]))

    async def publish_until_taken(self, ids: Sequence[str]) -> int:
        """Publish each until it is confirmed; give how often it had to be done again."""
        again = 0
        for i in ids:
            while True:
                try:
                    await self.publish([i])
                    break
                except BrokerUnavailable:
                    again += 1
        return again

    @property
    def ids(self) -> list[str]:
        return [i for _, i in self.heard]

    @property
    def first(self) -> list[str]:
        """The messages in the order in which each was heard first."""
        return list(dict.fromkeys(self.ids))


@pytest.fixture
def town() -> Iterator[Callable[..., Town]]:
    made: list[Town] = []

    def make(*args: Any, **faults: Any) -> Town:
        made.append(Town(*args, **faults))
        return made[-1]

    yield make
    for one in made:
        assert one.loop.failures == []
        one.loop.close()


Make = Callable[..., Town]
IDS = [f"m-{n:03}" for n in range(200)]


def test_without_faults_each_message_comes_once_within_milliseconds(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        await t.listens("bank/1")
        await t.publish(IDS)
        await asyncio.sleep(UNTIL_QUIET_S)

    t.run(scenario())
    assert t.ids == IDS
    assert max(t.at_s.values()) < 0.1
    assert (t.server.published, t.server.delivered, t.server.redelivered) == (200, 200, 0)
    assert not t.server.is_busy
    assert t.chance.struck == []


def test_the_same_seed_gives_the_same_deliveries() -> None:
    def story(seed: int) -> list[tuple[str, str]]:
        t = Town(seed, duplicate=0.2, delay=0.2, reorder=0.2, confirm_lost=0.2, acknowledgement_lost=0.2)

        async def scenario() -> None:
            await t.listens("bank/1")
            await t.listens("bank/2")
            await t.publish_until_taken(IDS)
            await asyncio.sleep(UNTIL_QUIET_S)

        t.run(scenario())
        t.loop.close()
        return t.heard

    assert story(1) == story(1)
    assert story(1) != story(2)


# Publishing


def test_a_lost_publication_is_told_and_was_taken_in_part_at_most(town: Make) -> None:
    t = town(publish_lost=1)

    async def scenario() -> None:
        await t.listens("bank/1")
        for n in range(0, 200, 10):
            before = t.loop.time()
            with pytest.raises(BrokerUnavailable):
                await t.publish(IDS[n : n + 10])
            assert t.loop.time() - before >= 1

    t.run(scenario())
    taken = Counter(int(i[2:]) // 10 for i in t.ids)
    assert 0 < len(taken) <= 20
    assert max(taken.values()) < 10, "one was taken whole"
    assert t.ids == sorted(t.ids)
    assert t.chance.counts["publish_lost"] == 20


def test_a_lost_confirm_is_told_and_all_was_taken(town: Make) -> None:
    t = town(confirm_lost=1)

    async def scenario() -> None:
        await t.listens("bank/1")
        with pytest.raises(BrokerUnavailable):
            await t.publish(IDS)

    t.run(scenario())
    assert t.ids == IDS
    assert t.chance.counts["confirm_lost"] == 1


# Delivering


def test_duplicates_come_soon_and_minutes_after_the_acknowledgement(town: Make) -> None:
    t = town(duplicate=0.5)

    async def scenario() -> None:
        await t.listens("bank/1")
        await t.publish(IDS)
        await asyncio.sleep(1)
        soon = len(t.ids)
        await asyncio.sleep(60)
        assert 200 < soon < len(t.ids)
        assert t.server.is_busy, "some come later still"
        await asyncio.sleep(UNTIL_QUIET_S)

    t.run(scenario())
    assert set(Counter(t.ids).values()) == {1, 2}
    assert len(t.ids) == 200 + t.chance.counts["duplicate"]
    assert not t.server.is_busy


def test_a_delayed_message_comes_up_to_half_a_minute_late(town: Make) -> None:
    t = town(delay=0.5)

    async def scenario() -> None:
        await t.listens("bank/1")
        await t.publish(IDS)
        await asyncio.sleep(UNTIL_QUIET_S)

    t.run(scenario())
    assert sorted(t.ids) == IDS
    assert 20 < max(t.at_s.values()) < 31
    assert t.server.capabilities.isdisjoint({BrokerCapability.ORDERED})


def test_reordered_messages_are_overtaken(town: Make) -> None:
    t = town(reorder=0.3)

    async def scenario() -> None:
        await t.listens("bank/1")
        await t.publish(IDS)
        await asyncio.sleep(UNTIL_QUIET_S)

    t.run(scenario())
    assert t.ids != IDS
    assert sorted(t.ids) == IDS


def test_what_was_acknowledged_in_vain_is_delivered_again(town: Make) -> None:
    t = town(acknowledgement_lost=0.5)

    async def scenario() -> None:
        await t.listens("bank/1")
        for i in IDS:
            await t.publish([i])
        await asyncio.sleep(UNTIL_QUIET_S)

    t.run(scenario())
    assert t.first == IDS
    assert t.server.redelivered == t.chance.counts["acknowledgement_lost"] > 50
    assert max(received.deliveries for received in t.received) > 2
    assert not t.server.is_busy


def test_processes_of_a_group_compete(town: Make) -> None:
    t = town(delay=0.01)  # a broker that keeps no order

    async def scenario() -> None:
        await t.listens("bank/1")
        await t.listens("bank/2")
        await t.publish(IDS)
        await asyncio.sleep(UNTIL_QUIET_S)

    t.run(scenario())
    assert sorted(t.ids) == IDS
    heard = Counter(name for name, _ in t.heard)
    assert heard["bank/1"] > 50
    assert heard["bank/2"] > 50


def test_what_was_released_comes_again_when_it_is_time(town: Make) -> None:
    t = town()
    t.acknowledges = False

    async def scenario() -> None:
        one = Process(t.loop, "bank/1")
        member = await t.joins(one, t.server.connect(one))
        await t.publish(["m-1", "m-2"])
        await asyncio.sleep(1)
        one.call(member.release, [t.received[0].tag], 10_000)
        await asyncio.sleep(9.9)
        assert t.ids == ["m-1", "m-2"]
        await asyncio.sleep(0.2)

    t.run(scenario())
    assert t.ids == ["m-1", "m-2", "m-1"]


def test_nothing_is_heard_after_closing(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        one = Process(t.loop, "bank/1")
        member = await t.joins(one, t.server.connect(one))
        await t.publish(IDS)  # they are on their way
        assert t.ids == []
        await t.of(one, member.close())
        await t.listens("bank/2")
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.heard == [("bank/2", i) for i in IDS]


def test_whoever_gives_up_publishing_harms_nobody(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        await t.listens("bank/1")
        publishing = t.shop.spawn(t.out.publish([envelope("m-1")]))
        await asyncio.sleep(0.0001)
        publishing.cancel()
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.ids == ["m-1"]


# Processes that die


def test_what_a_dead_process_had_not_acknowledged_goes_to_the_next_member(town: Make) -> None:
    t = town()
    t.acknowledges = False

    async def scenario() -> None:
        one = await t.listens("bank/1")
        await t.publish(IDS)
        await asyncio.sleep(1)
        assert len(t.ids) == 200
        t.acknowledges = True
        one.crash()
        await t.listens("bank/2")
        await t.publish(["after"])
        await asyncio.sleep(10)

    t.run(scenario())
    assert [name for name, _ in t.heard] == ["bank/1"] * 200 + ["bank/2"] * 201
    assert {received.deliveries for received in t.received[200:]} == {1, 2}
    assert set(t.ids[200:]) == {*IDS, "after"}


def test_what_comes_again_comes_before_what_waits(town: Make) -> None:
    t = town()
    t.acknowledges = False

    async def scenario() -> None:
        one = await t.listens("bank/1", prefetch=10)
        await t.publish(IDS)
        await asyncio.sleep(1)
        one.crash()
        await asyncio.sleep(10)
        t.heard.clear()
        t.acknowledges = True
        await t.listens("bank/2")
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.ids == IDS


def test_the_dead_acknowledge_nothing(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        one = Process(t.loop, "bank/1")
        member: list[SimulatedSubscription] = []

        def deliver(batch: Sequence[Received]) -> None:
            one.crash()
            member[0].acknowledge([received.tag for received in batch])

        async def subscribe() -> None:
            member.append(await t.server.connect(one).subscribe("bank", ["orders"], deliver))

        await t.of(one, subscribe())
        await t.publish(IDS)
        await t.listens("bank/2")
        await asyncio.sleep(10)

    t.run(scenario())
    assert t.first == IDS


def test_what_comes_while_nobody_lives_waits_for_the_group(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        one = await t.listens("bank/1")
        await t.publish(["before"])
        await asyncio.sleep(1)
        one.crash()
        await asyncio.sleep(100)
        await t.publish(IDS)
        await asyncio.sleep(100)
        assert t.ids == ["before"]
        assert t.server.is_busy
        await t.listens("bank/2")
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.heard == [("bank/1", "before"), *(("bank/2", i) for i in IDS)]


def test_who_dies_while_it_subscribes_holds_nothing(town: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_module, "BROKEN_S", (0.0, 0.0))  # it is seen before the subscription comes
    t = town()

    async def scenario() -> None:
        for n in range(20):
            one = Process(t.loop, f"dead/{n}")
            one.spawn(t.server.connect(one).subscribe("bank", ["orders"], lambda _: None))
            await asyncio.sleep(0.0001)
            one.crash()
        await asyncio.sleep(10)
        await t.listens("bank/1")
        await t.publish(IDS)
        await asyncio.sleep(10)

    t.run(scenario())
    assert t.heard == [("bank/1", i) for i in IDS]


def test_a_dead_publisher_may_have_published(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        await t.listens("bank/1")
        t.shop.spawn(t.out.publish([envelope("m-1")]))
        await asyncio.sleep(0.0001)
        t.shop.crash()
        await asyncio.sleep(1)
        t.shop.spawn(t.out.publish([envelope("m-2")]))
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.ids == ["m-1"]


def test_what_another_process_wants_stays_bound_when_one_changes_its_topics(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        await t.listens("bank/1", ["orders", "plan-1"])
        two = Process(t.loop, "bank/2")
        member = await t.joins(two, t.server.connect(two), ["orders"])
        await t.publish(["a"], "plan-1")
        await t.of(two, member.change(["orders", "plan-2"]))
        await t.publish(["b"], "plan-1")
        await t.publish(["c"], "plan-2")
        await t.of(two, member.change(["orders"]))
        await t.publish(["d"], "plan-2")
        await asyncio.sleep(1)

    t.run(scenario())
    assert sorted(t.ids) == ["a", "b", "c"]


def test_what_a_dead_process_wanted_stays_bound_until_another_comes(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        (await t.listens("bank/1", ["plan-1"])).crash()
        await asyncio.sleep(100)
        await t.publish(["a"], "plan-1")
        await t.listens("bank/2", ["plan-2"])
        await t.publish(["b"], "plan-1")
        await t.publish(["c"], "plan-2")
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.ids == ["a", "c"]


# Partitions


def test_a_partition_lets_nothing_pass_and_loses_nothing(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        one = await t.listens("bank/1")
        t.server.partition(one)
        await t.publish(IDS)
        await asyncio.sleep(60)
        assert t.ids == []
        with pytest.raises(BrokerUnavailable):
            await t.of(one, t.server.connect(one).publish([envelope("of the bank")]))
        t.server.heal(one)
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.first == IDS


@pytest.mark.parametrize("heals_after_s", [0.1, 60])
def test_what_was_under_way_when_a_partition_began_comes_when_it_has_ended(
    town: Make, heals_after_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "BROKEN_S", (1.0, 5.0))  # later than the shorter one ends
    t = town()

    async def scenario() -> None:
        one = await t.listens("bank/1")
        await t.publish(IDS)
        t.server.partition(one)  # what is delivered at this moment is lost
        await asyncio.sleep(heals_after_s)
        t.server.heal(one)
        await asyncio.sleep(1)
        assert t.first == IDS
        assert not t.server.is_busy
        await asyncio.sleep(10)
        await t.publish(["after"])
        await asyncio.sleep(1)

    t.run(scenario())
    assert "after" in t.ids


def test_others_of_the_group_take_what_a_process_behind_a_partition_had(town: Make) -> None:
    t = town()
    t.acknowledges = False

    async def scenario() -> None:
        one = await t.listens("bank/1")
        await t.publish(IDS)
        await asyncio.sleep(0.5)
        t.acknowledges = True
        await t.listens("bank/2")
        t.server.partition(one)
        await asyncio.sleep(10)

    t.run(scenario())
    assert t.heard == [(name, i) for name in ("bank/1", "bank/2") for i in IDS]


def test_one_way_a_process_hears_and_cannot_say_so(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        one = await t.listens("bank/1")
        t.server.partition(one, ["there"])
        await t.publish(["m-1"])
        await asyncio.sleep(0.1)
        assert t.ids == ["m-1"]
        assert t.server.is_busy, "the acknowledgement came through"
        await asyncio.sleep(10)
        t.server.heal(one)
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.ids == ["m-1", "m-1"]
    assert not t.server.is_busy


def test_the_other_way_a_process_is_heard_and_never_knows(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        await t.listens("bank/1")
        t.server.partition(t.shop, ["back"])
        with pytest.raises(BrokerUnavailable):
            await t.publish(["m-1"])

    t.run(scenario())
    assert t.ids == ["m-1"]


def test_healing_what_is_whole_repeats_nothing(town: Make) -> None:
    t = town()
    t.acknowledges = False

    async def scenario() -> None:
        one = await t.listens("bank/1")
        await t.publish(IDS)
        await asyncio.sleep(1)
        t.server.heal(one)
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.ids == IDS


# Crashes of the server


def test_a_synced_server_forgets_nothing_in_a_crash(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        await t.listens("bank/1", prefetch=5)
        again = 0
        for n, i in enumerate(IDS):
            if n % 20 == 0:
                t.server.crash()
            again += await t.publish_until_taken([i])
        assert again >= 10
        await asyncio.sleep(20)

    t.run(scenario())
    assert t.first == IDS
    assert "forgotten_tail" not in t.chance.counts
    assert not t.server.is_busy


def test_what_was_not_acknowledged_comes_again_after_a_crash(town: Make) -> None:
    t = town()
    t.acknowledges = False

    async def scenario() -> None:
        await t.listens("bank/1")
        await t.publish(IDS)
        await asyncio.sleep(1)
        t.server.crash()
        t.server.crash()  # it is away already
        await asyncio.sleep(20)

    t.run(scenario())
    assert t.ids == IDS + IDS


def test_what_comes_while_the_server_is_away_is_delivered_once_it_is_back(town: Make) -> None:
    t = town(delay=1)

    async def scenario() -> None:
        await t.listens("bank/1")
        await t.publish(IDS)
        t.server.crash()
        await asyncio.sleep(UNTIL_QUIET_S)

    t.run(scenario())
    assert sorted(t.ids) == IDS
    assert {received.deliveries for received in t.received} == {1}


@pytest.mark.parametrize("is_heard", [True, False])
def test_an_unsynced_server_forgets_its_last_two_seconds_at_most(town: Make, is_heard: bool) -> None:
    t = town(is_synced=False)

    async def scenario() -> None:
        one = await t.listens("bank/1", prefetch=10)
        t.acknowledges = False
        if not is_heard:
            one.crash()
        for i in IDS[:40]:
            await t.publish([i])
            await asyncio.sleep(0.1)
        t.server.crash()
        t.acknowledges = True
        await asyncio.sleep(20)
        t.heard.clear()
        await t.listens("bank/2")
        await t.publish(["after"])
        await asyncio.sleep(20)

    t.run(scenario())
    assert BrokerCapability.SYNCED not in t.server.capabilities
    assert t.chance.counts["forgotten_tail"] == 1
    heard = {received.envelope.id for received in t.received}
    lost = [i for i in IDS[:40] if i not in heard]
    assert 1 <= len(lost) <= 20
    assert lost == IDS[40 - len(lost) : 40]
    assert "after" in heard
    assert not t.server.is_busy


def test_how_much_is_forgotten_differs() -> None:
    def forgotten(seed: int) -> int:
        t = Town(seed, is_synced=False)

        async def scenario() -> None:
            await t.listens("bank/1", prefetch=1)
            t.acknowledges = False
            for i in IDS[:40]:
                await t.publish([i])
                await asyncio.sleep(0.1)
            t.acknowledges = True
            t.server.crash()
            await asyncio.sleep(20)

        t.run(scenario())
        t.loop.close()
        return 40 - len(set(t.ids))

    each = [forgotten(seed) for seed in range(5)]
    assert min(each) < 10 < max(each)


def test_a_late_message_is_forgotten_too(town: Make) -> None:
    t = town(is_synced=False, delay=1)

    async def scenario() -> None:
        await t.listens("bank/1")
        await t.publish(IDS)
        t.server.crash()
        await asyncio.sleep(UNTIL_QUIET_S)

    t.run(scenario())
    assert t.ids == []
    assert not t.server.is_busy


def test_whoever_changes_topics_while_the_server_is_away_waits_for_it(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        one = Process(t.loop, "bank/1")
        member = await t.joins(one, t.server.connect(one))
        t.server.crash()
        await t.of(one, member.change(["plan-1"]))
        await t.publish(["a"], "plan-1")
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.ids == ["a"]


def test_whoever_joined_without_knowing_hears_nothing_and_holds_nothing(town: Make) -> None:
    t = town()

    async def scenario() -> None:
        one = Process(t.loop, "bank/1")
        t.server.partition(one, ["back"])
        joining = asyncio.ensure_future(t.joins(one, t.server.connect(one)))
        await asyncio.sleep(0.5)
        t.server.partition(one)
        with pytest.raises(BrokerUnavailable):
            await joining
        await asyncio.sleep(0.1)
        t.server.heal(one)
        await t.publish(IDS)
        assert t.server.is_busy
        await t.joins(one, t.server.connect(one))
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.ids == IDS
    assert not t.server.is_busy


# Calm


def test_nothing_goes_wrong_once_all_is_calm(town: Make) -> None:
    t = town(publish_lost=0.5, confirm_lost=0.5, duplicate=0.5, delay=0.5, acknowledgement_lost=0.5)

    async def scenario() -> None:
        await t.listens("bank/1")
        await t.publish_until_taken(IDS[:20])
        t.chance.is_calm = True
        await asyncio.sleep(UNTIL_QUIET_S)
        t.heard.clear()
        await t.publish(IDS[20:])
        await asyncio.sleep(1)

    t.run(scenario())
    assert t.ids == IDS[20:]
