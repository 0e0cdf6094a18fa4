"""What an app does with runs: keys, results, timers, events, retries, and what it refuses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import pytest

from minuet import (
    App,
    Busy,
    DeclarationError,
    InvalidPayload,
    KeyConflict,
    NotFound,
    NotRunning,
    Rejection,
    RunParked,
    RunRejected,
    Service,
    WorkflowRefused,
    action,
    compensation,
    deadline,
    event,
    publish,
    sleep,
    together,
    wait_for,
    workflow,
)
from minuet.runtime.settings import Settings
from tests.unit.runtime.conftest import opened, until

pytestmark = pytest.mark.asyncio


@event("carrier.picked-up", version=1, key="parcel", external=True)
@dataclass(frozen=True)
class PickedUp:
    parcel: str
    driver: str = ""


@event("desk.approved", version=1, key="order")
@dataclass(frozen=True)
class Approved:
    order: str


class SoldOut(Rejection): ...


class Down(Exception):
    """Something technical, which says when to come back."""

    retry_after = timedelta(seconds=90)


class Desk(Service):
    def __init__(self) -> None:
        self.log: list[str] = []
        self.failures = 0
        self.error: Exception = ConnectionRefusedError("no route")
        self.gate = asyncio.Event()

    @action
    async def open(self, order: str) -> str:
        self.log.append(f"open {order}")
        return f"#{order}"

    @compensation(open)
    async def close(self, number: str) -> None:
        self.log.append(f"close {number}")

    @action(rejects=(SoldOut,))
    async def reserve(self, order: str) -> int:
        if order == "sold-out":
            raise SoldOut("none left", sku="tea")
        return 3

    @action
    async def flaky(self, order: str) -> str:
        self.log.append("try")
        if self.failures:
            self.failures -= 1
            raise self.error
        return order

    @action
    async def gated(self, order: str) -> str:
        await self.gate.wait()
        return order

    @action(emits=(Approved,))
    async def approve(self, order: str) -> None:
        publish(Approved(order))


@workflow
async def order_flow(order: str, *, desk: Desk) -> int:
    await desk.open(order)
    return await desk.reserve(order)


@workflow
async def flaky_flow(order: str, *, desk: Desk) -> str:
    return await desk.flaky(order)


@workflow
async def gated_flow(order: str, *, desk: Desk) -> str:
    return await desk.gated(order)


@workflow
async def parcel_flow(parcel: str, *, desk: Desk) -> str:
    seen = await wait_for(PickedUp, key=parcel, by=desk, timeout=timedelta(hours=4))
    await sleep(timedelta(days=14), by=desk)
    if seen is None:
        return "nobody came"
    return seen.driver


@workflow
async def approval_flow(order: str, *, desk: Desk) -> str:
    _, seen = await together(desk.approve(order), wait_for(Approved, key=order, by=desk))
    return seen.order


async def test_a_result_has_the_type_of_the_signature() -> None:
    async with opened([Desk()], [order_flow]) as (app, _):
        assert await app.run(order_flow, "o-1") == 3


async def test_a_rejection_comes_back_as_the_class_that_was_declared_and_everything_is_compensated() -> None:
    desk = Desk()
    async with opened([desk], [order_flow]) as (app, _):
        with pytest.raises(RunRejected) as caught:
            await app.run(order_flow, "sold-out")
    assert isinstance(caught.value.rejection, SoldOut)
    assert caught.value.rejection.details == {"sku": "tea"}
    assert caught.value.position == "2"
    assert desk.log == ["open sold-out", "close #sold-out"]


async def test_the_same_key_with_the_same_input_gives_the_same_run_also_after_its_end() -> None:
    desk = Desk()
    async with opened([desk], [order_flow]) as (app, _):
        first = await app.start(order_flow, "o-1", key="o-1")
        await first.result()
        again = await app.start(order_flow, "o-1", key="o-1")
        assert (again.id, again.is_new) == (first.id, False)
        assert await again.result() == 3
    assert desk.log == ["open o-1"]


async def test_starts_of_one_key_at_the_same_moment_give_one_run() -> None:
    async with opened([Desk()], [order_flow]) as (app, _):
        runs = await asyncio.gather(*(app.start(order_flow, "o-1", key="o-1") for _ in range(20)))
    assert len({r.id for r in runs}) == 1
    assert sum(r.is_new for r in runs) == 1


async def test_the_same_key_with_another_input_is_a_conflict() -> None:
    async with opened([Desk()], [order_flow]) as (app, _):
        await app.start(order_flow, "o-1", key="k")
        with pytest.raises(KeyConflict, match="another input"):
            await app.start(order_flow, "o-2", key="k")


async def test_again_starts_a_new_run_of_an_ended_key() -> None:
    async with opened([Desk()], [order_flow]) as (app, _):
        first = await app.start(order_flow, "o-1", key="k")
        await first.result()
        second = await app.start(order_flow, "o-2", key="k", again=True)
        assert second.is_new
        assert second.id != first.id


async def test_refuse_refuses_while_the_run_goes_on_and_replace_cancels_it() -> None:
    desk = Desk()
    async with opened([desk], [parcel_flow]) as (app, _):
        first = await app.start(parcel_flow, "p", key="p")
        with pytest.raises(KeyConflict, match="has not ended"):
            await app.start(parcel_flow, "p", key="p", on_duplicate="refuse")
        second = await app.start(parcel_flow, "p", key="p", on_duplicate="replace")
        assert second.id != first.id
        assert await first.status() == "compensated"


async def test_what_is_no_input_is_refused_before_anything_is_recorded() -> None:
    async with opened([Desk()], [order_flow]) as (app, _):
        with pytest.raises(InvalidPayload):
            await app.start(order_flow, 7)  # type: ignore[misc]
        for raw in (b"7", b"{", b'"\\ud800"', b"[1,", b"NaN"):
            with pytest.raises(InvalidPayload):
                await app.control.start("order_flow", raw)
        with pytest.raises(NotFound, match="no workflow"):
            await app.control.start("nobody", b"1")
        assert await app.control.runs() == []


async def test_a_technical_failure_is_tried_again_after_its_delay() -> None:
    desk = Desk()
    desk.failures = 2
    async with opened([desk], [flaky_flow]) as (app, clock):
        run = await app.start(flaky_flow, "x")
        await until(lambda: _detail(run, "attempt 2"))
        assert desk.log == ["try"]
        await clock.advance(timedelta(seconds=1))
        await until(lambda: _detail(run, "attempt 3"))
        await clock.advance(timedelta(seconds=2))
        assert await run.result(60) == "x"
    assert desk.log == ["try"] * 3


async def test_an_error_may_name_its_own_delay() -> None:
    desk = Desk()
    desk.failures, desk.error = 1, Down("busy")
    async with opened([desk], [flaky_flow]) as (app, clock):
        run = await app.start(flaky_flow, "x")
        await until(lambda: _detail(run, "Down: busy"))
        await clock.advance(timedelta(seconds=89))
        assert await run.status() == "running"
        await clock.advance(timedelta(seconds=2))
        assert await run.result(60) == "x"


async def test_after_ten_attempts_a_run_is_parked_and_goes_on_when_it_is_told_to() -> None:
    desk = Desk()
    desk.failures = 10
    async with opened([desk], [flaky_flow]) as (app, clock):
        run = await app.start(flaky_flow, "x")

        async def parked() -> bool:
            await clock.advance(timedelta(minutes=5))
            return await run.status() == "stuck"

        await until(parked)
        with pytest.raises(RunParked):
            await run.result()
        failed = await app.control.failed()
        assert [(f.run, f.position, f.attempts) for f in failed] == [(run.id, "1", 10)]
        assert "no route" in failed[0].reason
        await run.retry()
        await until(lambda: _is(run, "completed"))
        assert await run.result() == "x"
        assert await app.control.failed() == []


async def test_an_event_that_comes_early_is_kept_and_one_that_comes_twice_is_recognised() -> None:
    async with opened([Desk()], [parcel_flow]) as (app, clock):
        assert (await app.send(PickedUp("p-1", "van 7"), id="e-1")).outcome == "accepted"
        assert (await app.send(PickedUp("p-1", "van 7"), id="e-1")).outcome == "duplicate"
        run = await app.start(parcel_flow, "p-1")
        await until(lambda: _waits(run, "timer"))
        await clock.advance(timedelta(days=14))
        assert await run.result(60) == "van 7"


async def test_a_wait_runs_out_at_its_time_and_not_before() -> None:
    async with opened([Desk()], [parcel_flow]) as (app, clock):
        run = await app.start(parcel_flow, "p-1")
        await until(lambda: _waits(run, "event"))
        await clock.advance(timedelta(hours=3, minutes=59))
        assert (await run.waiting())[0].what == "event"
        await clock.advance(timedelta(minutes=1))
        await until(lambda: _waits(run, "timer"))
        await clock.advance(timedelta(days=14))
        assert await run.result(60) == "nobody came"


async def test_what_an_action_publishes_is_heard_by_a_wait() -> None:
    async with opened([Desk()], [approval_flow]) as (app, _):
        assert await app.run(approval_flow, "o-1") == "o-1"


async def test_starting_more_than_fits_waits_or_is_refused() -> None:
    desk = Desk()
    app = App("test", services=[desk], workflows=[gated_flow])
    await app.open(Settings(store_url="sqlite://", runs_in_memory=5))
    try:
        started = [await app.start(gated_flow, str(i)) for i in range(5)]
        with pytest.raises(Busy):
            await app.control.start("gated_flow", b'"more"', wait_for_room=False)
        waiting = asyncio.create_task(app.start(gated_flow, "more"))
        await asyncio.sleep(0)
        assert not waiting.done()
        desk.gate.set()
        assert await (await waiting).result(60) == "more"
        assert [await r.result(60) for r in started] == list("01234")
    finally:
        await app.stop()


async def test_runs_that_only_wait_make_room_for_others_and_come_back_when_needed() -> None:
    app = App("test", services=[Desk()], workflows=[parcel_flow])
    await app.open(Settings(store_url="sqlite://", runs_in_memory=5))
    try:
        runs = [await app.start(parcel_flow, f"p-{i}") for i in range(20)]
        assert (await app.control.health()).runs_in_memory <= 5
        for i, run in enumerate(runs):
            await app.send(PickedUp(f"p-{i}", f"driver {i}"))
            await until(lambda run=run: _waits(run, "timer"))  # type: ignore[misc]
        assert (await app.control.health()).runs_in_memory <= 6
    finally:
        await app.stop()


async def test_a_closed_app_says_so() -> None:
    app = App("test", services=[Desk()], workflows=[order_flow])
    with pytest.raises(NotRunning):
        await app.start(order_flow, "x")


async def test_what_cannot_work_is_refused_when_the_app_is_made() -> None:
    with pytest.raises(DeclarationError, match="two services named"):
        App("test", services=[Desk(), Desk()])
    with pytest.raises(DeclarationError, match="needs the service 'desk'"):
        App("test", workflows=[order_flow])


class Bureau(Service):
    @action(pure=True, private=())
    async def score(self, order: str) -> int:
        return len(order)

    @action(pure=True)
    async def report(self, order: str) -> list[list[str]]:
        return [[order]]


@workflow
async def scored(order: str, *, desk: Desk, bureau: Bureau) -> str:
    score = await bureau.score(order)
    if score > 80:
        return await desk.open(order)
    return order


@workflow
async def reported(order: str, *, desk: Desk, bureau: Bureau) -> list[list[str]]:
    report = await bureau.report(order)
    await desk.open(order)
    return report


async def test_what_cannot_be_performed_where_it_is_placed_is_refused_with_its_place() -> None:
    app = App("test", services=[Desk(), Bureau()], workflows=[scored])
    assert app.plans(Settings())
    with pytest.raises(WorkflowRefused, match="only bureau may see") as caught:
        await app.open(Settings(store_url="sqlite://", styles={"scored": "choreography"}))
    (finding,) = caught.value.findings
    assert finding.code == "M503"
    assert finding.file.endswith("test_app.py")
    assert 'styles={"scored": "orchestration"}' in finding.remedy


async def test_a_warning_is_logged_when_the_app_is_opened_and_refuses_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = App("test", services=[Desk(), Bureau()], workflows=[reported])
    settings = Settings(store_url="sqlite://", styles={"reported": "choreography"})
    (warning,) = app.warnings(settings)
    assert warning.code == "M511"
    assert app.warnings(Settings()) == []
    await app.open(settings)
    await app.stop()
    assert [r.getMessage() for r in caplog.records if "M511" in r.getMessage()] == [str(warning)]


@workflow
async def halting(order: list[int], *, desk: Desk) -> str:
    first = await desk.flaky("x")  # cannot be taken back
    if order[0] > 1:  # and here is no answer, if the list is empty
        return await desk.open(first)
    return first


async def test_what_had_no_answer_is_decided_by_a_person() -> None:
    async with opened([Desk()], [halting]) as (app, _):
        run = await app.start(halting, [])
        with pytest.raises(RunParked):
            await run.result(60)
        (waiting,) = await run.waiting()
        assert waiting.what == "person"
        await app.control.resolve(run.id, waiting.position, result=b"true", note="looked it up")
        await until(lambda: _is(run, "completed"))
        assert await run.result() == "#x"


@workflow
async def idle_deadline(order: str, *, desk: Desk) -> str:
    await desk.flaky(order)  # cannot be taken back
    async with deadline(60):
        return await desk.open(order)


@workflow
async def early_return(order: str, *, desk: Desk) -> str:
    if order == "":
        return await desk.flaky(order)  # whoever comes here does not come to the deadline
    async with deadline(60):
        return await desk.open(order)


async def test_a_deadline_that_could_cancel_nothing_is_refused_with_its_place() -> None:
    app = App("test", services=[Desk()], workflows=[idle_deadline])
    with pytest.raises(WorkflowRefused, match="could cancel nothing") as caught:
        app.plans(Settings())
    assert caught.value.findings[0].code == "M514"
    assert App("test", services=[Desk()], workflows=[early_return]).plans(Settings())


async def _is(run: object, state: str) -> bool:
    return await run.status() == state  # type: ignore[attr-defined, no-any-return]


async def _waits(run: object, what: str) -> bool:
    return [w.what for w in await run.waiting()] == [what]  # type: ignore[attr-defined]


async def _detail(run: object, text: str) -> bool:
    return any(text in w.detail for w in await run.waiting())  # type: ignore[attr-defined]
