"""What a workflow means: a plain recursive interpreter, which knows nothing of rules, conditions or messages.

It yields the trace as a series-parallel tree of facts. The engine must give the same facts, values and end, in an
order that is a linear extension of this tree.
"""

from __future__ import annotations

import itertools
import random
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from minuet.workflows.expression import evaluate
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
    Reject,
    Return,
    Section,
    Seq,
    Sleep,
    Step,
    Wait,
    WorkflowTree,
)

Round = tuple[int, ...]
Fact = tuple[str, Round, str]
Trace = tuple[str, Any]  # ("fact", (Fact, value)) | ("seq", [Trace]) | ("par", [Trace])
Env = dict[str, Any]
Around = frozenset[str]  # codes that no attempt here may catch
NOTHING: Trace = ("seq", [])


def mix(*x: Any) -> int:
    """Stand for any pure function of what it is given."""
    return zlib.crc32(repr(x).encode()) % 997


class Oracle:
    """What the world answers, fixed in advance by a seed: equality is about equal outcomes."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def called_off(self, position: str, round_: Round) -> str | None:
        """Give the code with which a cancellation or a deadline has rejected a position; there is none here."""
        return None

    def step(self, n: Step, round_: Round) -> str:
        """Give the label of a step's outcome."""
        r = random.Random(f"{self.seed}{n.position}{round_}")
        if n.timeout_ms is not None and r.random() < 0.3:
            return "rejected:timeout"
        return f"rejected:{r.choice(n.rejects)}" if n.rejects and r.random() < 0.15 else "ok"

    def result(self, n: Step, round_: Round, arguments: Sequence[Any]) -> Any:
        """Give what a step returns: a number, or a list where the action's name says so."""
        x = mix(self.seed, n.position, round_, *arguments)
        return [x + i for i in range(x % 5)] if n.action.startswith("list") else x

    def event(self, n: Wait, round_: Round) -> tuple[str, int]:
        """Say when an event comes (before anybody waits, after, or after the timer), and what it says."""
        r = random.Random(f"{self.seed}{n.position}{round_}")
        return r.choice(["early", "soon", "late"][: 3 if n.timeout is not None else 2]), r.randrange(997)

    def waits(self, n: Wait, round_: Round, key: Any) -> None:
        """Hear what key a wait has; here nothing follows from it."""


class Recorded(Oracle):
    """The same world, in which some positions were called off: when somebody cancels is an answer of the world too."""

    def __init__(self, seed: int, facts: Iterable[Fact]) -> None:
        super().__init__(seed)
        self.codes = {
            (position.removesuffix("!"), round_): label.removeprefix("rejected:")
            for position, round_, label in facts
            if label == "rejected:cancelled" or label.startswith("rejected:deadline@")
        }

    def called_off(self, position: str, round_: Round) -> str | None:
        return self.codes.get((position, round_))


@dataclass
class Outcome:
    """`end`: normal, return, break, continue, failed. `comp`: what compensating it would record.

    `code` and `where` say why it has failed.
    """

    end: str
    trace: Trace
    comp: Trace
    env: Env
    code: str = ""
    where: str = ""
    value: Any = None


def fact(position: str, round_: Round, label: str, value: Any = None) -> Trace:
    """Give the trace of one fact."""
    return ("fact", ((position, round_, label), value))


def interpret(tree: WorkflowTree, oracle: Oracle, input_: Any) -> Outcome:
    """Perform a workflow."""

    def value(e: Any, env: Env) -> Any:
        return evaluate(e, lambda name: env[name])

    def seq(parts: Sequence[Callable[[Env], Outcome]], env: Env) -> Outcome:
        traces, comps = list[Trace](), list[Trace]()
        for part in parts:
            o = part(env)
            traces.append(o.trace)
            if o.end == "failed":
                return replace(o, trace=("seq", traces + comps[::-1]), comp=NOTHING)
            comps, env = [*comps, o.comp], o.env
            if o.end != "normal":
                return replace(o, trace=("seq", traces), comp=("seq", comps[::-1]))
        return Outcome("normal", ("seq", traces), ("seq", comps[::-1]), env)

    def par(outs: list[Outcome], env: Env) -> Outcome:
        """Drain: every branch runs to its end; then the branches that were done are compensated."""
        trace: Trace = ("par", [o.trace for o in outs])
        comp: Trace = ("par", [o.comp for o in outs if o.end != "failed"])
        if (first := next((o for o in outs if o.end == "failed"), None)) is not None:
            return replace(first, trace=("seq", [trace, comp]), comp=NOTHING, env=env)
        return Outcome("normal", trace, comp, env)

    def step(n: Step, env: Env, rnd: Round) -> Outcome:
        arguments = [value(e, env) for _, e in n.arguments]
        called_off = oracle.called_off(n.position, rnd)
        label = oracle.step(n, rnd) if called_off is None else f"rejected:{called_off}"
        result = oracle.result(n, rnd, arguments) if label == "ok" else None
        facts = [fact(n.position, rnd, label, result)]
        if n.timeout_ms is not None and n.timeout_then == "abandon":
            # The owner's verdict is what counts; a late effect is undone.
            facts = ([] if label == "rejected:timeout" else facts) + [fact(n.position + "!", rnd, label, result)]
        if label != "ok":
            return Outcome("failed", ("seq", facts), NOTHING, env, label.removeprefix("rejected:"), n.position)
        comp = fact(n.position, rnd, "compensated") if n.compensation else NOTHING
        return Outcome("normal", ("seq", facts), comp, {**env, n.out: result})

    def loop(n: Loop, env: Env, rnd: Round, around: Around) -> Outcome:
        def again(e: Env, r: int) -> Outcome:
            inner = {**e, n.index: r} if n.index else e
            o = run(n.body, inner, (*rnd, r), around)
            if o.end == "break":
                return replace(o, end="broke")
            if o.end not in ("normal", "continue"):
                return o
            body = replace(o, end="normal")
            if r + 1 == n.limit:
                return body
            return seq([lambda _: body, lambda e2: again(e2, r + 1)], e)

        core = again(env, 0) if n.limit else Outcome("normal", NOTHING, NOTHING, env)
        whole = seq([lambda _: core, lambda e: run(n.otherwise, e, rnd, around)], env)
        return replace(whole, end="normal") if whole.end == "broke" else whole

    def each(n: Each, env: Env, rnd: Round, around: Around) -> Outcome:
        items = value(n.over, env)
        if len(items) > n.limit:
            return Outcome("failed", NOTHING, NOTHING, env, "too-many", n.position)
        outs = [run(n.body, {**env, n.item: x}, (*rnd, i), around) for i, x in enumerate(items)]
        whole = par(outs, env)
        if whole.end == "failed":
            return whole
        got = [o.env[n.result] for o in outs]
        trace: Trace = ("seq", [whole.trace, fact(n.position, rnd, "ok", got)])
        return replace(whole, trace=trace, env={**env, n.out: got})

    def run(n: Node, env: Env, rnd: Round, around: Around) -> Outcome:
        match n:
            case Step():
                return step(n, env, rnd)
            case Let():
                return Outcome("normal", NOTHING, NOTHING, {**env, n.name: value(n.value, env)})
            case Seq():
                return seq([lambda e, p=p: run(p, e, rnd, around) for p in n.parts], env)  # type: ignore[misc]
            case Section():
                return run(n.body, env, rnd, around)
            case Deadline():
                return run(n.body, env, rnd, around | {f"deadline@{n.position}"})
            case Par():
                outs = [run(b, env, rnd, around) for b in n.branches]
                whole = par(outs, env)
                if whole.end == "failed":
                    return whole
                return replace(whole, env={**env, n.out: [o.env[r] for o, r in zip(outs, n.results, strict=True)]})
            case Choice():
                taken = bool(value(n.condition, env))
                o = run(n.then if taken else n.otherwise, env, rnd, around)
                decided = fact(n.position, rnd, f"chosen:{'then' if taken else 'else'}")
                return replace(o, trace=("seq", [decided, o.trace])) if n.at is not None else o
            case Attempt():
                o = run(n.body, env, rnd, around)
                name = o.code.partition("@")[0]
                if o.end == "failed" and o.code not in around and (n.codes is None or name in n.codes):
                    return Outcome("normal", o.trace, NOTHING, {**env, n.out: {"code": name}})
                return replace(o, env={**o.env, n.out: None}) if o.end == "normal" else o
            case Loop():
                return loop(n, env, rnd, around)
            case Each():
                return each(n, env, rnd, around)
            case Wait() | Sleep() if (code := oracle.called_off(n.position, rnd)) is not None:
                return Outcome("failed", fact(n.position, rnd, f"rejected:{code}"), NOTHING, env, code, n.position)
            case Wait():
                oracle.waits(n, rnd, value(n.key, env))
                when, said = oracle.event(n, rnd)
                label, got = ("fired", None) if when == "late" else ("ok", said)
                return Outcome("normal", fact(n.position, rnd, label, got), NOTHING, {**env, n.out: got})
            case Sleep():
                return Outcome("normal", fact(n.position, rnd, "fired"), NOTHING, {**env, n.out: None})
            case Call():
                o = run(n.body, {name: value(e, env) for name, e in n.arguments}, rnd, around)
                if o.end == "failed":
                    return replace(o, env=env)
                return replace(o, end="normal", env={**env, n.out: o.value if o.end == "return" else None})
            case Return():
                return Outcome("return", NOTHING, NOTHING, env, value=value(n.value, env))
            case Break():
                return Outcome("break", NOTHING, NOTHING, env)
            case Continue():
                return Outcome("continue", NOTHING, NOTHING, env)
            case Reject():
                return Outcome("failed", NOTHING, NOTHING, env, n.code, n.position)
        raise TypeError(n)

    return run(tree.body, {tree.input[0]: input_} if tree.input else {}, (), frozenset({"cancelled"}))


def leaves(t: Trace) -> Iterator[tuple[Fact, Any]]:
    """Give all facts of a trace with their values."""
    yield from [t[1]] if t[0] == "fact" else itertools.chain(*map(leaves, t[1]))


def assert_in_order(t: Trace, at: dict[Fact, int]) -> tuple[int, int]:
    """Assert that a log is a linear extension of the tree; gives first and last index, (1, 0) if empty."""
    if t[0] == "fact":
        return at[t[1][0]], at[t[1][0]]
    lo, hi = 1, 0
    for a, b in (assert_in_order(c, at) for c in t[1]):
        if a <= b:
            assert t[0] == "par" or hi < a or lo > hi, ("order", t)
            lo, hi = (a, b) if lo > hi else (min(lo, a), max(hi, b))
    return lo, hi
