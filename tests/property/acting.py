"""Services that answer what the oracle says, and count what they do; and workflows made fit for real waits and clocks.

Many runs of many workflows go on at once. An action finds its own by the run that its context names.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from minuet.contracts.action import Rejection, RetryPolicy
from minuet.contracts.handler import Context, Transaction, injected
from minuet.contracts.service import Service, action
from minuet.ids import parse_run
from minuet.plans.plan import Plan
from minuet.runtime.clock import WaitingClock
from minuet.workflows.tree import Call, Each, Expression, Let, Loop, Node, Seq, Sleep, Step, Wait, WorkflowTree
from tests.property.interpreter import Oracle, Outcome, Round, interpret
from tests.property.maker import HERE
from tests.property.performer import _positions
from tests.property.watched_store import Log

TIMEOUT_MS = 10_000  # longer than what a shaky broker and attempts that are tried again may cost
ROUNDS = 8  # more than a loop or an `each` has
Numbers = list[int]
NAMES = ("s0", "s1", "s2", "s3")

Awaited = dict[tuple[str, Round], tuple[str, str, int]]
"""(position, round) of a wait -> key, when the event comes, what it says."""


class Alpha(Rejection, code="a"):
    """A rejection that the random workflows declare."""


class Beta(Rejection, code="b"):
    """The other one."""


class Listening(Oracle):
    """The same world, which also hears which keys are waited for. `hangs`: whether actions may take too long."""

    def __init__(self, seed: int | str, *, hangs: bool) -> None:
        self.seed = seed  # type: ignore[assignment]
        self.hangs = hangs
        self.awaited: Awaited = {}

    def step(self, n: Step, round_: Round) -> str:
        label = super().step(n, round_)
        return label if self.hangs or label != "rejected:timeout" else "ok"

    def waits(self, n: Wait, round_: Round, key: Any) -> None:
        self.awaited[n.position, round_] = (str(key), *self.event(n, round_))


@dataclass(eq=False)
class Performance:
    """One run of one plan, with all that its world answers. `name` says how to make it again."""

    name: str
    plan: Plan
    tree: WorkflowTree
    nodes: dict[str, Any]
    oracle: Listening
    input: int
    want: Outcome
    run: int = 0


def performance(
    name: str, plan: Plan, tree: WorkflowTree, seed: int | str, input_: int, *, hangs: bool = True
) -> Performance:
    """Say what a run should come to."""
    oracle = Listening(seed, hangs=hangs)
    want = interpret(tree, oracle, input_)
    return Performance(name, plan, tree, {n.position: n for n in _positions(tree.body)}, oracle, input_, want)


@dataclass
class World:
    """What the services share, in place of the world outside."""

    clock: WaitingClock
    log: Log
    seed: int
    store_of: Callable[[str], str]
    failures: float = 0.03
    runs: dict[int, Performance] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)  # by operation key
    failed: Counter[str] = field(default_factory=Counter)  # those that were told to fail
    done: Counter[str] = field(default_factory=Counter)  # those that came to their end
    wrong: dict[int, list[str]] = field(default_factory=dict)

    async def act(self, service: str, context: Context, given: tuple[Any, ...]) -> Any:
        """Answer as the oracle says."""
        op = context.op_key
        run = parse_run(context.run)
        assert run is not None
        p, r = self.runs[run], random.Random(f"{self.seed} {op} {context.attempt}")
        n, round_ = p.nodes[context.position], context.round
        assert isinstance(n, Step)
        self.calls[op] += 1
        label = p.oracle.step(n, round_)
        if op.rpartition(":")[0].endswith("compensation"):
            self._may_fail(op, context, r)
            return None
        given_up = self.log.known.get(self.store_of(service), {}).get(
            (run, n.position + "!", round_, "rejected:timeout")
        )
        if given_up is not None:
            if given_up < self.clock.now_ms() and self.calls[op] == 1:
                self.wrong.setdefault(run, []).append(f"{op} began after {service} knew that it was given up")
            return 1
        if label == "rejected:timeout":
            await self.clock.sleep_ms(TIMEOUT_MS + TIMEOUT_MS // 2)
            if r.random() < 0.3:
                self.failed[op] += 1
                raise RuntimeError("too late")
            return 1
        if n.timeout_ms is None:
            self._may_fail(op, context, r)
        if label != "ok":
            raise (Alpha if label == "rejected:a" else Beta)("no")
        return p.oracle.result(n, round_, list(given[: len(n.arguments)]))

    def _may_fail(self, op: str, context: Context, r: random.Random) -> None:
        if context.attempt == 1 and r.random() < self.failures:
            self.failed[op] += 1
            raise RuntimeError("down")


def services(world: World) -> list[Service]:
    """Give the services of the random workflows: one in two writes within the transaction of its fact."""
    return [(_transactional if i % 2 else _plain)(name, world) for i, name in enumerate(NAMES)]


def _plain(service: str, world: World) -> Service:
    class Plain(Service, name=service):
        @action(rejects=(Alpha, Beta))
        async def do(self, a0: int = 0, a1: int = 0, context: Context = injected()) -> int:
            result: int = await world.act(service, context, (a0, a1))
            world.done[context.op_key] += 1
            return result

        @action
        async def list(self, a0: int = 0, a1: int = 0, context: Context = injected()) -> Numbers:
            result: Numbers = await world.act(service, context, (a0, a1))
            world.done[context.op_key] += 1
            return result

        @action
        async def undo(self, what: int | Numbers, context: Context = injected()) -> None:
            await world.act(service, context, (what,))
            world.done[context.op_key] += 1

    return Plain()


def _transactional(service: str, world: World) -> Service:
    class Transactional(Service, name=service):
        async def setup(self, tx: Transaction) -> None:
            await tx.execute("create table if not exists effect (op_key text not null)")

        @action(rejects=(Alpha, Beta))
        async def do(
            self, a0: int = 0, a1: int = 0, context: Context = injected(), tx: Transaction = injected()
        ) -> int:
            result: int = await world.act(service, context, (a0, a1))
            await tx.execute("insert into effect values (?)", context.op_key)
            return result

        @action
        async def list(
            self, a0: int = 0, a1: int = 0, context: Context = injected(), tx: Transaction = injected()
        ) -> Numbers:
            result: Numbers = await world.act(service, context, (a0, a1))
            await tx.execute("insert into effect values (?)", context.op_key)
            return result

        @action
        async def undo(self, what: int | Numbers, context: Context = injected(), tx: Transaction = injected()) -> None:
            await world.act(service, context, (what,))
            await tx.execute("insert into effect values (?)", context.op_key)

    return Transactional()


# Workflows


def fit(tree: WorkflowTree) -> WorkflowTree:
    """Give a workflow in which no two waits have one key, and timeouts are longer than retries.

    Its input has to be another number in each run.
    """
    assert tree.input is not None
    names = itertools.count()
    root: Expression = ("var", "t")
    body = _fit(tree.body, root, names)
    return replace(tree, body=Seq(place=HERE, parts=(Let(place=HERE, name="t", value=("var", tree.input[0])), body)))


def _fit(node: Any, token: Expression, names: itertools.count[int]) -> Any:
    if isinstance(node, tuple):
        return tuple(_fit(x, token, names) for x in node)
    if not isinstance(node, Node):
        return node
    match node:
        case Wait():
            return replace(node, event=f"e{node.position}", key=("call", "str", token))
        case Step():
            retry = RetryPolicy(attempts=1000, first_ms=20, at_most_ms=50) if node.retry is not None else None
            return replace(node, timeout_ms=TIMEOUT_MS if node.timeout_ms is not None else None, retry=retry)
        case Sleep():
            return node
        case Loop():
            index = node.index or f"i{next(names)}"
            round_ = f"t{next(names)}"
            digit: Expression = ("add", ("mul", token, ("lit", ROUNDS)), ("var", index))
            body = Seq(
                place=HERE,
                parts=(Let(place=HERE, name=round_, value=digit), _fit(node.body, ("var", round_), names)),
            )
            return replace(node, index=index, body=body, otherwise=_fit(node.otherwise, token, names))
        case Each():
            digit = ("add", ("mul", token, ("lit", ROUNDS)), ("mod", ("var", node.item), ("lit", ROUNDS)))
            return replace(node, body=_fit(node.body, digit, names))
        case Call():
            inner = _fit(node.body, ("var", "t"), names)
            return replace(node, arguments=(*node.arguments, ("t", token)), body=inner)
    return replace(node, **{f.name: _fit(getattr(node, f.name), token, names) for f in fields(node)})
