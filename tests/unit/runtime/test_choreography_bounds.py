"""Memory has a bound: of the runs of others, and of what cannot be sent; and who is slow holds up nobody."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from minuet import App, Service, action, event, wait_for, workflow
from minuet.brokers.embedded import EmbeddedBroker
from minuet.contracts.envelope import Envelope
from minuet.engine import decide
from minuet.engine.program import Program
from minuet.errors import BrokerUnavailable
from minuet.plans.placement import Placement
from minuet.plans.plan import make_plan
from minuet.runtime import relay
from minuet.runtime.memory import Memory
from tests.unit.runtime.apart import C, O, apart, until, until_quiet

pytestmark = pytest.mark.asyncio

PREFETCH = 512  # messages that are delivered and not acknowledged


class Front(Service):
    @action
    async def take(self, n: int) -> int:
        return n


class Back(Service):
    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.under_way = 0

    @action
    async def hold(self, n: int) -> int:
        self.under_way += 1
        await self.gate.wait()
        return n

    @action
    async def end(self, n: int) -> int:
        return n


class Side(Service):
    @action
    async def pass_by(self, n: int) -> int:
        return n


@workflow
async def held(n: int, *, front: Front, back: Back, side: Side) -> int:
    taken = await front.take(n)
    kept = await back.hold(taken)
    return await side.pass_by(kept)


@workflow
async def aside(n: int, *, front: Front, side: Side) -> int:
    taken = await front.take(n)
    return await side.pass_by(taken)


@event("side.seen", version=1, key="what", external=True)
@dataclass(frozen=True)
class Seen:
    what: str


@workflow
async def waiting(n: int, *, side: Side) -> int:
    await wait_for(Seen, key=str(n), by=side)
    return await side.pass_by(n)


async def started(app: App, flow: Any, count: int) -> list[str]:
    found = []
    for n in range(count):
        view, _ = await app.control.start(flow.name, msgspec.json.encode(n))
        found.append(view.run)
    return found


@pytest.mark.parametrize("style", [O, C])
async def test_runs_that_only_wait_for_others_leave_memory(tmp_path: Path, style: str) -> None:
    """With room for 70 runs a thousand are performed at once: whoever is not acting forgets them."""
    back, limit = Back(), 70
    services = [Front(), back, Side()]
    told = {"runs_in_memory": limit}
    async with apart(tmp_path, services, [held], styles={"held": style}, settings=told, observer=False) as app:
        await app.hosts.stop("back")
        runs = await started(app, held, 1_000)
        await until_quiet(app)
        for host in app.hosts.all():
            assert len(host.participant.runs) <= limit, host.address
        back.gate.clear()
        held_up = await app.hosts.start("back")
        await until(lambda: _is(back.under_way, 64))
        for _ in range(100):
            await asyncio.sleep(0.001)
            assert len(held_up.participant.runs) <= limit + PREFETCH, "the broker has the rest"
        back.gate.set()
        for run in runs:
            assert (await app.control.wait(run, 60)).state == "completed"
        await until_quiet(app)
        for host in app.hosts.all():
            assert len(host.participant.runs) <= limit, host.address


async def test_nobody_waits_for_a_slow_service_but_its_own_runs(tmp_path: Path) -> None:
    back = Back()
    back.gate.clear()
    services, styles = [Front(), back, Side()], {"held": C, "aside": C}
    async with apart(tmp_path, services, [held, aside], styles=styles, observer=False) as app:
        await started(app, held, 200)
        await until(lambda: _is(back.under_way, 64))  # all its slots
        async with asyncio.timeout(60):
            for n in range(50):
                assert await app.run(aside, n) == n
        back.gate.set()


class Cut:
    """A broker that can be cut off."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.broker, self.is_cut = broker, False
        self._publish = broker.publish

    async def publish(self, batch: Sequence[Envelope]) -> None:
        if self.is_cut:
            raise BrokerUnavailable("the wire is cut", remedy="Mend it")
        await self._publish(batch)


async def test_what_cannot_be_sent_waits_in_the_store_with_one_line_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "IN_MEMORY", 20)
    monkeypatch.setattr(relay, "TRY_AGAIN_MS", 5)
    services = [Front(), Back(), Side()]
    async with apart(tmp_path, services, [aside], styles={"aside": C}, observer=False) as app:
        broker = app.hosts.broker
        assert isinstance(broker, EmbeddedBroker)
        cut = Cut(broker)
        monkeypatch.setattr(broker, "publish", cut.publish)
        cut.is_cut = True
        with caplog.at_level(logging.WARNING, "minuet"):
            runs = await started(app, aside, 300)
            home = app.hosts.home
            assert home.exchange is not None
            await until(lambda: _has_tried_again(home.exchange.relay))  # type: ignore[union-attr]
            assert home.exchange.relay.backlog <= 20 + 1
            assert len(await home.store.sending(0, 1_000)) == 300
            assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
                "messages wait, and are sent when this is over"
            ]
            cut.is_cut = False
            for run in runs:
                assert (await app.control.wait(run, 30)).state == "completed"
        assert [r.getMessage() for r in caplog.records][-1] == "messages are sent again"
        assert len(caplog.records) == 2
        await until_quiet(app)
        assert await home.store.sending(0, 9) == []


async def _has_tried_again(of: relay.Relay) -> bool:
    return of.is_cut_off


async def _is(found: object, wanted: object) -> bool:
    return found == wanted


async def test_a_message_whose_row_is_damaged_holds_up_no_other(tmp_path: Path) -> None:
    services = [Front(), Back(), Side()]
    async with apart(tmp_path, services, [aside], styles={"aside": C}, observer=False) as app:
        await app.hosts.stop("front")
        await app.hosts.stop_home()
        connection = sqlite3.connect(tmp_path / "shop.db")
        connection.execute("insert into minuet_sending (message, topic, envelope) values ('odd', 'x', 'no json')")
        connection.commit()
        connection.close()
        await app.hosts.start_home()
        await app.hosts.start("front")
        async with asyncio.timeout(60):
            assert await app.run(aside, 1) == 1


async def test_a_run_that_has_nothing_to_do_leaves_at_once_where_there_are_too_many() -> None:
    program = Program(make_plan(aside.tree, Placement(root=C)), who=frozenset({"side"}))
    memory = Memory(2)
    for run in range(1, 6):
        memory.keep(decide.meet(program, run, "k", "home", 0))
    for k in list(memory.runs.values()):
        memory.release(k)
    assert list(memory.runs) == [4, 5]


async def test_an_observer_rejects_nothing_by_itself() -> None:
    program = Program(make_plan(waiting.tree, Placement(root=C)), only_watches=True)
    k = decide.meet(program, 1, "k", "home", 0)
    decide.heard(k, "start", (), "ok", b"1", {}, 1)
    assert k.waits
    d = decide.heard(k, "$cancel", (), "requested", None, {}, 2)
    assert d is not None
    assert [f.position for f in d.decision.facts] == ["$cancel"]
    assert k.waits, "whoever waits there says what becomes of it"
