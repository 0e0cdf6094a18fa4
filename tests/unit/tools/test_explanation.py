"""Each code is explained; and what an explanation refuses is refused, with that code, and what it advises is read."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import minuet
from minuet.contracts.action import CANCELLED, PLATFORM_CODES
from minuet.errors import MinuetError, NotFound, WorkflowRefused
from minuet.finding import Severity
from minuet.plans.check import check, warnings
from minuet.plans.placement import Placement
from minuet.plans.plan import make_plan
from minuet.plans.projectable import REFUSED_BY_READER
from minuet.server.problem import CODES
from minuet.tools.explanation import FOLDER, codes, explanation, title

PACKAGE = Path(minuet.__file__).parent
REFUSALS = [code for code in codes() if code.startswith("M")]
PROJECTABLE = [f"M{n}" for n in range(501, 513)]

PRELUDE = """
from __future__ import annotations
import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated
import msgspec
from minuet import (Rejection, Service, action, at, attempt, choreography, compensation, deadline, each, event,
                    orchestration, outside, sleep, together, wait_for, workflow)

@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int

@dataclass(frozen=True)
class Order:
    id: str
    total: Decimal
    lines: tuple[Line, ...]

@dataclass(frozen=True)
class Receipt:
    id: str

@dataclass(frozen=True)
class Hold:
    id: str
    sku: str

@dataclass(frozen=True)
class Report:
    id: str
    text: Annotated[str, msgspec.Meta(max_length=20_000)]

@event("desk.approved", version=1)
@dataclass(frozen=True)
class Approved:
    by: str

class CardDeclined(Rejection): ...

class Payments(Service):
    @action(rejects=(CardDeclined,))
    async def charge(self, order_id: str, amount: Decimal) -> Receipt: ...
    @compensation(charge)
    async def refund(self, receipt: Receipt) -> None: ...
    @action
    async def settle(self, receipt: Receipt) -> None: ...
    @action
    async def review(self, order_id: str) -> None: ...
    @action
    async def check(self, order_id: str) -> bool: ...
    @action
    async def note(self, is_risky: bool) -> None: ...

class Accounts(Service):
    @action
    async def review(self, order_id: str) -> None: ...
    @action
    async def keep(self, report: Report) -> None: ...
    @action
    async def fetch(self, report_id: str) -> None: ...

class Risk(Service):
    @action(pure=True, private=())
    async def score(self, order_id: str) -> int: ...
    @action(pure=True)
    async def archive(self, order_id: str) -> None: ...
    @action(pure=True)
    async def assess(self, order_id: str) -> str: ...
    @action(pure=True)
    async def report(self, order_id: str) -> Report: ...

class Inventory(Service):
    @action
    async def reserve(self, line: Line) -> Hold: ...
    @compensation(reserve)
    async def release(self, hold: Hold) -> None: ...
"""


def error_codes(kind: type[MinuetError] = MinuetError) -> Iterator[str]:
    if kind.__module__ == "minuet.errors":
        yield kind.code
    for below in kind.__subclasses__():
        yield from error_codes(below)


def finding_codes() -> set[str]:
    """Give every `M0xx` that stands as a text of its own in the source."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.fullmatch(r"M\d{3}", node.value):
                found.add(node.value)
    return found


def test_each_code_is_explained_and_nothing_else_is() -> None:
    known = {*error_codes(), *finding_codes(), *CODES, *PLATFORM_CODES, CANCELLED}
    assert set(codes()) == known


@pytest.mark.parametrize("code", codes())
def test_an_explanation_has_a_title_an_example_and_a_way_out(code: str) -> None:
    text = explanation(code)
    assert text.startswith(f"# {code}: {title(code)}\n")
    heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
    left = ["Left alone"] if code in PROJECTABLE else []
    assert heads == (["Refused", "Write instead", *left] if code in REFUSALS else ["For example", "What to do"])
    assert all(len(line) <= 120 for line in text.splitlines())


def test_case_does_not_matter_and_a_misspelt_code_names_the_one_that_was_meant() -> None:
    assert explanation("m006") == explanation("M006")
    with pytest.raises(NotFound, match="Did you mean key-conflict"):
        explanation("key-conflct")
    with pytest.raises(NotFound):
        explanation("../templates/README.md")


def examples(code: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (FOLDER / f"{code}.md").read_text(encoding="utf-8"), re.DOTALL)


def load(folder: Path, name: str, text: str) -> ModuleType:
    path = folder / f"{name}.py"
    path.write_text(PRELUDE + "\n\n" + text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their annotations up there
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@pytest.mark.parametrize("code", REFUSALS)
def test_what_is_said_to_be_refused_is_refused_with_this_code(code: str, tmp_path: Path) -> None:
    wrong = examples(code)[0]
    name = f"refused_{code.lower()}"
    if code == "M019":
        assert [note.code for note in load(tmp_path, name, wrong).place_order.notes] == [code]
        return
    try:
        tree = load(tmp_path, name, wrong).place_order.tree
        found = [*check(tree), *warnings(tree)]
        make_plan(tree)
    except WorkflowRefused as refused:
        found = refused.findings
        assert code not in PROJECTABLE or code in REFUSED_BY_READER
    wanted = REFUSED_BY_READER.get(code, code)
    assert wanted in {finding.code for finding in found}, found
    assert wanted == code or f"`{wanted}`" in explanation(code), "the explanation says who refuses it"


@pytest.mark.parametrize("code", sorted(set(PROJECTABLE) - set(REFUSED_BY_READER)))
def test_the_setting_that_is_offered_makes_the_finding_go(code: str, tmp_path: Path) -> None:
    tree = load(tmp_path, f"orchestrated_{code.lower()}", examples(code)[0]).place_order.tree
    (found,) = [*check(tree), *warnings(tree)]
    assert (found.code, found.severity) == (code, Severity.WARNING if code == "M511" else Severity.ERROR)
    assert 'styles={"place_order/1": "orchestration"}' in found.remedy
    orchestrated = Placement(sections={"1": "orchestration"})
    assert [*check(tree, orchestrated), *warnings(tree, orchestrated)] == []


@pytest.mark.parametrize("code", PROJECTABLE)
def test_what_is_said_to_be_left_alone_is_left_alone(code: str, tmp_path: Path) -> None:
    tree = load(tmp_path, f"left_{code.lower()}", examples(code)[2]).place_order.tree
    assert [*check(tree), *warnings(tree)] == []
    assert "choreography" in make_plan(tree).sections.values()


@pytest.mark.parametrize("code", REFUSALS)
def test_what_is_said_to_be_written_instead_is_read(code: str, tmp_path: Path) -> None:
    module = load(tmp_path, f"instead_{code.lower()}", examples(code)[1])
    assert not module.place_order.notes
    assert not check(module.place_order.tree)
    assert not warnings(module.place_order.tree)
    make_plan(module.place_order.tree)
