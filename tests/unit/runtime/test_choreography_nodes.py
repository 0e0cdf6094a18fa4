"""Waits, timers, choices, loops and branches, and what a person asks, where each service has a store of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minuet import (
    App,
    Rejection,
    Service,
    action,
    at,
    attempt,
    compensation,
    deadline,
    each,
    event,
    sleep,
    together,
    wait_for,
    workflow,
)
from minuet.runtime.view import RunView
from minuet.testing.clock import ManualClock
from tests.unit.runtime.apart import C, O, apart, until, until_quiet

pytestmark = [pytest.mark.asyncio, pytest.mark.parametrize("style", [O, C])]


@event("carrier.picked-up", version=1, key="parcel", external=True)
@dataclass(frozen=True)
class PickedUp:
    parcel: str
    driver: str = ""


class Full(Rejection): ...


class Clerk(Service):
    """Does what it is told, and may be made to wait, or to fail."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False
        self.is_full = False

    @action
    async def open(self, order: str) -> str:
        self.log.append(f"open {order}")
        return f"#{order}"

    @compensation(open)
    async def close(self, number: str) -> None:
        if self.fails:
            raise ConnectionRefusedError("no route")
        self.log.append(f"close {number}")

    @action
    async def add(self, n: int) -> int:
        self.log.append(f"add {n}")
        return n + 1


class Store(Service):
    def __init__(self) -> None:
        self.log: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails = False
        self.is_full = False

    @action(rejects=(Full,), attempt_timeout=90)  # longer than a step's bound below: none is tried anew
    async def put(self, number: str) -> str:
        await self.gate.wait()
        if self.fails:
            raise ConnectionRefusedError("no route")
        if self.is_full:
            raise Full("no room")
        self.log.append(f"put {number}")
        return f"on the shelf: {number}"

    @compensation(put)
    async def take(self, place: str) -> None:
        if self.fails:
            raise ConnectionRefusedError("no route")
        self.log.append(f"take {place}")

    @action
    async def double(self, n: int) -> int:
        self.log.append(f"double {n}")
        return 2 * n


class Gate(Service):
    """The last one: what it lets out does not come back."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.is_full = False

    @action(rejects=(Full,))
    async def let_out(self, place: str) -> str:
        if self.is_full:
            raise Full("nothing gets out")
        self.log.append(f"out {place}")
        return f"gone: {place}"


@workflow
async def parcel(order: str, *, clerk: Clerk, store: Store) -> str:
    number = await clerk.open(order)
    seen = await wait_for(PickedUp, key=order, by=store, timeout=timedelta(minutes=4))
    await sleep(timedelta(minutes=14), by=clerk)
    if seen is None:
        return "nobody came"
    place = await store.put(number)
    return place + seen.driver


@workflow
async def in_time(order: str, *, clerk: Clerk, store: Store) -> str:
    number = await clerk.open(order)
    async with deadline(timedelta(minutes=5), by=store):
        await wait_for(PickedUp, key=order, by=clerk)
        return await store.put(number)


@workflow
async def asked(order: str, *, clerk: Clerk, store: Store) -> str:
    number = await clerk.open(order)
    return await store.put(number).timeout(60)


@workflow
async def given_up(order: str, *, clerk: Clerk, store: Store) -> str:
    number = await clerk.open(order)
    return await store.put(number).timeout(60, then="abandon")


@workflow
async def many(n: int, *, clerk: Clerk, store: Store) -> int:
    results = await each([n, n + 1, n + 2], lambda x: store.double(x), limit=10, at_once=2)  # noqa: PLW0108 - a call is read
    total = len(results)
    for _ in range(5):
        if total >= 6:
            break
        total = await clerk.add(total)
    return total


@workflow
async def another_way(order: str, *, clerk: Clerk, store: Store) -> str:
    async with attempt(Full) as tried:
        number = await clerk.open(order)
        await store.put(number)
    if tried.rejected:
        return await clerk.open("elsewhere")
    return "there"


@workflow
async def decided(n: int, *, clerk: Clerk, store: Store) -> int:
    got = await clerk.add(n)
    if at(clerk, got > 5):
        return await store.double(got)
    return got


@workflow
async def shipped(order: str, *, clerk: Clerk, store: Store, gate: Gate) -> str:
    number = await clerk.open(order)
    place = await store.put(number)
    return await gate.let_out(place)


@workflow
async def both(order: str, *, clerk: Clerk, store: Store, gate: Gate) -> str:
    number, place = await together(clerk.open(order), store.put(order))
    return await gate.let_out(place + number)


class World:
    """An open app, its services, and a clock that stands still."""

    def __init__(self, app: App, clock: ManualClock, services: dict[str, Any]) -> None:
        self.app, self.clock = app, clock
        self.clerk: Clerk = services["clerk"]
        self.store: Store = services["store"]
        self.gate: Gate = services["gate"]

    async def start(self, flow: Any, given: Any, key: str = "k") -> str:
        view, _ = await self.app.control.start(flow.name, msgspec.json.encode(given), key=key)
        return view.run

    async def show(self, run: str) -> RunView:
        return await self.app.control.show(run)

    async def until_waits(self, run: str, what: str) -> None:
        async def waits() -> bool:
            return what in [w.what for w in (await self.show(run)).waiting]

        await until(waits)
        await until_quiet(self.app)

    async def pass_time(self, **more: float) -> None:
        await self.clock.advance(timedelta(**more))

    async def ended(self, run: str) -> tuple[str, Any]:
        """Wait for the end, as seconds go by, and for everybody to have nothing left."""

        async def is_over() -> bool:
            await self.pass_time(seconds=1)
            return (await self.app.control.show(run, facts=False)).ended_at_ms is not None

        await until(is_over)
        view = await self.show(run)
        return view.state, view.result if view.rejection is None else view.rejection.code

    async def is_stuck(self, run: str) -> None:
        async def stuck() -> bool:
            await self.pass_time(minutes=5)
            return (await self.app.control.show(run)).state == "stuck"

        await until(stuck)


@asynccontextmanager
async def world(folder: Path, flow: Any, style: str, **more: Any) -> AsyncIterator[World]:
    clock, services = ManualClock(), {"clerk": Clerk(), "store": Store(), "gate": Gate()}
    async with apart(folder, list(services.values()), [flow], styles={flow.name: style}, clock=clock, **more) as app:
        yield World(app, clock, services)


async def test_a_wait_takes_its_event_and_a_sleep_takes_its_time(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, parcel, style) as w:
        run = await w.start(parcel, "o")
        await w.until_waits(run, "event")
        await w.app.control.send("carrier.picked-up", "o", b'{"parcel": "o", "driver": " by van"}', id_="e")
        await w.until_waits(run, "timer")
        await w.pass_time(minutes=13, seconds=30)
        assert (await w.show(run)).state == "running"
        await w.pass_time(minutes=1)
        assert await w.ended(run) == ("completed", "on the shelf: #o by van")


async def test_a_wait_runs_out_at_its_time_also_where_its_owner_was_away(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, parcel, style) as w:
        run = await w.start(parcel, "o")
        await w.until_waits(run, "event")
        await w.app.hosts.stop("store")
        await w.pass_time(minutes=5)
        await w.app.hosts.start("store")
        await w.until_waits(run, "timer")
        await w.pass_time(minutes=15)
        assert await w.ended(run) == ("completed", "nobody came")


async def test_a_deadline_rejects_what_it_finds_idle_and_what_was_done_is_taken_back(
    tmp_path: Path, style: str
) -> None:
    async with world(tmp_path, in_time, style) as w:
        run = await w.start(in_time, "o")
        await w.until_waits(run, "event")
        await w.pass_time(minutes=4, seconds=50)
        assert (await w.show(run)).state == "running"
        await w.pass_time(minutes=2)
        assert await w.ended(run) == ("compensated", "deadline")
        assert w.clerk.log == ["open o", "close #o"]
        assert w.store.log == []


async def test_a_deadline_that_is_kept_leaves_no_timer(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, in_time, style) as w:
        run = await w.start(in_time, "o")
        await w.app.control.send("carrier.picked-up", "o", b'{"parcel": "o"}')
        assert await w.ended(run) == ("completed", "on the shelf: #o")
        await until_quiet(w.app)
        await w.pass_time(minutes=2)  # whoever does not hear the end has asked for it
        await until_quiet(w.app)
        for host in w.app.hosts.all():
            assert await host.store.timers_due(1 << 60, 9) == [], host.address


async def test_a_step_that_takes_too_long_is_rejected_by_whoever_performs_it(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, asked, style) as w:
        w.store.gate.clear()
        run = await w.start(asked, "o")
        await w.until_waits(run, "action")
        await w.pass_time(seconds=61)
        assert await w.ended(run) == ("compensated", "timeout")
        assert w.clerk.log == ["open o", "close #o"]


async def test_a_step_that_is_given_up_is_taken_back_when_it_was_done_after_all(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, given_up, style) as w:
        w.store.gate.clear()
        run = await w.start(given_up, "o")
        await until(lambda: _runs_at(w, "store"))
        await w.pass_time(seconds=61)
        assert await w.ended(run) == ("compensated", "timeout")
        w.store.gate.set()
        await until(lambda: _is(w.store.log, ["put #o", "take on the shelf: #o"]))
        assert w.clerk.log == ["open o", "close #o"]


async def test_a_step_that_was_given_up_before_it_could_begin_is_never_begun(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, given_up, style) as w:
        await w.app.hosts.stop("store")
        run = await w.start(given_up, "o")
        await until(lambda: _is(w.clerk.log, ["open o"]))
        await until_quiet(w.app)
        await w.pass_time(seconds=61)
        await until_quiet(w.app)
        await w.app.hosts.start("store")
        assert await w.ended(run) == ("compensated", "timeout")
        await until_quiet(w.app)
        assert w.store.log in ([], ["put #o", "take on the shelf: #o"])


async def test_branches_rounds_and_a_recorded_choice_give_their_values(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, many, style) as w:
        assert await w.ended(await w.start(many, 1)) == ("completed", 6)
        assert sorted(w.store.log) == ["double 1", "double 2", "double 3"]
        assert w.clerk.log == ["add 3", "add 4", "add 5"]


async def test_a_choice_on_the_record_is_followed_by_all(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, decided, style) as w:
        assert await w.ended(await w.start(decided, 7)) == ("completed", 16)
        assert await w.ended(await w.start(decided, 1, key="small")) == ("completed", 2)
        assert w.store.log == ["double 8"]


async def test_an_attempt_that_is_rejected_is_taken_back_and_the_other_way_is_gone(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, another_way, style) as w:
        w.store.is_full = True
        assert await w.ended(await w.start(another_way, "o")) == ("completed", "#elsewhere")
        assert w.clerk.log == ["open o", "close #o", "open elsewhere"]


async def test_a_run_is_cancelled_before_its_pivot_and_not_after_it(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, shipped, style) as w:
        w.store.gate.clear()
        run = await w.start(shipped, "o")
        await until(lambda: _runs_at(w, "store"))
        assert (await w.app.control.cancel(run)).outcome == "asked"
        await until_quiet(w.app)
        w.store.gate.set()
        assert await w.ended(run) == ("compensated", "cancelled")
        assert (w.clerk.log, w.gate.log) == (["open o", "close #o"], [])
        assert w.store.log == ["put #o", "take on the shelf: #o"]
        second = await w.start(shipped, "p", key="second")
        assert await w.ended(second) == ("completed", "gone: on the shelf: #p")
        assert (await w.app.control.cancel(second)).outcome == "already-ending"


async def test_a_paused_run_begins_nothing_anywhere_until_it_is_resumed(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, shipped, style) as w:
        w.store.gate.clear()
        await w.app.hosts.stop("gate")
        run = await w.start(shipped, "o")
        await until(lambda: _is(w.clerk.log, ["open o"]))
        assert (await w.app.control.pause(run)).outcome == "paused"
        w.store.gate.set()
        await w.app.hosts.start("gate")  # it hears of the run for the first time, and of the pause before
        await until_quiet(w.app)
        await asyncio.sleep(0.02)
        await until_quiet(w.app)
        assert w.gate.log == []
        assert (await w.show(run)).paused
        for service in ("store", "gate"):
            await w.app.hosts.stop(service)
            await w.app.hosts.start(service)
        await until_quiet(w.app)
        assert w.gate.log == []
        assert (await w.app.control.resume(run)).outcome == "resumed"
        assert await w.ended(run) == ("completed", "gone: on the shelf: #o")
        assert w.gate.log == ["out on the shelf: #o"]


async def test_nothing_follows_in_a_run_that_was_terminated_wherever_it_was(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, shipped, style) as w:
        await w.app.hosts.stop("store")
        run = await w.start(shipped, "o")
        await until(lambda: _is(w.clerk.log, ["open o"]))
        await until_quiet(w.app)
        assert (await w.app.control.terminate(run)).outcome == "terminated"
        w.store.gate.clear()
        await w.app.hosts.start("store")  # its turn had come before it was told
        await until_quiet(w.app)
        w.store.gate.set()
        await until_quiet(w.app)
        view = await w.show(run)
        assert (view.state, view.dirty) == ("terminated", True)
        assert (w.clerk.log, w.store.log, w.gate.log) == (["open o"], [], [])
        for host in w.app.hosts.all():
            assert await host.store.runs_to_load(0, 9) == [], host.address


async def test_a_step_that_is_parked_at_its_service_is_found_and_tried_again(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, shipped, style) as w:
        w.store.fails = True
        run = await w.start(shipped, "o")
        waiting = asyncio.create_task(w.app.control.wait(run, None))
        await w.is_stuck(run)
        async with asyncio.timeout(60):
            assert (await waiting).state == "stuck", "whoever waits is told"
        failed = await w.app.control.failed()
        assert [(f.kind, f.run, f.position, f.attempts) for f in failed] == [("step", run, "2", 10)]
        view = await w.show(run)
        assert "no route" in (view.reason or "")
        assert [(x.what, x.position, x.owner) for x in view.waiting] == [("person", "2", "store")]
        assert [v.run for v in await w.app.control.runs(states=("stuck",))] == [run]
        assert await w.app.control.runs(states=("running",)) == []
        w.store.fails = False
        assert (await w.app.control.retry(run, "2")).outcome in ("asked", "due")
        assert await w.ended(run) == ("completed", "gone: on the shelf: #o")
        assert await w.app.control.failed() == []


async def test_a_step_that_is_parked_is_resolved_by_hand(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, shipped, style) as w:
        w.store.fails = True
        run = await w.start(shipped, "o")
        await w.is_stuck(run)
        await w.app.control.resolve(run, "2", result=b'"by hand"')
        assert await w.ended(run) == ("completed", "gone: by hand")
        second = await w.start(shipped, "p", key="second")
        await w.is_stuck(second)
        await w.app.control.resolve(second, "2", reject="full")
        assert await w.ended(second) == ("compensated", "full")


async def test_a_compensation_that_is_stuck_is_skipped_and_the_run_is_dirty(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, shipped, style) as w:
        w.gate.is_full, w.clerk.fails = True, True
        run = await w.start(shipped, "o")
        await w.is_stuck(run)
        view = await w.show(run)
        assert ("action", "1", "clerk") in [(x.what, x.position, x.owner) for x in view.waiting]
        await w.app.control.skip(run, "1", note="it was never opened")
        assert await w.ended(run) == ("compensated", "full")
        assert (await w.show(run)).dirty
        assert w.store.log == ["put #o", "take on the shelf: #o"]


async def test_branches_beside_each_other_are_both_taken_back(tmp_path: Path, style: str) -> None:
    async with world(tmp_path, both, style) as w:
        w.gate.is_full = True
        assert await w.ended(await w.start(both, "o")) == ("compensated", "full")
        assert (w.clerk.log, w.store.log) == (["open o", "close #o"], ["put o", "take on the shelf: o"])


async def test_a_cancellation_that_finds_a_step_done_lets_it_stand_until_it_is_taken_back(
    tmp_path: Path, style: str
) -> None:
    async with world(tmp_path, shipped, style, observer=True) as w:
        await w.app.hosts.stop("gate")
        run = await w.start(shipped, "o")
        await until(lambda: _is(w.store.log, ["put #o"]))
        assert (await w.app.control.cancel(run)).outcome == "asked"  # before home has heard what was done
        await w.app.hosts.start("gate")
        state, _ = await w.ended(run)
        await until_quiet(w.app)
        if state == "completed":  # the last one had heard nothing of it when its turn came
            assert (w.clerk.log, w.store.log) == (["open o"], ["put #o"])
        else:
            assert (w.clerk.log, w.store.log) == (["open o", "close #o"], ["put #o", "take on the shelf: #o"])
        for host in (*w.app.hosts.all(), w.app.hosts.observer):
            assert host is not None
            assert await host.store.early(None, 9) == [], "nobody contradicts anybody"


async def _runs_at(w: World, service: str) -> bool:
    return any(host.address == service and host.worker.running for host in w.app.hosts.services)


async def _is(found: object, wanted: object) -> bool:
    return found == wanted
