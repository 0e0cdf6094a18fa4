"""Random workflows: every kind of node, nested, with early ends; and how often each kind was made."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import fields, replace
from typing import Any

from minuet.contracts.action import RetryPolicy
from minuet.plans.reach import idle_deadlines
from minuet.workflows.tree import (
    Attempt,
    Break,
    Call,
    Choice,
    Continue,
    Deadline,
    Each,
    Expression,
    Let,
    Loop,
    Node,
    Par,
    Place,
    Reject,
    Return,
    Section,
    Seq,
    Sleep,
    Step,
    Wait,
    WorkflowTree,
)

HERE = Place("made.py", 1, 1)
DEADLINE_MS = 10**11  # passes only where somebody lets it


class Maker:
    """Makes one random workflow from a seed. Methods give a node and the variables that are bound after it."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.names = itertools.count()
        self.kinds: Counter[str] = Counter()

    def workflow(self, depth: int) -> WorkflowTree:
        """Make a workflow over the input `x`, a number."""
        body, scope = self.block("", ["x"], depth, loop=False)
        value = self.number(scope)
        body = Seq(place=HERE, parts=(*body.parts, Return(place=HERE, value=value)))
        return WorkflowTree(
            name="made",
            file="made.py",
            input=("x", "int"),
            result_shape="int",
            services={},
            body=without_idle_deadlines(body),
        )

    def number(self, scope: list[str]) -> Expression:
        """Give an expression over variables, all of which are numbers or null (null counts as 0)."""
        name: Expression = ("or", ("var", self.r.choice(scope)), ("lit", 0))
        if self.r.random() < 0.6:
            return name
        other: Expression = ("or", ("var", self.r.choice(scope)), ("lit", 0))
        return ("mod", ("add", ("mul", name, ("lit", self.r.randint(1, 9))), other), ("lit", 997))

    def guard(self, scope: list[str]) -> Expression:
        return ("compare", ("mod", self.number(scope), ("lit", self.r.randint(2, 3))), "eq", ("lit", 0))

    def name(self) -> str:
        return f"v{next(self.names)}"

    def block(self, prefix: str, scope: list[str], depth: int, *, loop: bool) -> tuple[Seq, list[str]]:
        """Make a sequence whose positions are `prefix` + 1, 2, …; inside a loop it may leave early."""
        parts = list[Node]()
        for i in range(1, self.r.randint(1, 3) + 1):
            node, scope = self.node(f"{prefix}{i}", scope, depth, loop=loop)
            parts.append(node)
            if isinstance(node, Return | Break | Continue | Reject):
                break
        self.kinds["Seq"] += 1
        return Seq(place=HERE, parts=tuple(parts)), scope

    def step(self, position: str, scope: list[str], *, lists: bool = False) -> Step:
        r = self.r
        timeout = r.choice(("ask", "abandon")) if r.random() < 0.12 and not lists else ""
        compensable = timeout == "abandon" or r.random() < 0.8
        self.kinds[timeout or "Step"] += 1
        return Step(
            place=HERE,
            position=position,
            service=f"s{r.randrange(4)}",
            action="list" if lists else "do",
            arguments=tuple((f"a{i}", self.number(scope)) for i in range(r.randint(0, 2))),
            out=self.name(),
            rejects=() if lists else r.choice(((), ("a",), ("a", "b"))),
            compensation=("s0", "undo") if compensable else None,
            keep=not compensable and r.random() < 0.5,
            timeout_ms=1000 if timeout else None,
            timeout_then=timeout or "ask",
            retry=RetryPolicy(attempts=1000) if r.random() < 0.1 else None,
        )

    def wait(self, position: str, scope: list[str]) -> Wait | Sleep:
        self.kinds["Wait"] += 1
        by = f"s{self.r.randrange(4)}"
        if self.r.random() < 0.3:
            return Sleep(place=HERE, position=position, duration=("lit", 5000), by=by, out=self.name())
        return Wait(
            place=HERE,
            position=position,
            event="e",
            version=1,
            key=("call", "str", self.number(scope)),
            out=self.name(),
            by=by,
            timeout=("lit", 60_000) if self.r.random() < 0.6 else None,
        )

    def awaitable(self, position: str, scope: list[str], depth: int) -> Step | Wait | Sleep | Par | Each | Call:
        """Make what may stand in a branch: a single thing with a result."""
        k = self.r.random()
        if depth <= 0 or k < 0.55:
            return self.step(position, scope)
        if k < 0.65:
            return self.wait(position, scope)
        if k < 0.8:
            return self.call(position, scope, depth - 1)
        if k < 0.9:
            return self.par(position, scope, depth - 1)
        return self.each(position, scope, depth - 1)

    def par(self, position: str, scope: list[str], depth: int) -> Par:
        self.kinds["Par"] += 1
        dot = "." if position[-1].isalpha() else ""
        branches = tuple(
            self.awaitable(f"{position}{dot}{'abc'[i]}", scope, depth) for i in range(self.r.randint(2, 3))
        )
        return Par(
            place=HERE, position=position, branches=branches, results=tuple(b.out for b in branches), out=self.name()
        )

    def each(self, position: str, scope: list[str], depth: int) -> Each:
        self.kinds["Each"] += 1
        item = self.name()
        body = self.awaitable(f"{position}.1", [*scope, item], depth)
        n = self.number(scope)
        count: Expression = ("mod", n, ("lit", 4))
        picks = tuple(("lit", i) for i in range(4))
        over: Expression = (
            "each",
            "i",
            ("list", *picks),
            (("compare", ("local", "i"), "lt", count),),
            ("add", ("local", "i"), n),
        )
        return Each(
            place=HERE,
            position=position,
            over=over,
            item=item,
            body=body,
            result=body.out,
            out=self.name(),
            limit=self.r.choice((2, 3, 3, 5)),
            at_once=self.r.choice((None, 1, 2)),
            by=f"s{self.r.randrange(4)}",
        )

    def call(self, position: str, scope: list[str], depth: int) -> Call:
        self.kinds["Call"] += 1
        inner, after = self.block(f"{position}.", ["p"], depth, loop=False)
        if self.r.random() < 0.8:
            inner = replace(inner, parts=(*inner.parts, Return(place=HERE, value=self.number(after))))
        return Call(
            place=HERE,
            position=position,
            workflow="other",
            arguments=(("p", self.number(scope)),),
            body=inner,
            out=self.name(),
        )

    def node(self, position: str, scope: list[str], depth: int, *, loop: bool) -> tuple[Node, list[str]]:
        r, k = self.r, self.r.random()
        if k < 0.05:
            return self.leave(position, scope, loop=loop)
        if k < 0.10:
            name = r.choice(scope) if r.random() < 0.5 else self.name()
            self.kinds["Let"] += 1
            return Let(place=HERE, name=name, value=self.number(scope)), [*scope, name]
        if depth <= 0 or k < 0.25:
            node = self.step(position, scope) if r.random() < 0.8 else self.wait(position, scope)
            return node, [*scope, node.out]
        if k < 0.40:
            made = self.par(position, scope, depth - 1)
            self.kinds["unpacked"] += 1
            names, lets = list[str](), list[Node]()
            for i, b in enumerate(made.branches):
                if not isinstance(b, Par | Each):
                    names.append(self.name())
                    lets.append(Let(place=HERE, name=names[-1], value=("index", ("var", made.out), ("lit", i))))
            return Seq(place=HERE, parts=(made, *lets)), scope + names
        if k < 0.58:
            self.kinds["Choice"] += 1
            at = f"s{r.randrange(4)}" if r.random() < 0.4 else None
            then, in_then = self.block(f"{position}.then.", scope, depth - 1, loop=loop)
            other, in_other = (
                self.block(f"{position}.else.", scope, depth - 1, loop=loop)
                if r.random() < 0.6
                else (Seq(place=HERE), scope)
            )
            both = [v for v in in_then if v in in_other]
            return (
                Choice(place=HERE, position=position, condition=self.guard(scope), then=then, otherwise=other, at=at),
                both,
            )
        if k < 0.72:
            self.kinds["Attempt"] += 1
            body, _ = self.block(f"{position}.", scope, depth - 1, loop=loop)
            codes = r.choice((None, ("a",), ("b",), ("a", "timeout"), ("a", "b", "too-many")))
            out = self.name()
            tried = Attempt(place=HERE, position=position, body=body, codes=codes, out=out)
            on = Choice(
                place=HERE,
                position=f"{position}x",
                condition=("var", out),
                then=self.block(f"{position}x.then.", scope, depth - 2, loop=loop)[0],
                otherwise=self.block(f"{position}x.else.", scope, depth - 2, loop=loop)[0],
            )
            return Seq(place=HERE, parts=(tried, on) if r.random() < 0.7 else (tried,)), scope
        if k < 0.85:
            self.kinds["Loop"] += 1
            index = self.name() if r.random() < 0.5 else None
            inner = [*scope, index] if index else scope
            body, _ = self.block(f"{position}.", inner, depth - 1, loop=True)
            if r.random() < 0.7:  # what the rounds hand on
                body = replace(
                    body, parts=(*body.parts, Let(place=HERE, name=r.choice(scope), value=self.number(inner)))
                )
            other = (
                self.block(f"{position}.else.", scope, depth - 2, loop=loop)[0] if r.random() < 0.3 else Seq(place=HERE)
            )
            return (
                Loop(place=HERE, position=position, index=index, limit=r.randint(1, 4), body=body, otherwise=other),
                scope,
            )
        if k < 0.91:
            made_each = self.each(position, scope, depth - 1)
            return made_each, scope
        if k < 0.95:
            made_call = self.call(position, scope, depth - 1)
            return made_call, [*scope, made_call.out]
        body, after = self.block(f"{position}.", scope, depth - 1, loop=loop)
        if r.random() < 0.7:
            self.kinds["Deadline"] += 1
            return Deadline(place=HERE, position=position, duration=("lit", DEADLINE_MS), body=body), after
        self.kinds["Section"] += 1
        return Section(place=HERE, position=position, style="orchestration", by="desk", body=body), after

    def leave(self, position: str, scope: list[str], *, loop: bool) -> tuple[Node, list[str]]:
        """Make an early end."""
        k = self.r.randrange(4 if loop else 2)
        self.kinds[("Return", "Reject", "Break", "Continue")[k]] += 1
        if k == 0:
            return Return(place=HERE, value=self.number(scope)), scope
        if k == 1:
            return Reject(place=HERE, position=position, code=self.r.choice("ab")), scope
        return (Break(place=HERE), scope) if k == 2 else (Continue(place=HERE), scope)


def without_idle_deadlines(body: Seq) -> Seq:
    """Leave out the deadlines that could cancel nothing: no plan is made of them."""
    found: Seq = _without(body, {d.position for d in idle_deadlines(body)})
    return found


def _without(node: Any, idle: set[str]) -> Any:
    match node:
        case Deadline() if node.position in idle:
            return _without(node.body, idle)
        case Node():
            return replace(node, **{f.name: _without(getattr(node, f.name), idle) for f in fields(node)})
        case tuple() if node and isinstance(node[0], Node):
            return tuple(_without(n, idle) for n in node)
    return node
