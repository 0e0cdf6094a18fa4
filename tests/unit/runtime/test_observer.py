"""What the observer says of runs that are late or stuck: once, to whoever reacts, and nothing of those that go on."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minuet import App, Rejection, Run, RunLate, RunStuck, Service, action, event, on, sleep, wait_for, workflow
from minuet.observe.usual import Place, Took
from minuet.runtime import observer as module
from minuet.runtime.observer import Observer
from minuet.runtime.settings import load_settings
from minuet.testing.clock import ManualClock
from tests.unit.runtime.conftest import until

pytestmark = pytest.mark.asyncio

MS, SECOND, MINUTE, HOUR = (timedelta(**{unit: 1}) for unit in ("milliseconds", "seconds", "minutes", "hours"))


@event("carrier.picked-up", version=1, key="parcel")
class PickedUp(msgspec.Struct, frozen=True):
    parcel: str


@event("carrier.delivered", version=1, key="parcel")
class Delivered(msgspec.Struct, frozen=True):
    parcel: str


class Broken(Rejection): ...


class Desk(Service):
    """Sends parcels; what it cannot label needs a person."""

    @action
    async def label(self, parcel: str) -> str:
        return parcel

    @action
    async def weigh(self, parcel: str) -> str:
        if parcel == "broken":
            raise Broken("it does not declare that")
        return parcel


class Phone(Service):
    """Calls somebody."""

    def __init__(self) -> None:
        self.late: list[RunLate] = []
        self.stuck: list[RunStuck] = []

    @on(RunLate)
    async def call_about_late(self, said: RunLate) -> None:
        self.late.append(said)

    @on(RunStuck)
    async def call_about_stuck(self, said: RunStuck) -> None:
        self.stuck.append(said)


@workflow
async def parcel(name: str, *, desk: Desk) -> None:
    label = await desk.label(name)
    await wait_for(PickedUp, key=label, by=desk)


@workflow
async def weighed(name: str, *, desk: Desk) -> str:
    return await desk.weigh(name)


@workflow
async def slowly(name: str, *, desk: Desk) -> None:
    await sleep(timedelta(days=2))
    await desk.label(name)


@workflow
async def delivered(name: str, *, desk: Desk) -> None:
    await wait_for(PickedUp, key=name, by=desk)
    await wait_for(Delivered, key=name, by=desk)


NEVER_MS = 10**9  # it looks only when a test says so
FLOWS: list[Any] = [parcel, weighed, slowly, delivered]


class Post:
    """An open app, its clock, and whoever is called."""

    def __init__(self, app: App, clock: ManualClock, phone: Phone, first: int) -> None:
        self.app, self.clock, self.phone, self.first = app, clock, phone, first

    @property
    def watch(self) -> Observer:
        watch = self.app.hosts.watch
        assert watch is not None
        return watch

    async def after(self, by: timedelta) -> None:
        """Let time pass, and look: at once, since whoever wakes each second has nothing to do here."""
        self.clock._now_ms += by // MS
        await self.clock.advance(MS)
        await self.watch.look()

    async def waits(self, run: Run[Any], what: str = "event") -> None:
        """Wait until a run waits for something, durably: the observer sees no more than what is in the store."""
        runs = self.app.hosts.home.participant.runs

        async def is_there() -> bool:
            is_durable = not any(k.uncommitted for k in runs.values())
            return is_durable and [w.what for w in await run.waiting()] == [what]

        await until(is_there)

    async def sent(self, name: str) -> Run[Any]:
        """Start a parcel that waits to be picked up."""
        run = await self.app.start(parcel, name, key=name)
        await self.waits(run)
        return run

    async def picked_up(self, run: Run[Any], name: str) -> None:
        await self.app.send(PickedUp(name))
        await run.result(60)

    async def usually(self, takes: timedelta, count: int = 20) -> None:
        """Have parcels picked up after some time, and that learnt."""
        for n in range(count):
            run = await self.sent(f"before-{n}")
            await self.clock.advance(takes)
            await self.picked_up(run, f"before-{n}")
        for _ in FLOWS:  # one after the other
            await self.after(11 * SECOND)

    async def called(self) -> tuple[int, int]:
        """Give how many alarms were heard, once all that were published since the start are."""
        store = self.app.hosts.home.store
        late = await store.events_after("minuet.run-late", self.first, 1_000)
        stuck = await store.events_after("minuet.run-stuck", self.first, 1_000)

        async def is_heard() -> bool:
            return (len(self.phone.late), len(self.phone.stuck)) == (len(late), len(stuck))

        await until(is_heard)
        return len(late), len(stuck)


@asynccontextmanager
async def post(store: str = "sqlite://", clock: ManualClock | None = None, **more: Any) -> AsyncIterator[Post]:
    clock, phone = clock or ManualClock(), Phone()
    app = App("post", services=[Desk(), phone], workflows=FLOWS, store=store, clock=clock, **more)
    async with app:
        yield Post(app, clock, phone, await app.hosts.home.store.last_entry())


@pytest.fixture
def file(tmp_path: Path) -> str:
    return f"sqlite:///{(tmp_path / 'post.db').as_posix()}"


async def test_what_takes_ten_times_longer_than_usual_is_late_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with post() as p:
        await p.usually(4 * SECOND)
        run = await p.sent("p-1")
        since = (await run.waiting())[0].since_ms
        await p.after(39 * SECOND)
        assert await p.called() == (0, 0)
        with caplog.at_level(logging.WARNING, "minuet"):
            await p.after(2 * SECOND)
            for _ in range(3):
                await p.after(2 * HOUR)
        assert await p.called() == (1, 0)
        said = p.phone.late[0]
        assert (said.run, said.key, said.workflow, said.position) == (run.id, "p-1", "parcel", "2")
        assert (said.what, said.needs, said.owner) == ("event", "carrier.picked-up p-1", "orchestrator")
        assert (said.since_ms, said.usual_ms, said.expected_ms - since) == (since, 4_000, 40_000)
        assert said.text.startswith("waiting for carrier.picked-up p-1 from orchestrator since 2026-01-01T00:")
        assert said.text.endswith("Z, expected within 40 seconds")
        logged = [r.getMessage() for r in caplog.records if "is late" in r.getMessage()]
        assert logged == [f"run {run.id} of parcel, key 'p-1', is late: {said.text}"]


async def test_what_is_quick_is_given_half_a_minute() -> None:
    async with post() as p:
        await p.usually(40 * MS)
        await p.sent("p-1")
        await p.after(29 * SECOND)
        assert await p.called() == (0, 0)
        await p.after(2 * SECOND)
        assert await p.called() == (1, 0)


async def test_what_nothing_is_known_of_is_given_an_hour() -> None:
    async with post() as p:
        await p.sent("p-1")
        await p.after(59 * MINUTE)
        assert await p.called() == (0, 0)
        await p.after(2 * MINUTE)
        assert await p.called() == (1, 0)
        assert p.phone.late[0].usual_ms is None


async def test_what_is_learnt_meanwhile_counts_for_those_that_wait_already() -> None:
    async with post() as p:
        await p.sent("p-1")
        await p.after(MINUTE)
        p.watch.usuals.learn([Took(Place("parcel", "2", "carrier.picked-up"), 1_000)])
        await p.after(9 * MINUTE)
        assert await p.called() == (0, 0)
        await p.after(2 * MINUTE)
        assert await p.called() == (1, 0)


async def test_a_sleep_is_not_late_before_its_time() -> None:
    async with post() as p:
        run = await p.app.start(slowly, "x")
        await p.waits(run, "timer")
        await p.after(timedelta(days=1, hours=23))
        assert await p.called() == (0, 0)


async def test_a_run_that_goes_on_publishes_nothing_more_and_is_on_no_list() -> None:
    async with post() as p:
        await p.usually(1 * SECOND)
        run = await p.sent("p-1")
        await p.after(31 * SECOND)
        assert [v.run for v in await p.app.control.runs(late=True)] == [run.id]
        await p.picked_up(run, "p-1")
        await p.after(2 * HOUR)
        assert await p.called() == (1, 0)
        assert await p.app.control.runs(late=True) == []
        assert p.watch.late == {}


async def test_a_run_that_has_ended_is_learnt_from_and_forgotten_with_the_next_look() -> None:
    async with post() as p:
        for _ in FLOWS:
            await p.after(11 * SECOND)
        run = await p.sent("p-1")
        await p.after(20 * SECOND)
        assert len(p.watch._next) == 1
        await p.picked_up(run, "p-1")
        await p.watch.look()
        assert p.watch._next == {}
        usual = p.watch.usuals.of(Place("parcel", "2", "carrier.picked-up"))
        assert usual is not None
        assert usual.outcomes == 1
        assert 20_000 <= usual.median_ms < 21_000


async def test_a_run_that_was_late_and_has_moved_on_is_on_no_list_any_more() -> None:
    async with post() as p:
        run = await p.app.start(delivered, "p-1", key="p-1")
        await p.waits(run)
        await p.after(MINUTE)
        await p.after(2 * HOUR)
        assert len(p.watch.late) == 1
        await p.app.send(PickedUp("p-1"))
        await until(lambda: _needs(run, "carrier.delivered p-1"))
        await p.after(11 * SECOND)
        await p.after(11 * SECOND)
        assert p.watch.late == {}


async def test_a_paused_run_is_not_late() -> None:
    async with post() as p:
        await p.usually(1 * SECOND)
        run = await p.sent("p-1")
        await run.pause()
        await p.after(2 * HOUR)
        assert await p.called() == (0, 0)
        assert [w.late for w in await run.waiting()] == [False]


async def test_what_needs_a_person_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    async with post() as p:
        run = await p.app.start(weighed, "broken", key="w-1")
        await p.waits(run, "person")
        with caplog.at_level(logging.WARNING, "minuet"):
            for _ in range(3):
                await p.after(2 * HOUR)
        assert await p.called() == (0, 1)
        said = p.phone.stuck[0]
        assert (said.run, said.key, said.position, said.needs, said.owner) == (run.id, "w-1", "1", "desk.weigh", "desk")
        assert "it does not declare that" in said.reason
        assert said.text == f"1 desk.weigh of desk needs a person: {said.reason}"
        assert len([r for r in caplog.records if "is stuck" in r.getMessage()]) == 1


async def test_an_alarm_is_not_repeated_when_the_program_is_started_again(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock()
    async with post(file, clock) as p:
        await p.usually(1 * SECOND)
        await p.sent("p-1")
        run = await p.app.start(weighed, "broken")
        await p.waits(run, "person")
        await p.after(31 * SECOND)
        assert await p.called() == (1, 1)
    caplog.clear()
    async with post(file, clock) as p:
        await p.after(2 * MINUTE)
        assert await p.called() == (0, 0)
        assert [v.key for v in await p.app.control.runs(late=True)] == ["p-1"]
    assert [r for r in caplog.records if "is late" in r.getMessage() or "is stuck" in r.getMessage()] == []


async def test_what_stood_still_with_the_program_is_not_late_at_once(file: str) -> None:
    clock = ManualClock()
    async with post(file, clock) as p:
        await p.usually(1 * SECOND)
        run = await p.sent("p-1")
    await clock.advance(8 * HOUR)
    async with post(file, clock) as p:
        await p.after(20 * SECOND)
        assert await p.called() == (0, 0)
        await p.after(11 * SECOND)
        assert await p.called() == (1, 0)
        assert p.phone.late[0].run == run.id


async def test_what_is_usual_is_known_again_after_a_start_and_shown_with_each_wait(file: str) -> None:
    clock = ManualClock()
    async with post(file, clock) as p:
        await p.usually(4 * SECOND)
    async with post(file, clock) as p:
        run = await p.sent("p-1")
        await p.after(1 * SECOND)
        (w,) = await run.waiting()
        assert (w.usual_ms, w.expected_ms, w.late) == (4_000, w.since_ms + 40_000, False)
        await p.after(1 * MINUTE)
        (w,) = await run.waiting()
        assert w.late
        stuck = await p.app.start(weighed, "broken")
        await p.waits(stuck, "person")
        assert [(w.usual_ms, w.expected_ms, w.late) for w in await stuck.waiting()] == [(None, None, False)]


async def test_what_a_run_waits_for_next_is_late_at_its_own_time() -> None:
    """It was looked at while it waited for something that may take an hour."""
    async with post() as p:
        run = await p.app.start(delivered, "p-1", key="p-1")
        await p.waits(run)
        await p.after(MINUTE)
        p.watch.usuals.learn([Took(Place("delivered", "2", "carrier.delivered"), 1_000)])
        await p.app.send(PickedUp("p-1"))
        await until(lambda: _needs(run, "carrier.delivered p-1"))
        await p.after(SECOND)
        assert await p.called() == (0, 0)
        await p.after(10 * SECOND)
        await p.after(20 * SECOND)
        assert await p.called() == (1, 0)
        assert p.phone.late[0].needs == "carrier.delivered p-1"


async def test_many_waiting_runs_cost_a_look_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RUNS", 50)
    monkeypatch.setattr(module, "LEARNED", 0)
    monkeypatch.setattr(module, "LOOK_EVERY_MS", NEVER_MS)
    async with post() as p:
        await p.watch.look()
        for n in range(120):
            await p.app.start(parcel, f"p-{n}", key=f"p-{n}")
        await until(lambda: _waiting(p, 120))
        read = reads(p, monkeypatch)
        in_memory = set(p.app.hosts.home.participant.runs)
        await p.after(11 * SECOND)
        assert sum(read) == 50, "a look reads no more than it may"
        for _ in range(4):
            await p.watch.look()
        assert sum(read) == 120, "and each run once"
        read.clear()
        for _ in range(5):
            await p.after(MINUTE)
        assert read == [], "those that only wait are not read again before it is time"
        assert set(p.app.hosts.home.participant.runs) == in_memory, "and no run is taken into memory"


async def test_alarms_of_one_look_are_bounded_and_the_others_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ALARMS", 3)
    monkeypatch.setattr(module, "LOOK_EVERY_MS", NEVER_MS)
    async with post() as p:
        for n in range(8):
            await p.sent(f"p-{n}")
        await p.after(MINUTE)
        p.clock._now_ms += 2 * HOUR // MS
        counts = []
        for _ in range(4):
            await p.watch.look()
            counts.append((await p.called())[0])
        assert counts == [3, 6, 8, 8]


async def test_runs_beyond_what_is_kept_are_looked_at_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT", 3)
    monkeypatch.setattr(module, "RUNS", 2)
    async with post() as p:
        for n in range(9):
            await p.sent(f"p-{n}")
        await p.after(2 * HOUR)
        for _ in range(12):
            await p.watch.look()
        assert await p.called() == (9, 0)


async def test_a_mistake_in_one_look_is_not_the_end_of_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with post() as p:
        await p.sent("p-1")
        good = Observer._walk

        async def bad(*_: Any) -> Any:
            raise ValueError("a mistake")

        monkeypatch.setattr(Observer, "_walk", bad)

        async def is_so(condition: Callable[[], bool]) -> bool:
            await p.clock.advance(21 * SECOND)  # as often as it takes: it may still be busy with the look before
            return condition()

        await until(lambda: is_so(lambda: "could not look" in caplog.text))
        monkeypatch.setattr(Observer, "_walk", good)
        p.clock._now_ms += 2 * HOUR // MS
        await until(lambda: is_so(lambda: len(p.phone.late) == 1))


async def test_nobody_looks_where_no_observer_is_wanted() -> None:
    app = App("post", services=[Desk()], workflows=FLOWS, store="sqlite://", clock=ManualClock())
    await app.open(replace(load_settings(app=app.given), observer=False))
    try:
        assert app.hosts.watch is None
        await app.start(parcel, "p-1", key="p-1")
        assert await app.control.runs(late=True) == []
    finally:
        await app.stop(0)


def reads(p: Post, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give how many runs are read, each time that some are."""
    store, read = p.app.hosts.home.store, list[int]()
    load = store.load_runs

    async def counted(runs: Any) -> Any:
        read.append(len(runs))
        return await load(runs)

    monkeypatch.setattr(store, "load_runs", counted)
    return read


async def _waiting(p: Post, count: int) -> bool:
    runs = p.app.hosts.home.participant.runs.values()
    return sum(bool(k.waits) and not k.uncommitted for k in runs) == count


async def _needs(run: Run[Any], needs: str) -> bool:
    return [w.needs for w in await run.waiting()] == [needs]
