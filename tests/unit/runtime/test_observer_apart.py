"""What the observer tells of runs of which nobody else has all: the same in every style, also after it was down."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from minuet import (
    App,
    Context,
    NotFound,
    Rejection,
    RunLate,
    RunStuck,
    Service,
    Transaction,
    action,
    compensation,
    injected,
    on,
    workflow,
)
from minuet.engine.program import Program
from minuet.engine.row import FactRow, slot_of
from minuet.plans.plan import make_plan
from minuet.runtime.observer_order import in_order
from minuet.testing.clock import ManualClock
from minuet.tools.story import waiting_rows
from tests.unit.runtime.apart import (
    SERVICES,
    C,
    Inventory,
    O,
    SoldOut,
    apart,
    place,
    place_around,
    rows,
    shop,
    until,
    until_quiet,
)

MS, MINUTE, HOUR = timedelta(milliseconds=1), timedelta(minutes=1), timedelta(hours=1)
STYLES: list[tuple[Any, dict[str, str]]] = [
    (place, {"place": O}),
    (place, {"place": C}),
    (place_around, {"place_around": O}),
    (place_around, {"place_around": C, "place_around/2": O}),
]
FACTS = "select position, round, label, at_ms from minuet_fact where position <> 'start' and label not like 'asked%'"


class Phone(Service):
    """Calls somebody."""

    def __init__(self) -> None:
        self.called: list[RunLate | RunStuck] = []

    @on(RunLate)
    async def about_late(self, said: RunLate) -> None:
        self.called.append(said)

    @on(RunStuck)
    async def about_stuck(self, said: RunStuck) -> None:
        self.called.append(said)


class Spilled(Rejection): ...


class Careless(Inventory, name="inventory"):
    """It says what it never declared."""

    @action(rejects=(SoldOut,))
    async def reserve(self, order: str, *, tx: Transaction = injected(), context: Context = injected()) -> int:
        raise Spilled("the shelf fell")

    @compensation(reserve)
    async def release(self, hold: int, *, tx: Transaction = injected(), context: Context = injected()) -> None: ...


class Track(Service):
    @action
    async def go(self, where: int) -> int:
        return where

    @compensation(go)
    async def back(self, where: int) -> None: ...


@workflow
async def laps(*, track: Track) -> int:
    at = await track.go(0)
    for _ in range(2):
        at = await track.go(at)
        at = await track.go(at)
    at = await track.go(at)
    return await track.go(at)


async def pass_over(app: App, clock: ManualClock, by: timedelta) -> None:
    """Let time pass at once, and the observer look."""
    clock._now_ms += by // MS
    await clock.advance(MS)
    assert app.hosts.watch is not None
    await app.hosts.watch.look()


async def waits_for(app: App, run: str, *needs: str) -> None:
    async def is_so() -> bool:
        return [w.needs for w in (await app.control.show(run)).waiting] == list(needs)

    await until(is_so)
    await until_quiet(app)


@pytest.mark.parametrize(("flow", "styles"), STYLES)
@pytest.mark.asyncio
async def test_who_is_waited_for_and_since_when_is_said_in_the_same_words(
    tmp_path: Path, flow: Any, styles: dict[str, str]
) -> None:
    clock = ManualClock()
    async with apart(tmp_path, shop(), [flow], styles=styles, clock=clock) as app:
        await app.hosts.stop("inventory")
        began = clock.now_ms()
        run = await app.start(flow, "tea", key="o-1")
        await waits_for(app, run.id, "inventory.reserve")
        clock._now_ms += 65_000
        view = await app.control.show(run.id)
        (w,) = view.waiting
        assert (w.what, w.owner, w.since_ms, w.expected_ms, w.late) == (
            "action", "inventory", began, began + HOUR // MS, False
        )  # fmt: skip
        ((_, *told),) = waiting_rows(view.waiting, clock.now_ms())
        assert told == ["inventory.reserve", "running", "since 1 min", "inventory", ""]
        assert view.at.endswith("inventory.reserve")
        assert [f.what for f in view.facts if f.label == "ok"] == ["orders.open", "payments.charge"]


@pytest.mark.parametrize(("flow", "styles"), STYLES)
@pytest.mark.asyncio
async def test_a_service_that_is_missing_is_called_about_in_every_style(
    tmp_path: Path, flow: Any, styles: dict[str, str]
) -> None:
    clock, phone = ManualClock(), Phone()
    async with apart(tmp_path, [*shop(), phone], [flow], styles=styles, clock=clock) as app:
        await app.hosts.stop("inventory")
        run = await app.start(flow, "tea", key="o-1")
        await waits_for(app, run.id, "inventory.reserve")
        await pass_over(app, clock, MINUTE)
        await pass_over(app, clock, 2 * HOUR)
        await pass_over(app, clock, 2 * HOUR)
        await until(lambda: _came(phone, 1))
        assert [v.run for v in await app.control.runs(late=True)] == [run.id]
        await until_quiet(app)
        (said,) = phone.called
        assert isinstance(said, RunLate)
        assert (said.run, said.key, said.needs, said.owner) == (run.id, "o-1", "inventory.reserve", "inventory")
        assert said.text.startswith("waiting for inventory.reserve from inventory since 2026-01-01T00:00:")
        assert said.text.endswith("expected within 1 hour")
        await app.hosts.start("inventory")
        await run.result(60)
        await until_quiet(app)
        await pass_over(app, clock, MINUTE)
        assert await app.control.runs(late=True) == []


@pytest.mark.parametrize(("flow", "styles"), STYLES)
@pytest.mark.asyncio
async def test_an_observer_that_was_down_stops_nothing_and_knows_all_when_it_is_back(
    tmp_path: Path, flow: Any, styles: dict[str, str]
) -> None:
    clock = ManualClock()
    async with apart(tmp_path, shop(), [flow], styles=styles, clock=clock) as app:
        await app.hosts.stop_observer()
        run = await app.start(flow, "tea", key="o-1")
        assert await run.result(60) == "paid #tea, 3 pieces"
        clock._now_ms += 3 * HOUR // MS
        assert (await app.control.show(run.id)).state == "completed"
        await app.hosts.start_observer()
        recorded = sorted({fact for s in ("", *SERVICES) for fact in rows(tmp_path, s, FACTS)})
        await until(lambda: _is_heard(tmp_path, len({f[:3] for f in recorded})))
        heard = sorted(rows(tmp_path, "observer", FACTS))
        assert {f[:3] for f in heard} == {f[:3] for f in recorded}
        assert set(heard) <= set(recorded), "and when each came about, not when it was heard"
        view = await app.control.show(run.id)
        assert [f.what for f in view.facts if f.label == "ok"][-1] == "shipping.ship"
        with pytest.raises(NotFound):
            await app.hosts.start_observer()


@pytest.mark.asyncio
async def test_what_is_parked_at_a_service_is_called_about(tmp_path: Path) -> None:
    clock, phone = ManualClock(), Phone()
    services = [s for s in shop() if not isinstance(s, Inventory)]
    async with apart(tmp_path, [*services, Careless(), phone], [place], styles={"place": C}, clock=clock) as app:
        run = await app.start(place, "tea", key="o-1")

        async def is_stuck() -> bool:
            return (await app.control.show(run.id)).state == "stuck"

        await until(is_stuck)
        await pass_over(app, clock, MINUTE)
        await until(lambda: _came(phone, 1))
        await pass_over(app, clock, 2 * HOUR)
        await until_quiet(app)
        (said,) = phone.called
        assert isinstance(said, RunStuck)
        assert (said.run, said.key, said.needs, said.owner) == (run.id, "o-1", "inventory.reserve", "inventory")
        assert "the shelf fell" in said.reason


async def _came(phone: Phone, count: int) -> bool:
    return len(phone.called) >= count


async def _is_heard(folder: Path, count: int) -> bool:
    return len(rows(folder, "observer", FACTS)) >= count


def test_facts_of_one_millisecond_follow_the_text_round_by_round() -> None:
    program = Program(make_plan(laps.tree))
    names = ["1", "2.1[0]", "2.2[0]", "2.1[1]", "2.2[1]", "3"]
    facts = [fact(name, 5) for name in reversed(names)]
    back = [fact(name, 5, "compensated") for name in ("1", "2.1[0]", "2.1[1]")]
    told = in_order(program, [*back, *facts, fact("4", 4)])
    assert [f"{f.position}[{f.round}]" if f.round else f.position for f in told] == [
        "4", *names, "2.1[1]", "2.1[0]", "1"
    ]  # fmt: skip
    assert [f.seq for f in told] == list(range(1, 11))


def fact(name: str, at_ms: int, label: str = "ok") -> FactRow:
    position, _, round_ = name.removesuffix("]").partition("[")
    return FactRow(1, position, round_, slot_of(label), label, None, 1, at_ms)
