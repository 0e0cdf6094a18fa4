"""What the embedded broker does beyond the port: it reads nothing in vain, records at leisure, forgets, and doubts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from minuet.brokers.embedded import READ_MAX, EmbeddedBroker
from minuet.engine.broker import EVERYTHING, Received
from minuet.engine.port import Opened, Outcome
from minuet.engine.row import Decision, EventRow
from minuet.errors import AlreadyOpen, BrokerUnavailable, StoreUnavailable
from minuet.stores.sqlite.store import SqliteStore
from minuet.testing.broker_suite import Ear, envelope, listen
from minuet.testing.clock import ManualClock

SECOND = timedelta(seconds=1)
Outcomes = Callable[[Sequence[Outcome]], None]


class WatchedStore(SqliteStore):
    """Counts reads of the log, and can be made to fail like a disk: what was submitted may have been kept."""

    def __init__(self, file: Path | None = None) -> None:
        super().__init__(file)
        self.reads = 0
        self.read_errors = 0
        self.commits = 0
        self.keeps: list[
            str
        ] = []  # for each publication to come that fails: whether it is kept `now`, `later`, `never`
        self.is_silent = False  # outcomes are told later, by `speak`
        self._failing: list[Decision] = []
        self._late: list[Decision] = []
        self._told_already: list[Decision] = []
        self._untold: list[Outcome] = []

    async def open(self, on_outcomes: Outcomes) -> Opened:
        self._on_outcomes = on_outcomes
        return await super().open(self._tell)

    def submit(self, decision: Decision) -> None:
        for late in self._late:
            super().submit(late)
        self._late.clear()
        if self.keeps and decision.messages is not None and decision.messages.outbox:
            fate = self.keeps.pop(0)
            if fate == "later":  # it is in the log of the disk, and seen when that is read again
                self._late.append(decision)
                error = StoreUnavailable("the disk failed")
                asyncio.get_running_loop().call_soon(self._on_outcomes, [Outcome(decision, None, error)])
                self._told_already.append(decision)
                return
            self._failing.append(decision)
            if fate == "never":
                decision.messages.outbox = []
        super().submit(decision)

    def speak(self) -> None:
        """Tell what was not told."""
        self.is_silent = False
        self._tell(self._untold)

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        self.commits += 1
        if self.is_silent:
            self._untold += outcomes
            return
        told = []
        for outcome in outcomes:
            if outcome.decision in self._told_already:
                continue
            if outcome.decision in self._failing:
                told.append(outcome._replace(error=StoreUnavailable("the disk failed")))
            else:
                told.append(outcome)
        self._on_outcomes(told)

    async def last_entry(self) -> int:
        """Be a store that knows no entries but those of the log, as others may."""
        return max([row.entry or 0 for row in await super().log_after(0, 10_000)], default=0)

    async def log_after(self, after: int, limit: int) -> list[EventRow]:
        self.reads += 1
        if self.read_errors:
            self.read_errors -= 1
            raise StoreUnavailable("the disk failed")
        return await super().log_after(after, limit)


class Place:
    """An open broker with its store and a clock that a test moves."""

    def __init__(self, file: Path | None = None, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock()
        self.store = WatchedStore(file)
        self.broker = EmbeddedBroker(self.store, self.clock)

    async def positions(self) -> dict[str, int]:
        return {row.name: row.position for row in await self.store.subscriptions()}

    async def advance(self, by: timedelta) -> None:
        """Move the time; a commit that it causes has happened then."""
        await self.clock.advance(by)
        await self.broker.publish([envelope(f"settled-{self.clock.now_ms()}-{self.store.commits}", "settled")])


@asynccontextmanager
async def opened(file: Path | None = None, clock: ManualClock | None = None) -> AsyncIterator[Place]:
    place = Place(file, clock)
    await place.broker.open()
    try:
        yield place
    finally:
        await place.broker.close()


def run(test: Awaitable[None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(in_time())


async def crash(place: Place) -> None:
    """End without the broker's knowing: nothing more is recorded."""
    await place.store.close()


async def released(ear: Ear, ids: Sequence[str], delay_ms: int) -> None:
    assert ear.subscription is not None
    ear.subscription.release([r.tag for r in ear.heard if r.envelope.id in ids], delay_ms)


async def gone(ear: Ear) -> None:
    assert ear.subscription is not None
    await ear.subscription.close()


def test_who_is_caught_up_is_handed_what_is_published_without_a_read() -> None:
    async def test() -> None:
        async with opened() as place:
            ears = [await listen(place.broker, f"g-{n}") for n in range(5)]
            await place.broker.publish([envelope("first")])
            for ear in ears:
                await ear.hear(["first"])
            before = place.store.reads
            for n in range(50):
                await place.broker.publish([envelope(f"m-{n}")])
            for ear in ears:
                await ear.hear(["m-49"])
                assert len(ear.heard) == 51
            assert place.store.reads == before

    run(test())


def test_an_idle_broker_does_nothing() -> None:
    async def test() -> None:
        async with opened() as place:
            ear = await listen(place.broker, "bank")
            await place.broker.publish([envelope("m-1")])
            await ear.hear(["m-1"])
            await asyncio.sleep(0)  # it acknowledges
            while (await place.positions())["bank"] != 1:
                await place.clock.advance(SECOND)
            reads, commits = place.store.reads, place.store.commits
            await place.clock.advance(timedelta(hours=1))
            assert (place.store.reads, place.store.commits) == (reads, commits)

    run(test())


def test_who_is_behind_is_read_for_in_batches() -> None:
    async def test() -> None:
        async with opened() as place:
            ids = [f"m-{n:04}" for n in range(5 * READ_MAX)]
            await place.broker.publish([envelope(i) for i in ids])
            ear = await listen(place.broker, "bank", start="beginning", prefetch=100)
            await ear.hear(ids)
            assert ear.ids == ids
            assert place.store.reads <= 8

    run(test())


def test_publications_at_the_same_time_share_commits() -> None:
    async def test() -> None:
        async with opened() as place:
            await asyncio.gather(*(place.broker.publish([envelope(f"m-{n}")]) for n in range(500)))
            assert place.store.commits < 50

    run(test())


def test_an_identity_is_in_the_log_once() -> None:
    async def test() -> None:
        async with opened() as place:
            await place.broker.publish([envelope("m-1"), envelope("m-2")])
            await place.broker.publish([envelope("m-1"), envelope("m-3"), envelope("m-1")])
            ear = await listen(place.broker, "bank", start="beginning")
            await ear.hear(["m-3"])
            assert ear.ids == ["m-1", "m-2", "m-3"]
            for _ in range(100):
                await asyncio.sleep(0)
            assert place.store.reads == 2, "it looks for what is not there"  # one when it was opened

    run(test())


def test_what_was_read_before_its_commit_was_told_is_given_once() -> None:
    async def test() -> None:
        async with opened() as place:
            place.store.is_silent = True
            publishing = asyncio.ensure_future(place.broker.publish([envelope("m-1"), envelope("m-2")]))
            while not place.store.commits:
                await asyncio.sleep(0)
            place.store.is_silent = False  # for what is told of the group
            ear = await listen(place.broker, "bank", start="beginning")
            await ear.hear(["m-2"])
            place.store.speak()
            await publishing
            await place.broker.publish([envelope("m-3")])
            await ear.hear(["m-3"])
            assert ear.ids == ["m-1", "m-2", "m-3"]

    run(test())


def test_a_crash_repeats_what_was_acknowledged_in_the_last_second_at_most(tmp_path: Path) -> None:
    async def test() -> None:
        file, clock = tmp_path / "broker.db", ManualClock()
        place = Place(file, clock)
        await place.broker.open()
        ear = await listen(place.broker, "bank")
        await place.broker.publish([envelope(f"old-{n}") for n in range(9)])
        await ear.hear(["old-8"])
        await asyncio.sleep(0)  # it acknowledges
        await place.advance(SECOND)
        await place.broker.publish([envelope(f"new-{n}") for n in range(3)])
        await ear.hear(["new-2"])
        await crash(place)
        async with opened(file, clock) as after:
            again = await listen(after.broker, "bank")
            await again.hear(["new-0", "new-1", "new-2"])
            assert set(again.ids) == {"new-0", "new-1", "new-2"}

    run(test())


def test_a_position_stops_before_what_is_not_acknowledged(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "broker.db") as place:
            ear = await listen(place.broker, "bank", ear=Ear(acknowledges=False))
            await place.broker.publish([envelope(f"m-{n}") for n in range(1, 6)])
            await ear.hear(["m-5"])
            for done, position in ((["m-2", "m-4"], 0), (["m-1"], 2), (["m-3"], 4)):
                ear.acknowledge([r for r in ear.heard if r.envelope.id in done])
                await place.advance(SECOND)
                assert (await place.positions())["bank"] == position

    run(test())


def test_a_position_moves_over_what_the_group_does_not_hear(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "broker.db") as place:
            await place.broker.publish([envelope(f"m-{n}") for n in range(1, 6)])
            await place.clock.advance(2 * SECOND)
            await listen(place.broker, "bank", ["nothing"], start="beginning")
            while (await place.positions())["bank"] != 5:
                await place.clock.advance(SECOND)

    run(test())


def test_closing_records_how_far_everybody_has_come(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "broker.db") as place:
            ear = await listen(place.broker, "bank")
            await place.broker.publish([envelope("m-1"), envelope("m-2")])
            await ear.hear(["m-2"])
            await asyncio.sleep(0)  # it acknowledges
        async with opened(tmp_path / "broker.db") as place:
            assert await place.positions() == {"bank": 2}

    run(test())


def test_what_waits_for_room_when_the_broker_is_closed_is_given_after_opening(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "broker.db") as place:
            await place.broker.publish([envelope(f"m-{n}") for n in range(10)])
            ear = await listen(place.broker, "bank", start="beginning", ear=Ear(acknowledges=False), prefetch=2)
            await ear.hear(["m-1"])
            ear.acknowledge()
            await gone(ear)
        async with opened(tmp_path / "broker.db") as place:
            again = await listen(place.broker, "bank")
            await again.hear([f"m-{n}" for n in range(2, 10)])
            assert "m-0" not in again.ids

    run(test())


def test_each_member_is_given_what_it_agreed_to_and_keys_stay_with_it() -> None:
    async def test() -> None:
        async with opened() as place:
            ears = [Ear(acknowledges=False), Ear(acknowledges=False)]
            for prefetch, ear in zip((3, 5), ears, strict=True):
                await listen(place.broker, "bank", ear=ear, prefetch=prefetch)
            other = await listen(place.broker, "other")
            await place.broker.publish([envelope(f"m-{n}", key=f"o-{n % 2 * 4 + n // 2 % 4}") for n in range(96)])
            await other.hear(["m-95"])
            for ear in ears:
                await ear.until(lambda e: bool(e.heard))
            for _ in range(100):
                assert len(ears[0].heard) <= 3
                assert len(ears[1].heard) <= 5
                await asyncio.sleep(0)
            for _ in range(100):
                for ear in ears:
                    ear.acknowledge()
                await asyncio.sleep(0)
                if len(ears[0].heard) + len(ears[1].heard) == 96:
                    break
            one, two = ({r.envelope.key for r in ear.heard} for ear in ears)
            assert one | two == {f"o-{n}" for n in range(8)}
            assert not one & two

    run(test())


def test_who_leaves_while_it_is_read_for_misses_nothing_afterwards() -> None:
    async def test() -> None:
        async with opened() as place:
            await place.broker.publish([envelope("m-1")])
            reads = place.store.reads
            ear = await listen(place.broker, "bank", start="beginning")
            while place.store.reads == reads:
                await asyncio.sleep(0)
            await gone(ear)
            other = await listen(place.broker, "other")  # its own reads come after that one
            await place.broker.publish([envelope("m-2")])
            await other.hear(["m-2"])
            again = await listen(place.broker, "bank")
            await again.hear(["m-1", "m-2"])

    run(test())


def test_a_group_that_is_no_more_is_given_nothing() -> None:
    async def test() -> None:
        async with opened() as place:
            ear = await listen(place.broker, "bank", prefetch=1)
            other = await listen(place.broker, "other")
            await place.broker.publish([envelope(f"m-{n}") for n in range(300)])
            await place.broker.leave("bank")
            heard = len(ear.heard)
            await place.broker.publish([envelope("m-last")])
            await other.hear(["m-last"])
            assert len(ear.heard) == heard
            await place.broker.leave("unheard-of")

    run(test())


def test_what_was_released_comes_again_when_its_time_has_come() -> None:
    async def test() -> None:
        async with opened() as place:
            ear = await listen(place.broker, "bank", ear=Ear(acknowledges=False))
            await place.broker.publish([envelope("m-1"), envelope("m-2"), envelope("m-3")])
            await ear.hear(["m-3"])
            await released(ear, ["m-1"], 20_000)
            await released(ear, ["m-3", "m-2"], 10_000)
            await released(ear, ["m-3"], 0)  # it is not there any more: no news
            ear.heard.clear()
            await place.clock.advance(timedelta(milliseconds=9_999))
            assert ear.ids == []
            await place.clock.advance(timedelta(milliseconds=1))
            assert [(r.envelope.id, r.deliveries) for r in ear.heard] == [("m-2", 2), ("m-3", 2)]
            await place.clock.advance(10 * SECOND)
            assert ear.ids == ["m-2", "m-3", "m-1"]

    run(test())


def test_what_was_released_counts_as_given_so_that_memory_has_a_bound() -> None:
    async def test() -> None:
        async with opened() as place:
            ear = await listen(place.broker, "bank", ear=Ear(acknowledges=False), prefetch=4)
            other = await listen(place.broker, "other")
            await place.broker.publish([envelope(f"m-{n}") for n in range(20)])
            await ear.until(lambda e: len(e.heard) == 4)
            await released(ear, ear.ids, 1_000)
            for _ in range(10):
                await asyncio.sleep(0)
            await place.broker.publish([envelope("m-x")])
            await other.hear(["m-x"])
            assert len(ear.heard) == 4
            await place.clock.advance(SECOND)
            assert ear.ids == [*ear.ids[:4]] * 2

    run(test())


def test_a_subscriber_that_fails_harms_nobody_and_is_given_the_same_again() -> None:
    async def test() -> None:
        class Bad(Ear):
            def deliver(self, batch: Sequence[Received]) -> None:
                super().deliver(batch)
                if len(self.heard) == 1:
                    raise ValueError("not today")

        async with opened() as place:
            bad = await listen(place.broker, "bad", ear=Bad(acknowledges=False))
            good = await listen(place.broker, "good")
            await place.broker.publish([envelope("m-1")])
            await good.hear(["m-1"])
            await bad.hear(["m-1"])  # perhaps later than the other: each group reads for itself what it begins with
            assert bad.ids == ["m-1"]
            await place.clock.advance(SECOND)
            assert bad.ids == ["m-1", "m-1"]

    run(test())


@pytest.mark.parametrize("keeps", ["now", "later", "never"])
def test_a_commit_that_failed_and_was_kept_is_heard_all_the_same(keeps: str) -> None:
    async def test() -> None:
        async with opened() as place:
            ear = await listen(place.broker, "bank")
            await gone(await listen(place.broker, "late"))
            await place.broker.publish([envelope("m-1")])
            await ear.hear(["m-1"])
            place.store.keeps = [keeps]
            with pytest.raises(BrokerUnavailable, match="the disk failed"):
                await place.broker.publish([envelope("m-2")])
            late = await listen(place.broker, "late")
            await late.hear(["m-1"])
            await place.broker.publish([envelope("m-3")])
            for one in (ear, late):
                await one.hear(["m-3"])
                assert one.ids == (["m-1", "m-3"] if keeps == "never" else ["m-1", "m-2", "m-3"])
            await place.broker.publish([envelope("m-2")])  # the same again is safe
            await ear.hear(["m-2"])
            await place.broker.publish([envelope("m-4")])
            await ear.hear(["m-4"])
            reads = place.store.reads
            await place.broker.publish([envelope("m-5")])
            await ear.hear(["m-5"])
            assert place.store.reads == reads, "it still doubts"

    run(test())


def test_who_is_behind_is_given_everything_also_while_it_is_unknown_what_was_kept() -> None:
    async def test() -> None:
        async with opened() as place:
            ids = [f"m-{n}" for n in range(2 * READ_MAX)]
            await gone(await listen(place.broker, "bank"))
            await place.broker.publish([envelope(i) for i in ids])
            place.store.keeps = ["now"]
            with pytest.raises(BrokerUnavailable):
                await place.broker.publish([envelope("failed")])
            ear = await listen(place.broker, "bank", prefetch=50)
            await ear.hear([*ids, "failed"])
            reads = place.store.reads
            for _ in range(100):
                await asyncio.sleep(0)
            assert place.store.reads <= reads + 1, "it reads for ever"
            await place.broker.publish([envelope("next")])
            await ear.hear(["next"])
            assert len(ear.ids) == len(ids) + 2

    run(test())


def test_a_log_that_cannot_be_read_is_read_again_later() -> None:
    async def test() -> None:
        async with opened() as place:
            await place.broker.publish([envelope("m-1")])
            place.store.read_errors = 2
            ear = await listen(place.broker, "bank", start="beginning")
            for _ in range(2):
                while place.store.read_errors == 2:
                    await asyncio.sleep(0)
                await place.clock.advance(SECOND)
            await ear.hear(["m-1"])

    run(test())


def test_only_what_every_group_has_passed_and_is_old_is_forgotten(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "broker.db") as place:
            quick = await listen(place.broker, "quick", [EVERYTHING])
            slow = await listen(place.broker, "slow", ear=Ear(acknowledges=False))
            absent = await listen(place.broker, "absent")
            await place.broker.publish([envelope("m-1"), envelope("m-2")])
            await absent.hear(["m-2"])
            await asyncio.sleep(0)
            await gone(absent)
            await place.clock.advance(SECOND)
            middle = place.clock.now_ms()
            await place.broker.publish([envelope("m-3"), envelope("m-4")])
            for ear in (quick, slow):
                await ear.hear(["m-4"])
            later = place.clock.now_ms() + 1
            assert await place.broker.forget(later) == 0, "a group has not acknowledged it"
            slow.acknowledge()
            assert await place.broker.forget(0) == 0, "it is too young"
            assert await place.broker.forget(middle, 1) == 1
            assert await place.broker.forget(middle) == 1
            assert await place.broker.forget(later) == 0, "an absent group has not heard it"
            await place.broker.leave("absent")
            assert await place.broker.forget(later) == 2
            back = await listen(place.broker, "absent")
            await place.broker.publish([envelope("m-5")])
            await back.hear(["m-5"])
            assert back.ids == ["m-5"]

    run(test())


def test_a_group_that_nobody_subscribed_to_since_opening_keeps_what_it_has_not_heard(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "broker.db") as place:
            await listen(place.broker, "bank", ear=Ear(acknowledges=False))
            await place.broker.publish([envelope("m-1")])
        async with opened(tmp_path / "broker.db") as place:
            assert await place.broker.forget(place.clock.now_ms() + 1) == 0

    run(test())


def test_entries_go_on_after_a_repetition_was_the_last_that_was_heard(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "broker.db") as place:
            ear = await listen(place.broker, "bank")
            await place.broker.publish([envelope("m-1")])
            await ear.hear(["m-1"])  # so it has caught up
            await place.broker.publish([envelope("m-1")] * 5)
            await ear.until(lambda e: len(e.heard) == 6)
            await asyncio.sleep(0)
        async with opened(tmp_path / "broker.db") as place:
            ear = await listen(place.broker, "bank")
            await place.broker.publish([envelope("m-2")])
            await ear.hear(["m-2"])

    run(test())


def test_a_clock_that_goes_back_between_two_openings_hides_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "broker.db", ManualClock(20_000)) as place:
            await place.broker.publish([envelope("m-1")])
        async with opened(tmp_path / "broker.db", ManualClock(10_000)) as place:
            await place.broker.publish([envelope("m-2"), envelope("m-3")])
            ear = await listen(place.broker, "bank", start=15_000)
            await ear.hear(["m-1", "m-2", "m-3"])

    run(test())


def test_a_broker_that_is_not_open_takes_nothing() -> None:
    async def test() -> None:
        place = Place()
        with pytest.raises(BrokerUnavailable):
            await place.broker.publish([envelope("m-1")])
        await place.broker.open()
        await place.broker.close()
        for verb in (place.broker.publish([envelope("m-1")]), listen(place.broker, "bank")):
            with pytest.raises(BrokerUnavailable):
                await verb

    run(test())


def test_what_was_published_when_it_is_closed_is_told() -> None:
    async def test() -> None:
        place = Place()
        await place.broker.open()
        publications = [asyncio.ensure_future(place.broker.publish([envelope(f"m-{n}")])) for n in range(10)]
        await asyncio.sleep(0)
        await place.broker.close()
        await asyncio.gather(*publications)

    run(test())


def test_a_second_broker_over_the_same_file_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with opened(tmp_path / "broker.db"):
            other = Place(tmp_path / "broker.db")
            with pytest.raises(AlreadyOpen):
                await other.broker.open()
            await other.broker.close()

    run(test())


def test_publishers_that_gave_up_harm_nobody() -> None:
    async def test() -> None:
        async with opened() as place:
            ear: Any = await listen(place.broker, "bank")
            gone = asyncio.ensure_future(place.broker.publish([envelope("m-1")]))
            await asyncio.sleep(0)
            gone.cancel()
            await place.broker.publish([envelope("m-2")])
            await ear.hear(["m-1", "m-2"])

    run(test())
