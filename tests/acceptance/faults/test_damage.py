"""What somebody has damaged by hand: one run is set aside with its reason, all others do not notice (F18)."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from minuet import App, Conflict, NotFound, Service, action, event, sleep, together, wait_for, workflow
from minuet.ids import parse_run
from minuet.testing.clock import ManualClock

pytestmark = pytest.mark.asyncio

OTHERS = 60
HOUR = timedelta(hours=1)


class Shut(Exception):
    """Says when to come back, which is later than anything in this test but the end."""

    retry_after = timedelta(hours=1)


@event("door.rung", version=1, key="guest")
@dataclass(frozen=True)
class Rung:
    guest: str


@dataclass(frozen=True)
class Guest:
    name: str
    naps: bool = False


class House(Service):
    is_shut = True

    @action
    async def welcome(self, guest: str) -> str:
        return guest

    @action
    async def serve(self, guest: str) -> int:
        return len(guest)

    @action
    async def enter(self, guest: str) -> None:
        if self.is_shut and guest.startswith("try"):
            raise Shut("the house is shut")


@workflow
async def visit(guest: Guest, *, house: House) -> int:
    name = await house.welcome(guest.name)
    tea, cake = await together(house.serve(name), house.serve(name))
    if guest.naps:
        await sleep(HOUR, by=house)
    await house.enter(name)
    await wait_for(Rung, key=name, by=house)
    return tea + cake


@workflow
async def visit_long_ago(guest: Guest, *, house: House) -> int:
    name = await house.welcome(guest.name)
    await wait_for(Rung, key=name, by=house)
    return await house.serve(name)


@workflow
async def visit_last_year(guest: Guest, *, house: House) -> int:
    name = await house.welcome(guest.name)
    await house.serve(name)
    await wait_for(Rung, key=name, by=house)
    return await house.serve(name)


@workflow
async def visit_last_week(guest: Guest, *, house: House) -> int:
    await wait_for(Rung, key=guest.name, by=house)
    return await house.serve(guest.name)


OLD = {"plan is no json": visit_long_ago, "plan was altered": visit_last_year, "plan is gone": visit_last_week}

# What is done to the run of that name. Those that begin with "nap" sleep, with "try" wait for their next attempt,
# all others wait for an event.
DAMAGE = {
    "plan is no json": "update minuet_plan set body = substr(body, 1, 40) where digest = :digest",
    "plan was altered": "update minuet_plan set body = replace(body, 'welcome', 'forget') where digest = :digest",
    "plan is gone": "delete from minuet_plan where digest = :digest",
    "plan of the run is unknown": "update minuet_run set digest = '0123456789abcdef' where run = :run",
    "state of the run is unknown": "update minuet_run set state = 'dancing' where run = :run",
    "input is no json": "update minuet_run set input = '{\"name\":' where run = :run",
    "value is no json": "update minuet_fact set value = '{' where run = :run and position = '1'",
    "value is of another type": "update minuet_fact set value = '[1]' where run = :run and position = '2a'",
    "position is unknown": "update minuet_fact set position = '77' where run = :run and position = '2b'",
    "label is unknown": "update minuet_fact set label = 'perhaps' where run = :run and position = '1'",
    "round is no round": "update minuet_fact set round = 'x.y' where run = :run and position = '1'",
    "fact is gone": "delete from minuet_fact where run = :run and position = '1'",
    "facts change places": "update minuet_fact set seq = 10 - seq where run = :run",
    "try: attempt is in no state": "update minuet_attempt set state = 'dancing' where run = :run",
    "try: attempt is of no round": "update minuet_attempt set round = 'x.y' where run = :run",
    "try: attempt is of no step": "update minuet_attempt set position = '77' where run = :run",
    "nap: timer is of no round": "update minuet_timer set round = 'x.y' where run = :run",
    "nap: timer is of no step": "update minuet_timer set position = '77' where run = :run",
    "nap: timer has no purpose": "update minuet_timer set purpose = 'fun' where run = :run",
    "wait is of no round": "update minuet_wait set round = 'x.y' where run = :run",
    "wait is of no step": "update minuet_wait set position = '77' where run = :run",
}

# A run that is set aside has a state that there is.
MENDED_BY_RETRY = "state of the run is unknown"


async def test_a_damaged_run_is_set_aside_and_goes_on_once_it_is_mended(tmp_path: Path) -> None:
    file, clock, house = tmp_path / "house.db", ManualClock(), House()

    def app_of(*workflows: object) -> App:
        return App("house", services=[house], workflows=workflows, store=f"sqlite:///{file}", clock=clock)  # type: ignore[arg-type]

    names = [*DAMAGE, *(f"{kind}{n}" for n in range(OTHERS // 3) for kind in ("nap ", "try ", "ring "))]
    async with app_of(visit, *OLD.values()) as app:
        runs = {}
        for name in names:
            run = await app.start(OLD.get(name, visit), Guest(name, naps=name.startswith("nap")), key=name)
            runs[name] = run.id
        await _until(
            lambda: _count(file, "select count(*) from minuet_run where load = 1", sum(n[:3] == "try" for n in names))
        )
        await _until(
            lambda: _count(file, "select count(*) from minuet_wait", sum(n[:3] not in ("try", "nap") for n in names))
        )

    with sqlite3.connect(file) as connection:
        before = list(connection.iterdump())
        for name, statement in DAMAGE.items():
            number = parse_run(runs[name])
            digest = connection.execute("select digest from minuet_run where run = ?", (number,)).fetchone()[0]
            changed = connection.execute(statement, {"run": number, "digest": digest}).rowcount
            assert changed, name
    connection.close()

    house.is_shut = False
    async with app_of(visit) as app:
        await clock.advance(2 * HOUR)
        for name in names:
            await app.send(Rung(name), id=name)
        for name in names:
            if name not in DAMAGE:
                async with asyncio.timeout(60):
                    assert await (await app.find(visit, name)).result() == 2 * len(name)

        async def all_set_aside() -> bool:
            return len(await app.control.failed()) == len(DAMAGE)

        await _until(all_set_aside)
        failed = {f.key: f for f in await app.control.failed()}
        for name in DAMAGE:
            view = await app.control.show(runs[name])
            assert view.state in ("quarantined", "stuck"), name
            assert view.reason, name
            assert failed[name].reason, name
            if view.state == "quarantined" and name != MENDED_BY_RETRY:
                with pytest.raises(Conflict, match="still cannot be understood"):
                    await app.control.retry(runs[name])

    _restore(file, before)
    async with app_of(visit) as app:
        for name in DAMAGE:
            assert (await app.control.retry(runs[name])).outcome == "due", name
        for name in DAMAGE:
            async with asyncio.timeout(60):
                view = await app.control.wait(runs[name], None)
            assert view.state == "completed", name
        assert await app.control.failed() == []


async def test_what_cannot_be_mended_can_be_ended(tmp_path: Path) -> None:
    file, clock = tmp_path / "house.db", ManualClock()

    def house() -> App:
        return App("house", services=[House()], workflows=[visit], store=f"sqlite:///{file}", clock=clock)

    async with house() as app:
        run = await app.start(visit, Guest("nap", naps=True), key="nap")
        await _until(lambda: _count(file, "select count(*) from minuet_timer", 1))
    with sqlite3.connect(file) as connection:
        connection.execute("update minuet_timer set purpose = 'fun'")
    connection.close()
    async with house() as app:
        with pytest.raises(NotFound, match="quarantined"):
            await app.control.cancel(run.id)
        assert (await app.control.terminate(run.id)).outcome == "terminated"
        view = await app.control.show(run.id)
        assert (view.state, view.dirty) == ("terminated", True)
        assert await app.control.failed() == []
        assert (await app.start(visit, Guest("nap"), key="nap", again=True)).is_new
    assert await _count(file, "select count(*) from minuet_timer", 0)


def _restore(file: Path, dump: list[str]) -> None:
    """Put back what was damaged, and leave what has happened since: to runs that were set aside, nothing has."""
    good = sqlite3.connect(":memory:")
    good.executescript("\n".join(dump))
    with sqlite3.connect(file) as connection:
        parked = connection.execute("select run, state from minuet_run where state in ('quarantined', 'stuck')")
        for run, state in parked.fetchall():
            for table in ("fact", "attempt", "timer", "wait") if state == "quarantined" else ("fact",):
                if state == "quarantined":
                    connection.execute(f"delete from minuet_{table} where run = ?", (run,))
                _copy(good, connection, f"minuet_{table}", "where run = ?", run)
            row = good.execute("select digest, input, run from minuet_run where run = ?", (run,)).fetchone()
            connection.execute("update minuet_run set digest = ?, input = ? where run = ?", row)
        _copy(good, connection, "minuet_plan")
    connection.close()
    good.close()


def _copy(good: sqlite3.Connection, into: sqlite3.Connection, table: str, which: str = "", *arguments: int) -> None:
    rows = good.execute(f"select * from {table} {which}", arguments).fetchall()
    if rows:
        into.executemany(f"insert or replace into {table} values ({', '.join('?' * len(rows[0]))})", rows)


async def _count(file: Path, query: str, wanted: int) -> bool:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return bool(connection.execute(query).fetchone()[0] == wanted)
    finally:
        connection.close()


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.01)
