"""Nobody is in control: whoever does not act may be stopped, home too, and comes back whenever."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from minuet import App
from minuet.runtime.host import Host
from tests.unit.runtime.apart import (
    PERFORMANCES,
    SERVICES,
    C,
    O,
    apart,
    entries,
    line,
    line_freely,
    place,
    quiet,
    shop,
    until,
    until_quiet,
)

pytestmark = pytest.mark.asyncio


async def begun(app: App, flow: Any, order: str, key: str) -> str:
    view, _ = await app.control.start(flow.name, msgspec.json.encode(order), key=key)
    return view.run


async def alone(app: App, service: str, folder: Path, what: str, key: str = "o-1") -> None:
    """Have one participant run, until it has done this and said so, and nobody else."""
    host = await app.hosts.start(service)

    async def has_done_it() -> bool:
        return what in entries(folder, key, [service])[service] and await quiet(host)

    await until(has_done_it)
    await app.hosts.stop(service)


async def stop_all(app: App) -> None:
    for service in SERVICES:
        await app.hosts.stop(service)
    if app.hosts.observer is not None:
        await app.hosts.stop_observer()
    await until_quiet(app)
    await app.hosts.stop_home()


async def test_a_choreographed_run_goes_on_while_only_whoever_acts_is_there(tmp_path: Path) -> None:
    async with apart(tmp_path, shop(), [line], styles={"line": C}) as app:
        for service in SERVICES:
            await app.hosts.stop(service)
        run = await begun(app, line, "tea", "o-1")
        await until_quiet(app)
        await app.hosts.stop_observer()
        await app.hosts.stop_home()
        await alone(app, "orders", tmp_path, "opened")
        await alone(app, "payments", tmp_path, "charged #tea")
        await alone(app, "inventory", tmp_path, "reserved tea")
        await alone(app, "shipping", tmp_path, "shipped 3")
        await app.hosts.start_home()
        ended = await app.control.wait(run, 10)
        assert (ended.state, ended.result) == ("completed", "paid #tea, 3 pieces")


async def test_a_run_is_taken_back_while_only_whoever_acts_is_there(tmp_path: Path) -> None:
    async with apart(tmp_path, shop(), [place], styles={"place": C}) as app:
        for service in SERVICES:
            await app.hosts.stop(service)
        run = await begun(app, place, "none", "o-1")
        await until_quiet(app)
        await app.hosts.stop_observer()
        await app.hosts.stop_home()
        await alone(app, "orders", tmp_path, "opened")
        await alone(app, "payments", tmp_path, "charged #none")
        inventory = await app.hosts.start("inventory")  # it rejects, and writes nothing down

        async def has_rejected() -> bool:
            facts = [
                f.label for s in await inventory.store.load_runs(list(inventory.participant.runs)) for f in s.facts
            ]
            return "rejected:sold-out" in facts and await quiet(inventory)

        await until(has_rejected)
        await app.hosts.stop("inventory")
        await alone(app, "payments", tmp_path, "refunded paid #none")
        await alone(app, "orders", tmp_path, "closed #none")
        await app.hosts.start_home()
        ended = await app.control.wait(run, 10)
        assert ended.state == "compensated"
        assert ended.rejection is not None
        assert (ended.rejection.code, ended.rejection.details) == ("sold-out", {"sku": "tea"})


async def test_with_home_gone_for_good_a_choreographed_run_comes_to_its_end(tmp_path: Path) -> None:
    async with apart(tmp_path, shop(), [place], styles={"place": C}) as app:
        runs = {key: await begun(app, place, order, key) for key, order in (("o-1", "tea"), ("o-2", "none"))}
        while (await app.hosts.home.store.sending(0, 1)) != []:
            await asyncio.sleep(0)
        await app.hosts.stop_observer()
        await app.hosts.stop_home()

        async def is_over() -> bool:
            shipped = entries(tmp_path, "o-1")["shipping"] == ["shipped 3"]
            return shipped and entries(tmp_path, "o-2")["orders"] == ["opened", "closed #none"]

        await until(is_over)
        await app.hosts.start_home()
        assert (await app.control.wait(runs["o-1"], 10)).state == "completed"
        assert (await app.control.wait(runs["o-2"], 10)).state == "compensated"
        await app.hosts.start_observer()
        await until_quiet(app)
        shown = await app.control.show(runs["o-2"])
        assert [f.label for f in shown.facts].count("compensated") == 2, "the observer hears what it has missed"


async def test_with_the_orchestrator_gone_a_choreographed_section_goes_on_to_its_end(tmp_path: Path) -> None:
    async with apart(tmp_path, shop(), [line_freely], styles={"line_freely": O}, observer=False) as app:
        await app.hosts.stop("inventory")
        run = await begun(app, line_freely, "tea", "o-1")
        await until_quiet(app)
        await app.hosts.stop_home()
        await app.hosts.start("inventory")
        await until(lambda: _is(entries(tmp_path, "o-1")["shipping"], ["shipped 3"]))
        await app.hosts.start_home()
        assert (await app.control.wait(run, 10)).state == "completed"


async def _is(found: object, wanted: object) -> bool:
    return found == wanted


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("flow", "styles"), PERFORMANCES[1:2] + PERFORMANCES[3:4] + PERFORMANCES[7:9])
async def test_whoever_stops_and_comes_back_at_any_moment_loses_nothing_and_does_nothing_twice(
    tmp_path: Path, flow: Any, styles: dict[str, str], seed: int
) -> None:
    dice = Random(seed)
    async with apart(tmp_path, shop(), [flow], styles=styles) as app:
        orders = {f"o-{n}": dice.choice(["tea", "none"]) for n in range(20)}
        runs = {}
        for key, order in orders.items():
            runs[key] = await begun(app, flow, order, key)
            if dice.random() < 0.7:
                await _trouble(app, dice)
        for _ in range(15):
            await _trouble(app, dice)
        for key, order in orders.items():
            ended = await app.control.wait(runs[key], 20)
            assert ended.state == ("completed" if order == "tea" else "compensated"), (key, ended)
        await until_quiet(app)
        for key, order in orders.items():
            done = entries(tmp_path, key)
            if order == "tea":
                wanted = (["opened"], ["charged #tea"], ["reserved tea"], ["shipped 3"])
            else:
                wanted = (["opened", "closed #none"], ["charged #none", "refunded paid #none"], [], [])
            assert tuple(done.values()) == wanted, key
        await _nothing_is_left(app)


async def _trouble(app: App, dice: Random) -> None:
    """Close some participant without a word, wherever it is, and have it back after a while."""
    for _ in range(dice.randrange(40)):
        await asyncio.sleep(0)
    who = dice.choice([*SERVICES, "home", "observer"])
    if who == "home":
        await app.hosts.stop_home()
        await app.hosts.start_home()
    elif who == "observer":
        await app.hosts.stop_observer()
        await app.hosts.start_observer()
    else:
        await app.hosts.stop(who)
        await app.hosts.start(who)


async def _nothing_is_left(app: App) -> None:
    """See that nobody keeps a message, has something to send, or has anything due."""
    hosts: list[Host] = [*app.hosts.all()]
    for host in hosts:
        assert await host.store.sending(0, 9) == [], host.address
        assert await host.store.early(None, 9) == [], host.address
        assert await host.store.runs_to_load(0, 9) == [], host.address
        assert await host.store.timers_due(1 << 60, 9) == [], host.address
    assert await app.control.failed() == []
