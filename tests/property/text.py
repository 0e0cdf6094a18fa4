"""Random workflows as Python text: read by the reader, performed by the engine, and executed as ordinary Python.

Reader, compiler and engine on one side, the interpreter of Python itself on the other (`dry_run`): both must come to
the same facts, values and end. What the services answer follows from position, round and arguments alone.
"""

from __future__ import annotations

import asyncio
import linecache
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import msgspec

from minuet import Context, DryRun, Rejection, Service, action, compensation, dry_run, event, injected
from minuet.engine.program import Program
from minuet.engine.row import RunState
from minuet.plans.plan import load_plan, make_plan
from minuet.workflows.tree import Step, Wait
from minuet.workflows.workflow import Workflow
from tests.property.interpreter import Fact, Oracle, Round, mix
from tests.property.maker import without_idle_deadlines
from tests.property.performer import Performer

PRELUDE = """from minuet import (
    at, attempt, deadline, each, orchestration, sleep, together, wait_for, workflow,
)
from tests.property.text import Alpha, Beta, Denied, Refused, Told

"""


WANTED = (
    "step", "let", "wait", "sleep", "call", "together", "if", "at", "attempt", "for", "each", "deadline", "section",
    "return", "raise", "break", "continue", "completed", "rejected",
)  # fmt: skip


class World(Oracle):
    """What the services answer, and which events come: the same for every round of a wait."""

    def label(self, position: str, round_: Round, codes: tuple[str, ...]) -> str:
        """Give the label of a step's outcome."""
        r = random.Random(f"{self.seed}{position}{round_}")
        return f"rejected:{r.choice(codes)}" if codes and r.random() < 0.2 else "ok"

    def step(self, n: Step, round_: Round) -> str:
        return self.label(n.position, round_, n.rejects)

    def result(self, n: Step, round_: Round, arguments: Sequence[Any]) -> Any:
        given = dict(zip((name for name, _ in n.arguments), arguments, strict=True))
        x = mix(self.seed, n.position, round_, *(given.get(name, default) for name, default in _PARAMETERS[n.action]))
        return [x + i for i in range(x % 5)] if n.action == "list_some" else x

    def told(self, position: str) -> int | None:
        """Give what the event says for which a wait waits; None if it does not come in time."""
        r = random.Random(f"{self.seed}{position}")
        return r.randrange(100) if r.random() < 0.6 else None

    def event(self, n: Wait, round_: Round) -> tuple[str, Any]:
        said = self.told(n.position)
        return ("late", "") if said is None else ("soon", msgspec.json.encode(Told("k", said)).decode())


_PARAMETERS = {"ask": (("a", 0), ("b", 3)), "book": (("a", 0),), "note": (("a", 0), ("b", 0)), "list_some": (("a", 0),)}
_WORLD = [World(0)]


def _answer(context: Context, codes: tuple[str, ...], *arguments: int) -> int:
    world = _WORLD[0]
    label = world.label(context.position, context.round, codes)
    if label != "ok":
        raise {"a": Refused, "b": Denied}[label.removeprefix("rejected:")]("no")
    return mix(world.seed, context.position, context.round, *arguments)


class Refused(Rejection, code="a"):
    """Says no."""


class Denied(Rejection, code="b"):
    """Says no, in another way."""


@event("made.told", version=1, key="about")
@dataclass(frozen=True)
class Told:
    """An event from outside."""

    about: str
    n: int


class Alpha(Service):
    """A service that can take everything back."""

    @action(rejects=(Refused, Denied))
    async def ask(self, a: int, b: int = 3, *, context: Context = injected()) -> int:
        return _answer(context, ("a", "b"), a, b)

    @compensation(ask)
    async def take_back(self, result: int) -> None: ...

    @action(rejects=(Refused,))
    async def book(self, a: int, *, context: Context = injected()) -> int:
        return _answer(context, ("a",), a)

    @compensation(book)
    async def cancel(self, result: int) -> None: ...

    @action(pure=True)
    async def list_some(self, a: int, *, context: Context = injected()) -> list[int]:
        found = _answer(context, (), a)
        return [found + i for i in range(found % 5)]


class Beta(Service):
    """A service that keeps what it has done."""

    @action
    async def note(self, a: int, b: int, *, context: Context = injected()) -> int:
        return _answer(context, (), a, b)

    @action
    async def forget(self, result: int) -> None: ...


class Writer:
    """Writes one module from a seed; `kinds` tells what is in it."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        self.lines: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.names = 0
        self.subs: list[str] = []
        self.kept: frozenset[str] = frozenset()  # what an attempt would take back is not bound anew inside of it

    def module(self, depth: int = 3) -> str:
        for i in range(self.r.randint(0, 2)):
            self.function(f"sub_{i}", 1)
            self.subs.append(f"sub_{i}")
        self.function("main", depth)
        return PRELUDE + "\n".join(self.lines) + "\n"

    def function(self, name: str, depth: int) -> None:
        self.lines += ["@workflow", f"async def {name}(x: int, *, alpha: Alpha, beta: Beta) -> int:"]
        scope, _ = self.block(["x"], depth, 1, loop=False, last=False)
        self.write(1, f"return {self.number(scope)}")
        self.lines += ["", ""]

    def write(self, indent: int, line: str) -> None:
        self.lines.append("    " * indent + line)

    def name(self) -> str:
        self.names += 1
        return f"v{self.names}"

    # Expressions: numbers over variables that are bound on every way here

    def number(self, scope: list[str]) -> str:
        r, name = self.r, self.r.choice(scope)
        match r.randrange(5):
            case 0 | 1:
                return name
            case 2:
                return f"({name} * {r.randint(2, 9)} + {r.choice(scope)}) % 997"
            case 3:
                return f"({name} if {self.guard(scope)} else {r.randint(0, 9)})"
            case _:
                return f"max({name}, {r.choice(scope)}, 4)"

    def guard(self, scope: list[str]) -> str:
        r = self.r
        plain = f"{r.choice(scope)} % {r.randint(2, 3)} == 0"
        match r.randrange(4):
            case 0:
                return f"not {plain}"
            case 1:
                return f"{plain} {r.choice(('and', 'or'))} {r.choice(scope)} > 50"
            case _:
                return plain

    def step(self, scope: list[str]) -> str:
        r = self.r
        call = r.choice(
            (
                f"alpha.ask({self.number(scope)}, {self.number(scope)})",
                f"alpha.ask({self.number(scope)})",
                f"alpha.ask(b={self.number(scope)}, a={self.number(scope)})",
                f"alpha.book({self.number(scope)})",
                f"beta.note({self.number(scope)}, {self.number(scope)})",
            )
        )
        if r.random() < 0.15:
            call += ".keep()"
        elif call.startswith("beta") and r.random() < 0.5:
            call += ".compensate(beta.forget)"
        if r.random() < 0.1:
            call += ".retry(50)"
        if r.random() < 0.1:
            call += ".timeout(86400)"
        return call

    def branch(self, scope: list[str], depth: int) -> str:
        """Give something that can be awaited, with a number as its value."""
        if self.subs and depth > 0 and self.r.random() < 0.3:
            self.kinds["call"] += 1
            return f"{self.r.choice(self.subs)}({self.number(scope)}, alpha=alpha, beta=beta)"
        return self.step(scope)

    # Statements: each gives the variables that are bound after it, and whether anything can follow

    def block(
        self, scope: list[str], depth: int, indent: int, *, loop: bool, last: bool = True
    ) -> tuple[list[str], bool]:
        for _ in range(self.r.randint(1, 3)):
            if last and self.r.random() < 0.08:
                self.leave(scope, indent, loop=loop)
                return scope, False
            scope, goes_on = self.statement(scope, depth, indent, loop=loop)
            if not goes_on:
                if last:
                    return scope, False
                return ["x"], True  # both arms have left: what would follow is never reached
        return scope, True

    def leave(self, scope: list[str], indent: int, *, loop: bool) -> None:
        kind = self.r.choice(("return", "raise", "break", "continue") if loop else ("return", "raise"))
        self.kinds[kind] += 1
        match kind:
            case "return":
                self.write(indent, f"return {self.number(scope)}")
            case "raise":
                self.write(indent, f"raise {self.r.choice(('Refused', 'Denied'))}('said no')")
            case _:
                self.write(indent, kind)

    def statement(self, scope: list[str], depth: int, indent: int, *, loop: bool) -> tuple[list[str], bool]:
        r, k = self.r, self.r.random()
        if depth <= 0 or k < 0.3:
            return self.simple(scope, depth, indent), True
        if k < 0.4:
            return self.together(scope, depth, indent), True
        if k < 0.6:
            return self.choice(scope, depth, indent, loop=loop)
        if k < 0.72:
            return self.attempt(scope, depth, indent, loop=loop), True
        if k < 0.86:
            return self.loop(scope, depth, indent), True
        if k < 0.93:
            return self.each(scope, indent), True
        kind = r.choice(("deadline", "section"))
        self.kinds[kind] += 1
        self.write(
            indent, "async with deadline(86400):" if kind == "deadline" else 'async with orchestration(by="desk"):'
        )
        return self.block(scope, depth - 1, indent + 1, loop=loop)

    def simple(self, scope: list[str], depth: int, indent: int) -> list[str]:
        r, name = self.r, self.name()
        match r.randrange(8):
            case 0:
                self.kinds["let"] += 1
                free = [n for n in scope if n not in self.kept]
                name = r.choice(free) if free and r.random() < 0.5 else name
                self.write(indent, f"{name} = {self.number(scope)}")
            case 1:
                self.kinds["wait"] += 1
                self.write(indent, f'{name} = await wait_for(Told, key="k", by=beta, timeout=60)')
                seen, name = name, self.name()
                self.write(indent, f"{name} = {seen}.n if {seen} is not None else {self.number(scope)}")
            case 2:
                self.kinds["sleep"] += 1
                self.write(indent, "await sleep(5, by=alpha)")
                return scope
            case _:
                self.kinds["step"] += 1
                self.write(indent, f"{name} = await {self.branch(scope, depth)}")
        return [*scope, name]

    def together(self, scope: list[str], depth: int, indent: int) -> list[str]:
        self.kinds["together"] += 1
        n = self.r.randint(2, 3)
        branches, names = [self.branch(scope, depth) for _ in range(n)], [self.name() for _ in range(n)]
        match self.r.randrange(3):
            case 0:
                self.write(indent, f"{names[0]} = await together({', '.join(branches)})")
                self.write(indent, f"{names[1]} = {names[0]}[0] + {names[0]}[1]")
                return [*scope, names[1]]
            case 1:
                inner = f"together({', '.join(branches[1:])}, {self.step(scope)})"
                self.write(indent, f"await together({branches[0]}, {inner})")
                return scope
        self.write(indent, f"{', '.join(names)} = await together({', '.join(branches)})")
        return scope + names

    def choice(self, scope: list[str], depth: int, indent: int, *, loop: bool) -> tuple[list[str], bool]:
        r = self.r
        self.kinds["if"] += 1
        guard = self.guard(scope)
        if r.random() < 0.3:
            self.kinds["at"] += 1
            guard = f"at(alpha, {guard})"
        ends = []
        self.write(indent, f"if {guard}:")
        ends.append(self.block(scope, depth - 1, indent + 1, loop=loop))
        if r.random() < 0.3:
            self.write(indent, f"elif {self.guard(scope)}:")
            ends.append(self.block(scope, depth - 1, indent + 1, loop=loop))
        if r.random() < 0.5:
            self.write(indent, "else:")
            ends.append(self.block(scope, depth - 1, indent + 1, loop=loop))
        else:
            ends.append((scope, True))
        after = [set(found) for found, goes_on in ends if goes_on]
        if not after:
            return scope, False
        both = set.intersection(*after)
        return [name for name in dict.fromkeys(n for found, _ in ends for n in found) if name in both], True

    def attempt(self, scope: list[str], depth: int, indent: int, *, loop: bool) -> list[str]:
        r, tried = self.r, self.name()
        self.kinds["attempt"] += 1
        codes = r.choice(("", "Refused", "Denied", "Refused, Denied"))
        self.write(indent, f"async with attempt({codes}) as {tried}:")
        before, self.kept = self.kept, self.kept.union(scope)
        self.block(scope, depth - 1, indent + 1, loop=loop)
        self.kept = before
        if r.random() < 0.8:
            self.write(indent, f"if {tried}.rejected:")
            self.block(scope, depth - 2, indent + 1, loop=loop)
        if r.random() < 0.3:
            name = self.name()
            self.write(indent, f"{name} = 1 if {tried}.rejected else 2")
            return [*scope, name]
        return scope

    def loop(self, scope: list[str], depth: int, indent: int) -> list[str]:
        self.kinds["for"] += 1
        index, total = self.name(), self.name()
        self.write(indent, f"{total} = {self.number(scope)}")
        self.write(indent, f"for {index} in range({self.r.randint(1, 4)}):")
        inner, goes_on = self.block([*scope, index, total], depth - 1, indent + 1, loop=True)
        if goes_on:
            self.write(indent + 1, f"{total} = {self.number(inner)}")
        if self.r.random() < 0.3:
            self.write(indent, "else:")
            self.simple([*scope, total], depth - 1, indent + 1)
        return [*scope, total]

    def each(self, scope: list[str], indent: int) -> list[str]:
        self.kinds["each"] += 1
        some, found, total = self.name(), self.name(), self.name()
        if self.r.random() < 0.5:
            self.write(indent, f"{some} = await alpha.list_some({self.number(scope)})")
        else:
            self.write(indent, f"{some} = [j + {self.number(scope)} for j in [1, 2, 3] if j != {self.r.choice(scope)}]")
        at_once = self.r.choice(("", ", at_once=1", ", at_once=2"))
        body = self.branch([*scope, "item"], 1)
        self.write(indent, f"{found} = await each({some}, lambda item: {body}, limit={self.r.choice((3, 5))}{at_once})")
        self.write(indent, f"{total} = sum({found})")
        return [*scope, total]


def load(text: str, name: str) -> ModuleType:
    """Execute a module's text, and let its source be found."""
    file = f"{name}.py"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = ModuleType(name)
    module.__file__ = file
    exec(compile(text, file, "exec"), module.__dict__)
    return module


def check(seed: int, schedules: int = 2) -> Counter[str]:
    """Compare one random text in several orders; AssertionError where they differ. Gives what was in it."""
    writer, world, input_ = Writer(seed), World(seed), seed % 13
    text = writer.module()
    module = load(text, f"made_{seed}")
    try:
        flow: Workflow[Any, Any, Any] = module.main
        _WORLD[0] = world
        ran = asyncio.run(_executed(flow, world, input_))
        facts = {(e.position, e.round, e.label): _data(e) for e in ran.trace}
        tree = replace(flow.tree, body=without_idle_deadlines(flow.tree.body))
        program = Program(load_plan(make_plan(tree).to_json()))
        kinds = Counter(dict.fromkeys(writer.kinds, 1))
        for s in range(schedules):
            performer = Performer(program, flow.tree, world, input_, seed * 31 + s)
            performer.run()
            kinds += _compare(performer, facts, ran)
        return kinds
    except AssertionError as e:
        raise AssertionError(*e.args, text) from e
    finally:
        linecache.cache.pop(f"made_{seed}.py", None)


async def _executed(flow: Workflow[Any, Any, Any], world: World, input_: int) -> DryRun[Any]:
    waits = [n for n in Performer.nodes_of(flow.tree).values() if isinstance(n, Wait)]
    said = {n.position: world.told(n.position) for n in waits}
    events = {p: [Told("k", n)] * 500 for p, n in said.items() if n is not None}
    return await dry_run(flow, input_, events=events, alpha=Alpha(), beta=Beta())


def _data(e: Any) -> Any:
    if e.label.startswith(("rejected:", "chosen:")):
        return None
    return msgspec.json.decode(msgspec.json.encode(e.value))


def _compare(performer: Performer, facts: dict[Fact, Any], ran: DryRun[Any]) -> Counter[str]:
    run = performer.rows.run
    assert run is not None
    if run.state == RunState.STUCK and "too-many" in (run.reason or ""):
        return Counter(parked=1)
    got = performer.facts()
    assert got == facts, (
        "facts",
        set(got) ^ set(facts),
        [f for f in facts if f in got and got[f] != facts[f]],
        run.state,
        run.reason,
    )
    result: Any = msgspec.json.decode(run.result) if run.result else None
    if ran.rejection is not None:
        assert (run.state, result["code"]) == (RunState.COMPENSATED, ran.rejection), ("end", run, ran.rejection)
    else:
        assert (run.state, result) == (RunState.COMPLETED, ran.result), ("end", run, ran.result)
    return Counter({"performances": 1, "facts": len(facts), "rejected" if ran.rejection else "completed": 1})
