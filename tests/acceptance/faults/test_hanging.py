"""Handlers that hang, among many that do not: slots come back, late results are refused, nobody else waits (F22)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from minuet import App, Service, Transaction, action, injected, workflow
from minuet.runtime import slots
from minuet.runtime.settings import Settings

pytestmark = pytest.mark.asyncio

SLOTS = 4


class Shop(Service):
    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.release_threads = threading.Event()
        self.threads: list[str] = []

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table sale (what text)")

    @action(attempt_timeout=0.03)
    async def hang(self, how: str, *, tx: Transaction = injected()) -> str:
        """Hang before the first statement; after it a handler may wait for nothing but its transaction."""
        if how == "politely":
            await asyncio.Event().wait()
        while how == "stubbornly" and not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                continue
        await tx.execute("insert into sale values (?)", how)
        return how

    @action(attempt_timeout=0.03)
    def hang_in_a_thread(self, how: str) -> str:
        self.threads.append(how)
        self.release_threads.wait(60)
        return how

    @action
    async def sell(self, what: str, *, tx: Transaction = injected()) -> str:
        await tx.execute("insert into sale values (?)", what)
        return what

    @action
    async def count(self, what: str, *, tx: Transaction = injected()) -> int:
        row = await tx.fetch_one("select count(*) from sale where what = ?", what)
        assert row is not None
        return int(row[0])


@workflow
async def hang(how: str, *, shop: Shop) -> str:
    return await shop.hang(how).retry(1)


@workflow
async def hang_in_a_thread(how: str, *, shop: Shop) -> str:
    return await shop.hang_in_a_thread(how).retry(1)


@workflow
async def sell(what: str, *, shop: Shop) -> str:
    return await shop.sell(what)


@workflow
async def count(what: str, *, shop: Shop) -> int:
    return await shop.count(what)


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest_asyncio.fixture
async def app(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    monkeypatch.setattr(slots, "WATCH_EVERY_MS", 10)
    monkeypatch.setattr(slots, "CUT_GRACE_MS", 30)
    app = App("shop", services=[shop], workflows=[hang, hang_in_a_thread, sell, count])
    await app.open(Settings(store_url=f"sqlite:///{tmp_path / 'shop.db'}", slots=SLOTS, threads=2, abandoned_threads=6))
    yield app
    shop.release.set()
    shop.release_threads.set()
    await app.stop()


async def test_slots_come_back_from_hundreds_that_hang_while_the_others_go_on(app: App) -> None:
    hung = [await app.start(hang, "politely") for _ in range(200)]
    async with asyncio.timeout(60):
        assert await asyncio.gather(*(app.run(sell, f"{n}") for n in range(400))) == [f"{n}" for n in range(400)]
        for run in hung:
            assert (await app.control.wait(run.id, None)).state == "stuck"
    health = await app.control.health()
    assert (health.running_actions, health.queued_actions) == (0, 0)
    failed = await app.control.failed(limit=300)
    assert len(failed) == 200
    assert "took longer than 0.03 s" in failed[0].reason
    assert await app.run(count, "politely") == 0


async def test_a_late_result_is_refused_and_so_are_its_writes(app: App, shop: Shop) -> None:
    hung = [await app.start(hang, "stubbornly") for _ in range(3 * SLOTS)]  # more than there are slots
    async with asyncio.timeout(60):
        for run in hung:
            assert (await app.control.wait(run.id, None)).state == "stuck"
        assert await app.run(sell, "tea") == "tea"
        shop.release.set()  # now they all come back, and want to write
        while (await app.control.health()).late_answers < len(hung):
            await asyncio.sleep(0.01)
    assert await app.run(count, "stubbornly") == 0
    assert {await run.status() for run in hung} == {"stuck"}
    await hung[0].retry()
    assert await hung[0].result(60) == "stubbornly"
    assert await app.run(count, "stubbornly") == 1


async def test_threads_that_hang_are_counted_and_bounded_and_come_back(app: App, shop: Shop) -> None:
    hung = [await app.start(hang_in_a_thread, f"{n}") for n in range(20)]
    async with asyncio.timeout(60):
        for run in hung:
            assert (await app.control.wait(run.id, None)).state == "stuck"
        abandoned = (await app.control.health()).abandoned_threads
        assert 6 <= abandoned < 6 + 2  # whoever works when the limit is reached may still be abandoned
        assert len(shop.threads) == abandoned  # no further one was risked
        assert any("threads hang" in f.reason for f in await app.control.failed())
        assert await app.run(sell, "tea") == "tea"
        shop.release_threads.set()
        while (await app.control.health()).abandoned_threads:
            await asyncio.sleep(0.01)
        for run in hung:
            await run.retry()
        assert [await run.result() for run in hung] == [f"{n}" for n in range(20)]
