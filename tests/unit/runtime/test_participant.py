"""What the participant does with inputs that go wrong: one run is set aside, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

from minuet import App, NotRunning, Service, action, event, sleep, wait_for, workflow
from minuet.engine.decide import Decided
from minuet.engine.knowledge import Knowledge
from minuet.ids import parse_run
from tests.unit.runtime.conftest import opened, until

pytestmark = pytest.mark.asyncio


@event("door.rung", version=1, key="door")
@dataclass(frozen=True)
class Rung:
    door: str


class Doors(Service):
    @action
    async def open(self, door: str) -> str:
        return door


@workflow
async def let_in(door: str, *, doors: Doors) -> str:
    await sleep(timedelta(minutes=1), by=doors)
    await wait_for(Rung, key=door, by=doors)
    return await doors.open(door)


async def test_an_input_that_fails_inside_sets_its_run_aside_and_is_answered() -> None:
    async with opened([Doors()], [let_in]) as (app, _):
        run = await app.start(let_in, "front")

        def fail(k: Knowledge) -> Decided:
            raise LookupError("a mistake of ours")

        number = parse_run(run.id)
        assert number is not None
        with pytest.raises(LookupError):
            await asyncio.wait_for(app.control._participant.ask(number, fail), 5)

        async def is_set_aside() -> bool:
            return await run.status() == "quarantined"

        await until(is_set_aside)
        assert (await app.control.failed())[0].reason == "LookupError: a mistake of ours"


async def test_a_run_that_is_set_aside_does_not_go_on_by_itself() -> None:
    async with opened([Doors()], [let_in]) as (app, clock):
        run = await app.start(let_in, "front")
        participant = app.control._participant
        number = parse_run(run.id)
        assert number is not None
        stored = await participant.store.load_run(number)
        assert stored is not None
        participant.quarantine(stored, "somebody wants to look at it")

        async def is_set_aside() -> bool:
            return await run.status() == "quarantined"

        await until(is_set_aside)
        await clock.advance(timedelta(minutes=2))  # its timer
        await app.send(Rung("front"))
        await clock.advance(timedelta(minutes=2))
        assert [f.position for f in await run.facts()] == []
        await run.retry()
        assert await run.result(60) == "front"


async def test_whoever_waits_for_an_end_is_told_when_the_program_is_closed() -> None:
    async with opened([Doors()], [let_in]) as (app, _):
        waiting = asyncio.create_task(app.run(let_in, "front"))
        run = await app.start(let_in, "back")
        patient = asyncio.create_task(app.control.wait(run.id, None))
        await until(lambda: _are_heard(app, 2))
    with pytest.raises(NotRunning, match="closed"):
        await asyncio.wait_for(waiting, 5)
    assert (await asyncio.wait_for(patient, 5)).state == "running"


async def test_waiting_in_pieces_leaves_nothing_behind() -> None:
    async with opened([Doors()], [let_in]) as (app, _):
        run = await app.start(let_in, "front")
        for _ in range(20):
            assert (await app.control.wait(run.id, 0.001)).state == "running"
        assert not app.control._participant.ends


async def _are_heard(app: App, count: int) -> bool:
    return len(app.control._participant.ends) == count
