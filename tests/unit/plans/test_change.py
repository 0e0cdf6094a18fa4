"""Differences of plans. The texts are read as a user writes them, since that is what is compared."""

from __future__ import annotations

import importlib.util
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from minuet.plans.change import PlanChange, compare
from minuet.plans.plan import Plan, load_plan, make_plan

SERVICES = """
from __future__ import annotations
from dataclasses import dataclass
from datetime import timedelta
from minuet import Rejection, Service, action, attempt, compensation, event, sleep, together, wait_for, workflow

@event("carrier.picked-up", version=1, key="order")
@dataclass(frozen=True)
class PickedUp:
    order: str

class Declined(Rejection): ...

class Shop(Service):
    @action
    async def open(self, order: str) -> str: ...
    @compensation(open)
    async def close(self, order: str) -> None: ...
    @action
    async def check(self, order: str) -> None: ...
    @action(rejects=(Declined,))
    async def charge(self, order: str, amount: int) -> str: ...
    @action
    async def ship(self, order: str) -> str: ...

@workflow
async def place(order: str, *, shop: Shop) -> str | None:
"""
BEGIN = """
opened = await shop.open(order)
charged = await shop.charge(opened, 10)
parcel = await shop.ship(charged)
return parcel
"""


class Reader:
    """Reads texts as modules of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.read = 0

    def plan(self, text: str) -> Plan:
        self.read += 1
        name = f"placed_{self.read}"
        path = self.folder / f"{name}.py"
        path.write_text(SERVICES + textwrap.indent(text.strip(), "    ") + "\n", encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their annotations up there
        try:
            spec.loader.exec_module(module)
        finally:
            del sys.modules[name]
        return load_plan(make_plan(module.place.tree).to_json())

    def __call__(self, new: str, old: str = BEGIN) -> PlanChange:
        return compare(self.plan(old), self.plan(new))


@pytest.fixture
def change(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


def told(found: PlanChange) -> list[tuple[str, str, str, tuple[str, ...]]]:
    return [(d.kind, f"{d.was}>{d.position}" if d.was else d.position, d.what, d.details) for d in found.differences]


def test_formatting_and_comments_make_no_difference(change: Reader) -> None:
    found = change("# a comment\n" + BEGIN.replace("(opened, 10)", "(\n        opened,\n        10,\n    )"))
    assert (found.is_same, found.whole, found.differences) == (True, (), ())
    assert found.meaning(5) == "They are the same plan."


def test_a_new_step_moves_those_behind_it(change: Reader) -> None:
    found = change(BEGIN.replace("charged =", "await shop.check(opened)\ncharged ="))
    assert told(found) == [
        ("added", "2", "shop.check", ()),
        ("moved", "2>3", "shop.charge", ()),
        ("moved", "3>4", "shop.ship", ()),
    ]


def test_a_step_that_is_gone_is_named_where_it_was(change: Reader) -> None:
    found = change(BEGIN.replace("charged = await shop.charge(opened, 10)\n", "").replace("(charged)", "(opened)"))
    assert told(found) == [
        ("removed", "2", "shop.charge", ()),
        ("moved", "3>2", "shop.ship", ("order: charged -> opened",)),
    ]


def test_each_part_of_a_step_is_compared(change: Reader) -> None:
    found = change(BEGIN.replace("(opened, 10)", '(opened + "!", 12).retry(3, first=2).timeout(60)'))
    assert told(found) == [
        (
            "changed",
            "2",
            "shop.charge",
            (
                'order: opened -> opened + "!"',
                "amount: 10 -> 12",
                "retry: nothing -> 3 attempts from 2000 ms to 300000 ms",
                "timeout: nothing -> 60000 ms",
            ),
        )
    ]


def test_a_step_that_is_kept_now_has_no_compensation(change: Reader) -> None:
    assert told(change(BEGIN.replace("shop.open(order)", "shop.open(order).keep()"))) == [
        ("changed", "1", "shop.open", ("compensation: shop.close -> nothing", "keep: False -> True"))
    ]


def test_steps_that_change_places_have_moved(change: Reader) -> None:
    old = "await shop.check(order)\nawait shop.charge(order, 1)\nreturn None"
    new = "await shop.charge(order, 1)\nawait shop.check(order)\nreturn None"
    assert sorted(position for _, position, _, _ in told(change(new, old))) == ["1>2", "2>1"]


def test_a_step_that_is_put_into_a_block_has_moved(change: Reader) -> None:
    charge = "charged = await shop.charge(opened, 10)"
    block = f"async with attempt(Declined) as tried:\n    {charge}\nif tried.rejected:\n    return None"
    found = change(BEGIN.replace(charge, block))
    kinds = {(kind, position) for kind, position, _, _ in told(found)}
    assert {("added", "2"), ("moved", "2>2.1"), ("added", "3"), ("moved", "3>4")} == kinds


def test_durations_and_conditions_are_shown_as_text(change: Reader) -> None:
    old = "if len(order) > 3:\n    await sleep(timedelta(hours=1), by=shop)\nawait shop.check(order)\nreturn None"
    new = old.replace("> 3", "> 4").replace("hours=1", "hours=2")
    assert [details for _, _, _, details in told(change(new, old))] == [
        ("condition: len(order) > 3 -> len(order) > 4",),
        ("duration: 3600000 ms -> 7200000 ms",),
    ]


def test_another_result_is_told_of_the_whole(change: Reader) -> None:
    found = change(BEGIN.replace("return parcel", "return opened"))
    assert found.differences == ()
    assert found.whole == ("what it assigns or returns, outside of any block",)
    assert not found.is_same


def test_another_return_inside_of_a_block_is_told_there(change: Reader) -> None:
    old = "await shop.check(order)\nif len(order) > 3:\n    return order\nreturn None"
    found = change(old.replace("return order", 'return "x"'), old)
    assert told(found) == [("changed", "2", "choice", ("what it assigns or returns",))]


def test_what_it_means_for_runs_in_flight_is_said(change: Reader) -> None:
    found = change(BEGIN.replace("10", "11"))
    old, new = (name.rpartition("@")[2] for name in (found.old, found.new))
    assert found.meaning() == f"Runs that began with {old} stay on it to their end; new runs take {new}."
    assert found.meaning(1) == f"1 unfinished run stays on {old} to the end; new runs take {new}."
    assert found.meaning(1200).startswith("1,200 unfinished runs stay on")


def test_styles_and_rules_are_told_of_the_whole(change: Reader) -> None:
    plan = change.plan(BEGIN)
    other = replace(plan, style="choreography", digest="1" * 16)
    assert compare(plan, other).whole == ("style: orchestration -> choreography",)
    assert compare(plan, replace(plan, digest="1" * 16)).whole == (
        "the same text, compiled to other rules: by another release, or with other types",
    )
    assert compare(plan, replace(plan, workflow="other")).whole[0] == "they are different workflows: place, other"
    assert "the type of the input" in compare(plan, replace(plan, input_shape="x")).whole
    assert "the type of the result" in compare(plan, replace(plan, result_shape="x")).whole
