"""What facts would carry, by estimate: from the types of what is carried, and only from what is read later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import pytest

from minuet.contracts.schema import schema_of
from minuet.contracts.service import Service, action
from minuet.finding import Severity
from minuet.plans.check import check, warnings
from minuet.plans.estimate import ELEMENTS, UNKNOWN_BYTES, Estimate, Shape
from minuet.plans.placement import Placement
from minuet.plans.plan import make_plan
from minuet.workflows.words import choreography, each
from minuet.workflows.workflow import Workflow, workflow

CHOREOGRAPHED = Placement(root="choreography")

Text = Annotated[str, msgspec.Meta(max_length=9_000)]


@dataclass(frozen=True)
class Report:
    id: str
    text: Text


@dataclass(frozen=True)
class Leaf:
    value: Annotated[str, msgspec.Meta(max_length=10)]
    below: Leaf | None = None


class Clerk(Service):
    @action(pure=True)
    async def write(self, order: str) -> Report:
        return Report(order, order)

    @action(pure=True)
    async def part(self, order: str) -> Annotated[str, msgspec.Meta(max_length=600)]:
        return order


class Desk(Service):
    @action
    async def look(self, order: str) -> None: ...

    @action
    async def read(self, report: Report) -> None: ...

    @action
    async def take(self, parts: list[Annotated[str, msgspec.Meta(max_length=600)]]) -> None: ...


class Stock(Service):
    @action
    async def pick(self, order: str) -> None: ...


@workflow
async def passed_on(order: str, *, clerk: Clerk, desk: Desk, stock: Stock) -> None:
    report = await clerk.write(order)
    await stock.pick(order)
    await stock.pick(order)
    await desk.read(report)


@workflow
async def to_the_next(order: str, *, clerk: Clerk, desk: Desk) -> None:
    report = await clerk.write(order)
    await desk.read(report)


@workflow
async def only_its_id(order: str, *, clerk: Clerk, desk: Desk, stock: Stock) -> None:
    report = await clerk.write(order)
    await stock.pick(order)
    await desk.look(report.id)


@workflow
async def asked_about(order: str, *, clerk: Clerk, desk: Desk, stock: Stock) -> None:
    report = await clerk.write(order)
    await stock.pick(order)
    if len(report.text) > 100:
        await desk.look(order)


@workflow
async def returned(order: str, *, clerk: Clerk, stock: Stock) -> Report:
    report = await clerk.write(order)
    await stock.pick(order)
    return report


@workflow
async def many(orders: list[str], *, clerk: Clerk, desk: Desk, stock: Stock) -> None:
    parts = await each(orders, lambda order: clerk.part(order), limit=100, by=stock)  # noqa: PLW0108
    await stock.pick("x")
    await desk.take(parts)


@workflow
async def few(orders: list[str], *, clerk: Clerk, desk: Desk, stock: Stock) -> None:
    parts = await each(orders, lambda order: clerk.part(order), limit=5, by=stock)  # noqa: PLW0108
    await stock.pick("x")
    await desk.take(parts)


@workflow
async def its_input(report: Report, *, desk: Desk, stock: Stock) -> None:
    await stock.pick(report.id)
    await desk.read(report)


@workflow
async def in_a_section(report: Report, *, desk: Desk, stock: Stock) -> None:
    async with choreography():
        await stock.pick(report.id)
        await desk.read(report)


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (passed_on, 'what stock.pick tells desk would carry about 9 KiB, most of it "report"'),
        (to_the_next, None),
        (only_its_id, None),
        (asked_about, None),
        (returned, 'what stock.pick tells whoever started the run would carry about 9 KiB, most of it "report"'),
        (few, None),
        (its_input, 'what stock.pick tells desk would carry about 9 KiB, most of it "report"'),
    ],
)
def test_what_is_passed_on_and_weighs_much_is_a_warning(flow: Workflow[Any, Any, Any], message: str | None) -> None:
    found = warnings(flow.tree, CHOREOGRAPHED)
    assert [f.message for f in found] == ([] if message is None else [message])
    assert check(flow.tree, CHOREOGRAPHED) == [], "a warning refuses nothing"
    assert warnings(flow.tree, Placement()) == []
    for f in found:
        assert (f.code, f.severity) == ("M511", Severity.WARNING)
        assert f'styles={{"{flow.name}": "orchestration"}}' in f.remedy


def test_what_an_each_gives_counts_as_many_times_as_it_may_well_be_given() -> None:
    assert [f.message for f in warnings(many.tree, CHOREOGRAPHED)] == [
        "what clerk.part tells stock would carry about 11 KiB, most of it the results of clerk.part",
        'what stock.pick tells desk would carry about 10 KiB, most of it "parts"',
    ], "who has done all of them knows the whole list when it has done the last"


def test_the_border_of_a_section_carries_too() -> None:
    first, second = warnings(in_a_section.tree), in_a_section.function.__code__.co_firstlineno
    assert [(f.line - second, f.message) for f in first] == [
        (2, 'what position 1 tells stock would carry about 9 KiB, most of it "report"')
    ]
    assert 'styles={"in_a_section/1": "orchestration"}' in first[0].remedy


def test_of_one_value_that_is_passed_on_twice_the_first_place_is_named() -> None:
    (found,) = warnings(passed_on.tree, CHOREOGRAPHED)
    assert found.line == passed_on.function.__code__.co_firstlineno + 4, "the second pick tells the desk"


@pytest.mark.parametrize(
    ("type_", "size"),
    [
        (str, UNKNOWN_BYTES),
        (Annotated[str, msgspec.Meta(max_length=100)], 102),
        (list[str], 2 + ELEMENTS * (UNKNOWN_BYTES + 1)),
        (Annotated[list[bool], msgspec.Meta(max_length=3)], 2 + 3 * 6),
        (tuple[bool, bool], 2 + 2 * 6),
        (Literal["small", "medium"], len('"medium"')),
        (bool | None, 5),
        (datetime, len('"2026-01-31T00:00:00.000000Z"')),
        (date, len('"2026-01-31"')),
        (UUID, len('"12345678-1234-5678-1234-567812345678"')),
        (Decimal, 16),
        (dict[str, bool], 2 + ELEMENTS * 25),
        (Report, 2 + len('"id": ,') - 1 + UNKNOWN_BYTES + len('"text": ,') - 1 + 9_002),
        (None, 4),
    ],
)
def test_a_type_counts_as_much_as_it_says(type_: Any, size: int) -> None:
    schema = schema_of(type_)
    assert Shape(schema, schema.get("$defs", {})).bytes == pytest.approx(size, abs=4)


def test_a_type_that_is_a_part_of_itself_has_a_size() -> None:
    schema = schema_of(Leaf)
    assert 20 < Shape(schema, schema.get("$defs", {})).bytes < 1_000


def test_of_what_nothing_is_known_something_is_assumed() -> None:
    assert Shape().bytes == UNKNOWN_BYTES
    assert Shape().part("a").bytes == UNKNOWN_BYTES
    plan = make_plan(passed_on.tree, CHOREOGRAPHED)
    assert all(Estimate(plan, {}).bytes_of(v) == UNKNOWN_BYTES for v, x in enumerate(plan.values) if x.kind == "out")


def test_no_larger_value_than_estimated_fits_a_bounded_type() -> None:
    largest = msgspec.json.encode(Report("x" * (UNKNOWN_BYTES - 2), "x" * 9_000))
    schema = schema_of(Report)
    assert len(largest) <= Shape(schema, schema.get("$defs", {})).bytes
