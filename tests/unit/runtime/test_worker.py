"""Slots: what hangs is cut off, what does not stop loses its slot, and nobody else notices."""

from __future__ import annotations

import asyncio
import threading

import pytest

from minuet import App, RunRejected, Service, action, workflow
from minuet.runtime import slots
from minuet.runtime.settings import Settings
from tests.unit.runtime.conftest import until

pytestmark = pytest.mark.asyncio


class Odd(Service):
    def __init__(self) -> None:
        self.release = threading.Event()
        self.stop = asyncio.Event()
        self.cut = 0

    @action(attempt_timeout=0.05)
    async def hangs(self, x: int) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cut += 1
            raise
        return x

    @action(attempt_timeout=0.05)
    async def will_not_stop(self, x: int) -> int:
        while not self.stop.is_set():
            try:
                await self.stop.wait()
            except asyncio.CancelledError:
                continue
        return x

    @action(attempt_timeout=0.05)
    def hangs_in_a_thread(self, x: int) -> int:
        self.release.wait(30)
        return x

    @action
    def plain(self, x: int) -> int:
        assert threading.current_thread() is not threading.main_thread()
        return x + 1

    @action
    async def uses_asyncio(self, x: int) -> int:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            one = group.create_task(asyncio.sleep(0, x))
        return one.result() + 1

    @action
    async def cancels_itself(self, x: int) -> int:
        raise asyncio.CancelledError


@workflow
async def hanging(x: int, *, odd: Odd) -> int:
    return await odd.hangs(x).retry(1, then="reject")


@workflow
async def stubborn(x: int, *, odd: Odd) -> int:
    return await odd.will_not_stop(x).retry(1, then="reject")


@workflow
async def threaded(x: int, *, odd: Odd) -> int:
    return await odd.hangs_in_a_thread(x).retry(1, then="reject")


@workflow
async def plain(x: int, *, odd: Odd) -> int:
    return await odd.plain(x)


@workflow
async def modern(x: int, *, odd: Odd) -> int:
    return await odd.uses_asyncio(x)


@workflow
async def selfish(x: int, *, odd: Odd) -> int:
    return await odd.cancels_itself(x).retry(1, then="reject")


FLOWS = [hanging, stubborn, threaded, plain, modern, selfish]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the watchdog look often."""
    monkeypatch.setattr(slots, "WATCH_EVERY_MS", 10)
    monkeypatch.setattr(slots, "CUT_GRACE_MS", 30)


async def test_an_action_that_hangs_is_cut_off_and_its_slot_given_back(quick: None) -> None:
    odd = Odd()
    app = App("test", services=[odd], workflows=FLOWS)
    await app.open(Settings(store_url="sqlite://", slots=2))
    try:
        hung = [await app.start(hanging, i) for i in range(6)]
        for run in hung:
            with pytest.raises(RunRejected, match="exhausted"):
                await run.result(60)
        assert odd.cut == 6
        assert await app.run(plain, 1) == 2
        assert (await app.control.health()).running_actions == 0
    finally:
        await app.stop()


async def test_an_action_that_does_not_stop_loses_its_slot_and_its_late_result_is_refused(quick: None) -> None:
    odd = Odd()
    app = App("test", services=[odd], workflows=FLOWS)
    await app.open(Settings(store_url="sqlite://", slots=1))
    try:
        run = await app.start(stubborn, 1)
        with pytest.raises(RunRejected, match="exhausted"):
            await run.result(60)
        assert await app.run(modern, 1) == 2
        odd.stop.set()
        await until(lambda: _late(app, 1))
        assert await run.status() == "compensated"
    finally:
        await app.stop()


async def test_a_thread_that_outlives_its_timeout_is_abandoned_counted_and_bounded(quick: None) -> None:
    odd = Odd()
    app = App("test", services=[odd], workflows=FLOWS)
    await app.open(Settings(store_url="sqlite://", threads=1, abandoned_threads=3))
    try:
        for i in range(3):
            with pytest.raises(RunRejected):
                await app.run(threaded, i)
        assert (await app.control.health()).abandoned_threads == 3
        with pytest.raises(RunRejected):  # no fourth thread is risked
            await app.run(threaded, 4)
        facts = await (await app.start(threaded, 5)).show()
        assert (await app.control.health()).abandoned_threads == 3
        odd.release.set()
        await until(lambda: _abandoned(app, 0))
        assert await app.run(plain, 1) == 2
        assert facts.run
    finally:
        odd.release.set()
        await app.stop()


async def test_asyncios_own_means_work_inside_an_action() -> None:
    async with App("test", services=[Odd()], workflows=FLOWS, store="sqlite://") as app:
        assert await app.run(modern, 1) == 2


async def test_an_action_that_raises_cancelled_error_itself_has_failed() -> None:
    async with App("test", services=[Odd()], workflows=FLOWS, store="sqlite://") as app:
        with pytest.raises(RunRejected) as caught:
            await app.run(selfish, 1)
        assert "CancelledError" in caught.value.rejection.message


async def _late(app: App, n: int) -> bool:
    return (await app.control.health()).late_answers >= n


async def _abandoned(app: App, n: int) -> bool:
    return (await app.control.health()).abandoned_threads == n
