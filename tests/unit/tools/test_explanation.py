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
from minuet.plans.check import check
from minuet.plans.plan import make_plan
from minuet.server.problem import CODES
from minuet.tools.explanation import FOLDER, codes, explanation, title

PACKAGE = Path(minuet.__file__).parent
REFUSALS = [code for code in codes() if code.startswith("M")]

PRELUDE = """
from __future__ import annotations
import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from minuet import (Rejection, Service, action, attempt, choreography, compensation, deadline, each,
                    orchestration, sleep, together, workflow)

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

class Accounts(Service):
    @action
    async def review(self, order_id: str) -> None: ...

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
    assert heads == (["Refused", "Write instead"] if code in REFUSALS else ["For example", "What to do"])
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
        found = check(tree)
        make_plan(tree)
    except WorkflowRefused as refused:
        found = refused.findings
    assert code in {finding.code for finding in found}, found


@pytest.mark.parametrize("code", REFUSALS)
def test_what_is_said_to_be_written_instead_is_read(code: str, tmp_path: Path) -> None:
    module = load(tmp_path, f"instead_{code.lower()}", examples(code)[1])
    assert not module.place_order.notes
    assert not check(module.place_order.tree)
    make_plan(module.place_order.tree)
