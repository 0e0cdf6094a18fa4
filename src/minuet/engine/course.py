"""The course of a run: which facts there must be, and in which order, given what was answered on its way.

A workflow's tree is walked with the outcomes that were recorded. Nothing here knows rules, conditions or messages: what
the engine has made of a plan is compared with what the text means. A piece is a *leg*: how it ended, what it recorded,
and what taking it back records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import msgspec

from minuet.contracts.action import RetryPolicy
from minuet.engine.row import Slot
from minuet.ids import round_text
from minuet.plans.plan import Plan
from minuet.workflows import tree
from minuet.workflows.expression import Expression, ExpressionFailed, evaluate, from_json, to_json_bytes
from minuet.workflows.tree import (
    Attempt,
    Break,
    Call,
    Choice,
    Continue,
    Deadline,
    Each,
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
)

NORMAL, RETURN, BREAK, CONTINUE, FAILED, PENDING = "normal", "return", "break", "continue", "failed", "pending"

Known = Mapping[tuple[str, str, int], tuple[str, str | None]]
"""What was recorded of a run: (position, round, slot) -> label, value as JSON text."""
Env = dict[str, Any]
Round = tuple[int, ...]

_PLAIN = frozenset({str, int, float, bool, type(None)})
_EXPRESSIONS = frozenset({"condition", "over", "key", "timeout", "duration", "until", "value"})
_NOWHERE = Place("", 0, 0)

_decode = msgspec.json.Decoder().decode


class Fact(NamedTuple):
    """A fact without its value; the round is text."""

    position: str
    round: str
    label: str


class Series(NamedTuple):
    """What comes one after the other."""

    parts: Sequence[Trace]

    @property
    def is_in_order(self) -> bool:
        """Whether its parts come one after the other."""
        return True


class Beside(NamedTuple):
    """What comes in any order."""

    parts: Sequence[Trace]

    @property
    def is_in_order(self) -> bool:
        """Whether its parts come one after the other."""
        return False


Trace = Fact | Series | Beside
NOTHING = Series(())


@dataclass(frozen=True, slots=True)
class Leg:
    """What became of a piece. `end`: how it was left; `pending` if an outcome in it is still to come (`missing`).

    `back`: what taking it back records. `code` says why it has failed; `value` is what was returned. Values are as
    expressions give them; one that has none is its `ExpressionFailed`.
    """

    end: str
    trace: Trace
    back: Trace
    env: Env
    code: str = ""
    value: Any = None
    missing: tuple[tuple[str, str], ...] = ()


def course(body: Node, known: Known, input_: Any) -> Leg:
    """Walk a workflow with what was recorded of a run that began with this input."""
    return _Walk(known, input_).node(body, {}, (), frozenset({"cancelled"}))


def facts_of(trace: Trace) -> list[Fact]:
    """Give all facts of a trace."""
    found, todo = list[Fact](), [trace]
    while todo:
        t = todo.pop()
        if isinstance(t, Fact):
            found.append(t)
        else:
            todo += reversed(t.parts)
    return found


def read_body(plan: Plan) -> Node:
    """Give the tree of a plan, from its JSON form; its places stay behind."""
    read: Node = _read(plan.body)
    return read


def _read(drawn: Any) -> Any:
    if isinstance(drawn, dict) and "node" in drawn:
        if drawn["node"] == "RetryPolicy":
            return RetryPolicy(**{name: x for name, x in drawn.items() if name != "node"})
        kind = getattr(tree, drawn["node"])
        return kind(place=_NOWHERE, **{f.name: _field(f.name, drawn[f.name]) for f in fields(kind) if f.name in drawn})
    return tuple(map(_read, drawn)) if isinstance(drawn, list | tuple) else drawn


def _field(name: str, drawn: Any) -> Any:
    if name in _EXPRESSIONS and drawn is not None:
        return from_json(drawn)
    if name == "arguments":
        return tuple((argument, from_json(e)) for argument, e in drawn)
    return _read(drawn)


class _Walk:
    """A walk through one workflow. `around`: the codes that no attempt here may catch.

    A plan does not say how its input is called: it is what no piece has bound.
    """

    def __init__(self, known: Known, input_: Any) -> None:
        self.known = known
        self.input = input_

    # What was recorded, and what follows from it

    def label(self, position: str, rnd: Round, slot: int = Slot.OUTCOME) -> str | None:
        found = self.known.get((position, round_text(rnd), slot))
        return None if found is None else found[0]

    def said(self, position: str, rnd: Round) -> Any:
        raw = self.known[position, round_text(rnd), Slot.OUTCOME][1]
        return None if raw is None else _decode(raw)

    def value(self, e: Expression, env: Env) -> Any:
        """Give the value of an expression.

        Raises:
            ExpressionFailed: it has none.
        """
        match e:
            case ("var", name):
                got = env.get(name, self.input)
            case ("index", ("var", name), ("lit", int(i))) if isinstance(
                several := env.get(name, self.input), list
            ) and 0 <= i < len(several):
                got = several[i]
            case _:
                return evaluate(e, lambda name: raw_value(env.get(name, self.input)))
        if isinstance(got, ExpressionFailed):
            raise got.with_traceback(None)
        return got

    def bound(self, e: Expression, env: Env) -> Any:
        """Give the value of an expression, or why it has none: that counts only where it is used."""
        try:
            return self.value(e, env)
        except ExpressionFailed as failed:
            return failed

    # Composition

    def series(self, parts: Sequence[Callable[[Env], Leg]], env: Env) -> Leg:
        """One after the other: a failure takes back what was done before it, last first."""
        traces, backs = list[Trace](), list[Trace]()
        for part in parts:
            leg = part(env)
            traces.append(leg.trace)
            if leg.end == FAILED:
                return replace(leg, trace=Series([*traces, *reversed(backs)]), back=NOTHING)
            backs.append(leg.back)
            if leg.end != NORMAL:
                return replace(leg, trace=Series(traces), back=Series(backs[::-1]))
            env = leg.env
        return Leg(NORMAL, Series(traces), Series(backs[::-1]), env)

    def beside(self, legs: Sequence[Leg], env: Env) -> Leg:
        """At once: all run to their end; then, where one has failed, the others are taken back."""
        trace: Trace = Beside([leg.trace for leg in legs])
        if missing := tuple(m for leg in legs for m in leg.missing):
            return Leg(PENDING, trace, NOTHING, env, missing=missing)
        back: Trace = Beside([leg.back for leg in legs if leg.end != FAILED])
        if (first := next((leg for leg in legs if leg.end == FAILED), None)) is not None:
            return replace(first, trace=Series((trace, back)), back=NOTHING, env=env)
        return Leg(NORMAL, trace, back, env)

    def pending(self, position: str, rnd: Round, env: Env) -> Leg:
        return Leg(PENDING, NOTHING, NOTHING, env, missing=((position, round_text(rnd)),))

    def failed(self, code: str, trace: Trace, env: Env) -> Leg:
        return Leg(FAILED, trace, NOTHING, env, code)

    # Nodes

    def node(self, n: Node, env: Env, rnd: Round, around: frozenset[str]) -> Leg:
        match n:
            case Step():
                return self.step(n, env, rnd)
            case Let():
                return Leg(NORMAL, NOTHING, NOTHING, {**env, n.name: self.bound(n.value, env)})
            case Seq():
                return self.series([lambda e, p=p: self.node(p, e, rnd, around) for p in n.parts], env)  # type: ignore[misc] # of this part
            case Par():
                return self.par(n, env, rnd, around)
            case Choice():
                return self.choice(n, env, rnd, around)
            case Attempt():
                return self.attempt(n, env, rnd, around)
            case Loop():
                return self.loop(n, env, rnd, around)
            case Each():
                return self.each(n, env, rnd, around)
            case Wait() | Sleep():
                return self.wait(n, env, rnd)
            case Deadline():
                return self.deadline(n, env, rnd, around)
            case Section():
                return self.node(n.body, env, rnd, around)
            case Call():
                return self.call(n, env, rnd, around)
            case Return():
                return Leg(RETURN, NOTHING, NOTHING, env, value=self.bound(n.value, env))
            case Break():
                return Leg(BREAK, NOTHING, NOTHING, env)
            case Continue():
                return Leg(CONTINUE, NOTHING, NOTHING, env)
            case Reject():
                return self.failed(n.code, NOTHING, env)
        raise TypeError(n)

    def step(self, n: Step, env: Env, rnd: Round) -> Leg:
        shown = n.position
        at = round_text(rnd)
        own = self.label(n.position, rnd)
        facts = [] if own is None else [Fact(n.position, at, own)]
        if n.timeout_ms is not None and n.timeout_then == "abandon":  # whoever gives it up decides, once, for all
            shown += "!"
            verdict = self.label(shown, rnd)
            if verdict is None:
                return replace(self.pending(shown, rnd, env), trace=Series(facts))
            late = verdict == "rejected:timeout"  # what it still comes to belongs to no course, and is taken back
            facts = [*([] if late else [Fact(n.position, at, verdict)]), Fact(shown, at, verdict)]
            own = verdict
        if own is None:
            return self.pending(n.position, rnd, env)
        if own != "ok":
            return self.failed(own.removeprefix("rejected:"), Series(facts), env)
        back: Trace = Fact(n.position, at, "compensated") if n.compensation else NOTHING
        return Leg(NORMAL, Series(facts), back, {**env, n.out: self.said(shown, rnd)})

    def wait(self, n: Wait | Sleep, env: Env, rnd: Round) -> Leg:
        label = self.label(n.position, rnd)
        if label is None:
            return self.pending(n.position, rnd, env)
        trace = Fact(n.position, round_text(rnd), label)
        if label not in ("ok", "fired"):
            return self.failed(label.removeprefix("rejected:"), trace, env)
        return Leg(NORMAL, trace, NOTHING, {**env, n.out: self.said(n.position, rnd)})

    def par(self, n: Par, env: Env, rnd: Round, around: frozenset[str]) -> Leg:
        legs = [self.node(b, env, rnd, around) for b in n.branches]
        whole = self.beside(legs, env)
        if whole.end != NORMAL:
            return whole
        results = {r: leg.env[r] for leg, r in zip(legs, n.results, strict=True)}
        return replace(whole, env={**env, **results, n.out: list(results.values())})

    def choice(self, n: Choice, env: Env, rnd: Round, around: frozenset[str]) -> Leg:
        label = self.label(n.position, rnd)  # where it is decided on the record, or by a person
        decided: Trace = NOTHING if label is None else Fact(n.position, round_text(rnd), label)
        if label is None and n.at is not None:
            return self.pending(n.position, rnd, env)
        if label is None:
            try:
                label = "chosen:then" if self.value(n.condition, env) else "chosen:else"
            except ExpressionFailed:
                label = "rejected:invalid-value"
        if label.startswith("rejected:"):
            return self.failed(label.removeprefix("rejected:"), decided, env)
        leg = self.node(n.then if label == "chosen:then" else n.otherwise, env, rnd, around)
        return replace(leg, trace=Series((decided, leg.trace)))

    def attempt(self, n: Attempt, env: Env, rnd: Round, around: frozenset[str]) -> Leg:
        leg = self.node(n.body, env, rnd, around)
        name = leg.code.partition("@")[0]
        if leg.end == FAILED and leg.code not in around and (n.codes is None or name in n.codes):
            return Leg(NORMAL, leg.trace, NOTHING, {**env, n.out: {"code": name}})
        return replace(leg, env={**leg.env, n.out: None}) if leg.end == NORMAL else leg

    def loop(self, n: Loop, env: Env, rnd: Round, around: frozenset[str]) -> Leg:
        is_broken = False

        def one(index: int) -> Callable[[Env], Leg]:
            def go(env: Env) -> Leg:
                nonlocal is_broken
                if is_broken:
                    return Leg(NORMAL, NOTHING, NOTHING, env)
                leg = self.node(n.body, {**env, n.index: index} if n.index else env, (*rnd, index), around)
                is_broken = leg.end == BREAK
                return replace(leg, end=NORMAL) if leg.end in (BREAK, CONTINUE) else leg

            return go

        def otherwise(env: Env) -> Leg:
            return Leg(NORMAL, NOTHING, NOTHING, env) if is_broken else self.node(n.otherwise, env, rnd, around)

        return self.series([*map(one, range(n.limit)), otherwise], env)

    def each(self, n: Each, env: Env, rnd: Round, around: frozenset[str]) -> Leg:
        label = self.label(n.position, rnd)
        joined: Trace = NOTHING if label is None else Fact(n.position, round_text(rnd), label)
        try:
            items = self.value(n.over, env)
            fault = "" if isinstance(items, list | tuple) else "invalid-value"
            fault = fault or ("too-many" if len(items) > n.limit else "")
        except ExpressionFailed:
            items, fault = (), "invalid-value"
        if fault:  # nothing of it runs
            if label is None:
                return self.pending(n.position, rnd, env)
            if label == "ok":  # a person has given the results
                return Leg(NORMAL, joined, NOTHING, {**env, n.out: self.said(n.position, rnd)})
            return self.failed(fault, joined, env)
        legs = [self.node(n.body, {**env, n.item: x}, (*rnd, i), around) for i, x in enumerate(items)]
        whole = self.beside(legs, env)
        if whole.end != NORMAL:
            return whole
        if label is None:
            return replace(self.pending(n.position, rnd, env), trace=whole.trace)
        out = {**env, n.out: self.said(n.position, rnd)}
        return replace(whole, trace=Series((whole.trace, joined)), env=out)

    def deadline(self, n: Deadline, env: Env, rnd: Round, around: frozenset[str]) -> Leg:
        is_entered = self.label(n.position, rnd) is not None or self.label(n.position, rnd, Slot.GONE) is not None
        if not is_entered and isinstance(self.bound(n.duration, env), ExpressionFailed):
            return self.failed("invalid-value", NOTHING, env)
        return self.node(n.body, env, rnd, around | {f"deadline@{n.position}"})

    def call(self, n: Call, env: Env, rnd: Round, around: frozenset[str]) -> Leg:
        leg = self.node(n.body, {name: self.bound(e, env) for name, e in n.arguments}, rnd, around)
        if leg.end in (FAILED, PENDING):
            return replace(leg, env=env)
        return replace(leg, end=NORMAL, env={**env, n.out: leg.value if leg.end == RETURN else None}, value=None)


def raw_value(value: Any) -> Any:
    """Give a value as whoever reads it gets it: as JSON has it.

    Raises:
        ExpressionFailed: it has none.
    """
    if type(value) in _PLAIN:
        return value
    failed = value if isinstance(value, ExpressionFailed) else None
    if isinstance(value, list):
        failed = next((x for x in value if isinstance(x, ExpressionFailed)), None)
    if failed is not None:
        raise failed.with_traceback(None)
    return _decode(to_json_bytes(value))
