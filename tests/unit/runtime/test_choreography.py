"""The classical order in every style, by participants that share nothing but messages: the same text, the same end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from minuet import RunRejected
from minuet.runtime.view import RunView
from tests.unit.runtime.apart import (
    PERFORMANCES,
    C,
    O,
    apart,
    entries,
    line,
    line_freely,
    line_led,
    place,
    place_around,
    sent,
    shop,
    until_quiet,
)

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize(("flow", "styles"), PERFORMANCES)
async def test_an_order_comes_to_its_end_in_every_style(tmp_path: Path, flow: Any, styles: dict[str, str]) -> None:
    async with apart(tmp_path, shop(), [flow], styles=styles) as app:
        assert await app.run(flow, "tea", key="o-1") == "paid #tea, 3 pieces"
    assert entries(tmp_path, "o-1") == {
        "orders": ["opened"],
        "payments": ["charged #tea"],
        "inventory": ["reserved tea"],
        "shipping": ["shipped 3"],
    }


@pytest.mark.parametrize(("flow", "styles"), PERFORMANCES)
async def test_a_rejected_order_is_taken_back_in_every_style(tmp_path: Path, flow: Any, styles: dict[str, str]) -> None:
    async with apart(tmp_path, shop(), [flow], styles=styles) as app:
        with pytest.raises(RunRejected) as rejected:
            await app.run(flow, "none", key="o-1")
    assert (rejected.value.rejection.code, rejected.value.rejection.details) == ("sold-out", {"sku": "tea"})
    assert entries(tmp_path, "o-1") == {
        "orders": ["opened", "closed #none"],
        "payments": ["charged #none", "refunded paid #none"],
        "inventory": [],
        "shipping": [],
    }


# What is published when all goes well, and when the stock rejects, and how much of that is no message here but a call:
# the client's request, and the notice of the end, where no fact has told it.
COUNTS: list[tuple[Any, dict[str, str], tuple[int, int], tuple[int, int]]] = [
    (line, {"line": O}, (10, 2), (12, 2)),
    (line, {"line": C}, (5, 0), (6, 0)),
    (line_freely, {"line_freely": O}, (9, 2), (12, 2)),
    (line_led, {"line_led": C}, (8, 1), (8, 0)),
    (place, {"place": O}, (10, 2), (12, 2)),
    (place, {"place": C}, (5, 0), (6, 0)),
    (place_around, {"place_around": O}, (9, 2), (10, 2)),
]


@pytest.mark.parametrize(("flow", "styles", "well", "rejected"), COUNTS)
async def test_an_order_takes_as_many_messages_as_it_must(
    tmp_path: Path, flow: Any, styles: dict[str, str], well: tuple[int, int], rejected: tuple[int, int]
) -> None:
    async with apart(tmp_path, shop(), [flow], styles=styles, observer=False) as app:
        for order, (published, calls) in (("tea", well), ("none", rejected)):
            before = await sent(app)
            view, _ = await app.control.start(flow.name, msgspec.json.encode(order), key=order)
            ended = await app.control.wait(view.run, None)
            assert ended.state == ("completed" if order == "tea" else "compensated")
            assert await sent(app) - before + calls == published, order


def told(view: RunView) -> dict[tuple[str, str, str], Any]:
    """Give the facts that are shown of a run, without when and in which order they were heard."""
    return {(f.position, f.round, f.label): msgspec.structs.replace(f, seq=0, at_ms=0) for f in view.facts}


@pytest.mark.parametrize(("flow", "styles"), PERFORMANCES)
@pytest.mark.parametrize("order", ["tea", "none"])
async def test_a_run_is_shown_as_where_all_share_one_store(
    tmp_path: Path, flow: Any, styles: dict[str, str], order: str
) -> None:
    seen: dict[bool, RunView] = {}
    for per_service in (True, False):
        folder = tmp_path / str(per_service)
        folder.mkdir()
        async with apart(folder, shop(), [flow], styles=styles, per_service=per_service) as app:
            await app.control.start(flow.name, msgspec.json.encode(order), key="o-1")
            run = (await app.control.find("o-1")).run
            await app.control.wait(run, None)

            await until_quiet(app)
            seen[per_service] = await app.control.show(run)
    assert told(seen[True]) == told(seen[False])
    same = {"run": "", "facts": [], "started_at_ms": 0, "ended_at_ms": 0}
    assert msgspec.structs.replace(seen[True], **same) == msgspec.structs.replace(seen[False], **same)
