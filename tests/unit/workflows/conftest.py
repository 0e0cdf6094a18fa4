"""Modules of users, written as text and imported from a file: a workflow is read from its source."""

from __future__ import annotations

import importlib.util
import itertools
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from minuet.errors import WorkflowRefused
from minuet.finding import Finding

PRELUDE = """
import asyncio, dataclasses, datetime as dt, enum, os, random, time, typing, uuid
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_never
import msgspec
from pydantic import BaseModel
from minuet.contracts.action import DeadlinePassed, Rejection, TimedOut
from minuet.contracts.handler import Context, injected
from minuet.contracts.message import event
from minuet.contracts.service import Service, action, compensation
from minuet.workflows.words import (
    at, attempt, choreography, deadline, each, orchestration, sleep, together, wait_for,
)
from minuet.workflows.workflow import workflow

class State(enum.Enum):
    OPEN = "open"
    CLOSED = "closed"

@dataclass(frozen=True)
class Line:
    sku: str
    quantity: int

@dataclass(frozen=True)
class Order:
    id: str
    total: Decimal
    lines: tuple[Line, ...]
    rate: float = 1.0
    note: str | None = None
    day: date = date(2026, 1, 1)
    state: State = State.OPEN
    numbers: tuple[int, ...] = ()
    _private: str = ""
    @property
    def size(self) -> int: return len(self.lines)
    def weight(self) -> int: return 1

@dataclass(frozen=True)
class Receipt:
    id: str
    risk: int = 0

@dataclass(frozen=True)
class Hold:
    id: str
    made: datetime = field(default_factory=datetime.now)

class CardDeclined(Rejection, code="card-declined"): ...
class OutOfStock(Rejection): ...

@event("carrier.picked-up", version=2, key="parcel", external=True)
@dataclass(frozen=True)
class PickedUp:
    parcel: str
    driver: str = ""

class Payments(Service):
    @action(rejects=(CardDeclined,), retry=4, timeout=60)
    async def charge(self, order: str, amount: Decimal, card: str = "none") -> Receipt: ...
    @compensation(charge)
    async def refund(self, receipt: Receipt) -> None: ...
    @action
    async def review(self, receipt: Receipt) -> bool: ...
    @action
    async def void(self, receipt: Receipt) -> None: ...
    @action(rejects=(CardDeclined,))
    async def doubt(self, receipt: Receipt) -> None: ...
    @action
    async def two(self, receipt: Receipt, why: str) -> None: ...
    @action
    async def pair(self) -> tuple[int, Decimal]: ...

class Inventory(Service):
    @action(rejects=(OutOfStock,))
    async def reserve(self, lines: tuple[Line, ...]) -> Hold: ...
    @compensation(reserve)
    async def release(self, hold: Hold) -> None: ...
    @action
    async def pick(self, line: Line, *, context: Context = injected()) -> int: ...
    @action(pure=True)
    async def look(self, sku: str) -> int | None: ...
"""

_numbers = itertools.count(1)


@pytest.fixture
def module_of(tmp_path: Path) -> Iterator[Callable[[str], ModuleType]]:
    """Import a text as a module of its own, behind the prelude."""
    made: list[str] = []

    def load(text: str) -> ModuleType:
        name = f"flows_{next(_numbers)}"
        path = tmp_path / f"{name}.py"
        path.write_text(PRELUDE + text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        made.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in made:
        sys.modules.pop(name, None)
    linecache.clearcache()


@pytest.fixture
def findings_of(module_of: Callable[[str], ModuleType]) -> Callable[[str], list[Finding]]:
    """Import a text that must be refused, and give what was found."""

    def load(text: str) -> list[Finding]:
        with pytest.raises(WorkflowRefused) as caught:
            module_of(text)
        return caught.value.findings

    return load


@pytest.fixture
def flow(module_of: Callable[[str], ModuleType]) -> Callable[..., ModuleType]:
    """Import a workflow that has this body."""

    def load(body: str, *, before: str = "", returns: str = "object") -> ModuleType:
        return module_of(around(body, before=before, returns=returns))

    return load


def around(body: str, *, before: str = "", returns: str = "str | int | Decimal | None | tuple[int, ...]") -> str:
    """Put a workflow around a body."""
    lines = "\n".join(f"    {line}" for line in body.strip("\n").splitlines())
    head = "async def f(order: Order, *, payments: Payments, inventory: Inventory)"
    return f"{before}\n@workflow\n{head} -> None:\n{lines}\n"
