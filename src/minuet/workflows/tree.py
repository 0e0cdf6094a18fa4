"""The syntax tree of a workflow: one frozen node per construct. Pure data, made by the reader, compiled by `plans`.

Every node is a piece with a single entry, so that any node can be a section. Control that leaves early
(`return`, `break`, `continue`) is a node too; what follows a piece with several ends is never copied.

Positions are static names of places in the text: `1`, `2a`, `3.then.1`, `4.1` (inside block 4). Only nodes that
record facts, and blocks, count. A call prefixes its callee's positions with its own: `5.1`.

An expression is a nested tuple in the JSON form of `workflows.expression`; `("var", name)` reads a variable.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from minuet.contracts.action import RetryPolicy

Expression = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands in the user's source; no part of a plan's digest. Both count from 1."""

    file: str
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A piece of a workflow."""

    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Node):
    """One action of one service; `arguments` are (parameter, expression), in the order of the signature.

    `out` names the variable that is bound to the result. `compensation` is (service, action), already resolved
    (the workflow wins over the contract). `keep`: the effect is meant to stay; `pure`: there is none.
    `rejects` are the declared codes. `partial`: an argument may fail to evaluate, or to be decoded.
    """

    position: str
    service: str
    action: str
    arguments: tuple[tuple[str, Expression], ...]
    out: str
    rejects: tuple[str, ...] = ()
    compensation: tuple[str, str] | None = None
    keep: bool = False
    pure: bool = False
    partial: bool = False
    retry: RetryPolicy | None = None
    timeout_ms: int | None = None
    timeout_then: str = "ask"
    attempt_timeout_ms: int | None = None
    input_shape: str = ""
    result_shape: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Let(Node):
    """`name = expression`: pure, records nothing. It fails only where its value is used."""

    name: str
    value: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq(Node):
    """In order; empty: does nothing."""

    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Par(Node):
    """`together(…)`: all branches run, all must end. `out` is bound to the list of the branches' values.

    Each branch is a single awaitable (Step, Par, Each, Wait, Sleep, Call) with an `out` of its own.
    """

    position: str
    branches: tuple[Node, ...]
    results: tuple[str, ...]
    out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Node):
    """`if condition: then else: otherwise`; `at` names the service that decides on the record, if any."""

    position: str
    condition: Expression
    then: Node
    otherwise: Node
    at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(Node):
    """A rejection of `body` with one of `codes` (None: any declared one) is compensated, and goes on *after* it.

    `out` is the variable behind `tried.rejected`: null, or `{"code": …}`. The platform's `cancelled`, and a
    deadline that stands around the attempt, are never caught.
    """

    position: str
    body: Node
    codes: tuple[str, ...] | None
    out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop(Node):
    """`for index in range(limit): body else: otherwise`; `index` is a variable, or None where it is not read."""

    position: str
    index: str | None
    limit: int
    body: Node
    otherwise: Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Each(Node):
    """`each(over, lambda item: body, limit=, at_once=, by=)`; `result` is the variable that the body binds."""

    position: str
    over: Expression
    item: str
    body: Node
    result: str
    out: str
    limit: int
    at_once: int | None = None
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait(Node):
    """`wait_for(event, key=, by=, timeout=)`: bound to the event's data, or to null when it ran out."""

    position: str
    event: str
    version: int
    key: Expression
    out: str
    by: str | None = None
    timeout: Expression | None = None  # milliseconds, or a duration


@dataclass(frozen=True, slots=True, kw_only=True)
class Sleep(Node):
    """`sleep(duration)` or `sleep(until=instant)`: exactly one of the two is there."""

    position: str
    duration: Expression | None = None
    until: Expression | None = None
    by: str | None = None
    out: str = "_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline(Node):
    """`deadline(duration, by=)`: when it passes, `body` is cancelled with the code `deadline`."""

    position: str
    duration: Expression
    body: Node
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Section(Node):
    """A part with a style: `orchestration` (performed `by` a named orchestrator) or `choreography`."""

    position: str
    style: str
    body: Node
    by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Node):
    """Another workflow, inlined: `body` is the callee's, with positions that already carry the prefix.

    `arguments` bind the callee's parameters, whose names are known only inside.
    """

    position: str
    workflow: str
    arguments: tuple[tuple[str, Expression], ...]
    body: Node
    out: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Return(Node):
    """`return value`: ends the workflow (or the called one) with this value."""

    value: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Break(Node):
    """`break`: leaves the innermost loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Continue(Node):
    """`continue`: the next round of the innermost loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject(Node):
    """`raise SoldOut("…")`: the workflow says no, with a declared code."""

    position: str
    code: str
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowTree:
    """A whole workflow as read: its name, input, services (parameter -> service), and body.

    `input` is (name, shape digest of its type), or None where it takes none. `result_shape`: of what it returns.
    `audiences` gives, by position, who may see a private result beside whoever gave it. `schemas` are the JSON Schemas
    of what is bound, by position ("" is the input), for estimates; no part of a plan.
    """

    name: str
    file: str
    input: tuple[str, str] | None
    result_shape: str
    services: dict[str, str]
    body: Seq
    events: dict[str, int] = field(default_factory=dict)
    audiences: dict[str, tuple[str, ...]] = field(default_factory=dict)
    schemas: dict[str, dict[str, Any]] = field(default_factory=dict)
