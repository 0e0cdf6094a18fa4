"""Compile a syntax tree, under a placement, into rules: one function for each node of the language.

Every node has the same ports. Given `in` and `compensate` by what surrounds it, it answers exactly one of its *ends*
(`normal`, or a way of leaving: `return`, `break`, `continue`) and `failed[code]`; failed means that everything
inside is compensated already. After an end, given `compensate`, it answers `compensated`.

What wakes compensation comes later in the text than what is compensated, so `compensate` is a hole (an `or` without
inputs) that is filled once the rest has been built. Sources: the compile scheme of the design's semantics; the policy
for parallel branches (drain; no interruption) is the distributed one of the sagas calculi (Bruni, Melgratti, Montanari,
POPL 2005).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, assert_never

from minuet.plans import placement
from minuet.plans.condition import (
    ENTER,
    EXIT,
    FALSE,
    FAN,
    FIRST,
    LAST,
    NEXT,
    PREV,
    START,
    Network,
    Scope,
)
from minuet.plans.placement import Placement
from minuet.plans.reach import cancellable, irrevocable
from minuet.plans.rule import Block, Rule, Switch, Value
from minuet.workflows import expression
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
    Reject,
    Return,
    Section,
    Seq,
    Sleep,
    Step,
    Wait,
    WorkflowTree,
)

NORMAL, RETURN, BREAK, CONTINUE, BROKE = "normal", "return", "break", "continue", "broke"
RESULT = "$return"  # the variable behind `return`

Env = dict[str, int]  # variable -> value


@dataclass(slots=True)
class Ports:
    """What a node answers; an environment for each end."""

    ends: dict[str, int]
    envs: dict[str, Env]
    failed: dict[str, int]
    compensated: int


@dataclass(frozen=True, slots=True)
class Context:
    """Where a node stands."""

    scope: Scope = ()
    style: str = placement.ORCHESTRATION
    orchestrator: str = placement.ORCHESTRATOR
    deadlines: tuple[str, ...] = ()
    section: str = ""  # the section around it that has a border; "" for the whole


Builder = Callable[[int, int, Env, Context], Ports]


@dataclass(slots=True, kw_only=True)
class Compiled:
    """A workflow as rules, before it is put in order and given a digest."""

    network: Network
    values: list[Value]
    rules: list[Rule]
    switches: list[Switch]
    blocks: list[Block]


def compile_tree(tree: WorkflowTree, where: Placement) -> Compiled:
    """Compile a tree under a placement."""
    return _Compiler(tree, where).compiled


class _Compiler:
    def __init__(self, tree: WorkflowTree, where: Placement) -> None:
        self.net, self.where = Network(), where
        self.values: list[Value] = []
        self.value_ids: dict[tuple[str, Scope, str], int] = {}
        self.rules: list[Rule] = []
        self.switches: list[Switch] = []
        self.blocks: list[Block] = []
        self.audiences = tree.audiences
        self.cancellable = cancellable(tree.body)
        self.has_partial = any(map(expression.is_partial, _bound(tree.body)))
        self.compiled = Compiled(
            network=self.net, values=self.values, rules=self.rules, switches=self.switches, blocks=self.blocks
        )
        env = {tree.input[0]: self.value("input", ())} if tree.input else {}
        context = Context(style=where.root)
        ports = self.node(tree.body, START, FALSE, env, context)
        self.ends(ports, context)

    def ends(self, ports: Ports, context: Context) -> None:
        """The whole is an attempt without another way: its ends are those of the run."""
        home = self.who(context, None)
        done = self.net.any((), ports.ends.values())
        result = [("result", self.merged(ports, RESULT, ()))]
        self.rules.append(
            Rule(kind="end", position="", when=done, scope=(), who=home, arguments=result, about={"code": ""})
        )
        for code, when in ports.failed.items():
            self.rules.append(Rule(kind="end", position="", when=when, scope=(), who=home, about={"code": code}))

    # Who, values, rules

    def who(self, context: Context, service: str | None) -> str:
        return placement.owner(context.style, context.orchestrator, service or placement.HOME)

    def value(self, kind: str, scope: Scope, *of: Any) -> int:
        key = (kind, scope, repr(of))  # as text: 1, 1.0 and True are equal, and a default may be a list
        if (found := self.value_ids.get(key)) is None:
            found = self.value_ids[key] = len(self.values)
            self.values.append(Value(kind=kind, scope=scope, of=of))
        return found

    def expression(self, e: Expression, env: Env, scope: Scope) -> int:
        """Give the value of an expression; a bare variable, or an element of a list built here, is that value."""
        match e:
            case ("var", name):
                return env[name]
            case ("index", ("var", name), ("lit", int(i))) if (
                (v := self.values[env[name]]).kind == "expression"
                and v.of[0][0] == "list"
                and 0 <= i < len(v.of[0]) - 1
                and v.of[0][i + 1][0] == "var"
            ):
                return int(v.of[0][i + 1][1])
        return self.value("expression", scope, expression.substitute(e, {name: ("var", v) for name, v in env.items()}))

    def is_partial(self, v: int) -> bool:
        """Say whether a value may fail to evaluate. What a loop hands on is not known yet: it may, if anything may."""
        if not self.has_partial:
            return self.values[v].kind == "expression" and expression.is_partial(self.values[v].of[0])
        seen, todo = {v}, [v]
        while todo:
            value = self.values[todo.pop()]
            if value.kind == "head" or (value.kind == "expression" and expression.is_partial(value.of[0])):
                return True
            below = [x for x in value.below if x not in seen]
            seen.update(below)
            todo += below
        return False

    def rule(
        self,
        kind: str,
        position: str,
        when: int,
        context: Context,
        who: str | None,
        arguments: Sequence[tuple[str, int]] = (),
        **about: Any,
    ) -> None:
        self.rules.append(
            Rule(
                kind=kind,
                position=position,
                when=when,
                scope=context.scope,
                who=self.who(context, who),
                arguments=list(arguments),
                about=about,
            )
        )

    def codes(self, position: str, context: Context) -> list[str]:
        """Give the codes with which the platform may reject a position: only while everything can be taken back."""
        if position not in self.cancellable:
            return []
        return ["cancelled", *(f"deadline@{d}" for d in context.deadlines)]

    # Composition

    def union(self, scope: Scope, parts: Iterable[dict[str, int]]) -> dict[str, int]:
        """Give, for each key of any part, the condition that one of them holds."""
        found: dict[str, list[int]] = {}
        for part in parts:
            for key, condition in part.items():
                found.setdefault(key, []).append(condition)
        return {key: self.net.any(scope, conditions) for key, conditions in found.items()}

    def phi(self, alternatives: Sequence[tuple[int, int]], scope: Scope) -> int:
        """Give the value that holds after alternatives: which one is told by facts, not by which value is known."""
        if len({v for _, v in alternatives}) == 1:
            return alternatives[0][1]
        return self.value("phi", scope, *alternatives)

    def merge(self, alternatives: Sequence[tuple[int, Env]], scope: Scope) -> Env:
        """Give the variables after alternatives. A name bound in some only stays: the reader has seen to its use."""
        if len(alternatives) == 1:
            return alternatives[0][1]
        names = dict.fromkeys(n for _, env in alternatives for n in env)
        return {n: self.phi([(c, env[n]) for c, env in alternatives if n in env], scope) for n in names}

    def merged(self, ports: Ports, name: str, scope: Scope) -> int:
        """Give the value of a variable over all ends; null where an end does not bind it."""
        null = self.value("expression", (), ("lit", None))
        return self.phi([(c, ports.envs[end].get(name, null)) for end, c in ports.ends.items()], scope)

    def alternatives(self, outs: Sequence[Ports], scope: Scope) -> Ports:
        """Join alternatives, of which exactly one is entered."""
        ends = self.union(scope, (o.ends for o in outs))
        envs = {e: self.merge([(o.ends[e], o.envs[e]) for o in outs if e in o.ends], scope) for e in ends}
        failed = self.union(scope, (o.failed for o in outs))
        return Ports(ends, envs, failed, self.net.any(scope, (o.compensated for o in outs)))

    def nothing(self, in_: int, comp: int, env: Env, context: Context, end: str = NORMAL) -> Ports:
        return Ports({end: in_}, {end: env}, {}, self.net.all(context.scope, [in_, comp]))

    def sequence(self, parts: Sequence[Builder], in_: int, comp: int, env: Env, context: Context) -> Ports:
        """In order. Compensation passes from each part to the one before it, and is begun by a failure of the next."""
        net, scope = self.net, context.scope
        if not parts:
            return self.nothing(in_, comp, env, context)
        built, backs = list[Ports](), list[int]()
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            backs.append(comp if last else net.add("or", scope))
            built.append(part(in_, backs[-1], env, context))
            if last or NORMAL not in built[-1].ends:
                break  # what follows cannot be reached
            in_, env = built[-1].ends[NORMAL], built[-1].envs[NORMAL]
        if backs[-1] != comp:  # a hole stands in this scope, `comp` may stand further out: join it with our own `in`
            net.fill(backs[-1], net.all(scope, [in_, comp]))
        rest = built[-1]
        for a, back in zip(reversed(built[:-1]), reversed(backs[:-1]), strict=True):
            left = {e: c for e, c in a.ends.items() if e != NORMAL}
            wanted = net.all(scope, [net.any(scope, left.values()), comp])
            for c in (*rest.failed.values(), rest.compensated, wanted):
                net.fill(back, c)
            after = {c: net.all(scope, [f, a.compensated]) for c, f in rest.failed.items()}
            gone = [net.all(scope, [x, a.compensated]) for x in (rest.compensated, net.any(scope, left.values()))]
            ends = self.union(scope, [left, rest.ends])
            envs = {
                e: self.merge([(p.ends[e], p.envs[e]) for p in (a, rest) if e in (left if p is a else p.ends)], scope)
                for e in ends
            }
            rest = Ports(ends, envs, self.union(scope, [a.failed, after]), net.any(scope, gone))
        return rest

    def broken(self, outs: Sequence[Ports], scope: Scope) -> int:
        """Drain: all of these have ended, and some failed."""
        net = self.net
        ended = [net.any(scope, [*o.ends.values(), *o.failed.values()]) for o in outs]
        return net.all(scope, [*ended, net.any(scope, [f for o in outs for f in o.failed.values()])])

    # Nodes

    def go(self, node: Node) -> Builder:
        return lambda in_, comp, env, context: self.node(node, in_, comp, env, context)

    def node(self, n: Node, in_: int, comp: int, env: Env, context: Context) -> Ports:
        match n:
            case Step():
                return self.step(n, in_, comp, env, context)
            case Let():
                bound = {**env, n.name: self.expression(n.value, env, context.scope)}
                return self.nothing(in_, comp, bound, context)
            case Seq():
                return self.sequence([self.go(p) for p in n.parts], in_, comp, env, context)
            case Par():
                return self.par(n, in_, comp, env, context)
            case Choice():
                return self.choice(n, in_, comp, env, context)
            case Attempt():
                return self.attempt(n, in_, comp, env, context)
            case Loop():
                return self.loop(n, in_, comp, env, context)
            case Each():
                return self.each(n, in_, comp, env, context)
            case Wait() | Sleep():
                return self.wait(n, in_, comp, env, context)
            case Deadline():
                return self.deadline(n, in_, comp, env, context)
            case Section():
                return self.section(n, in_, comp, env, context)
            case Call():
                return self.call(n, in_, comp, env, context)
            case Return():
                bound = {**env, RESULT: self.expression(n.value, env, context.scope)}
                return self.nothing(in_, comp, bound, context, RETURN)
            case Break():
                return self.nothing(in_, comp, env, context, BREAK)
            case Continue():
                return self.nothing(in_, comp, env, context, CONTINUE)
            case Reject():
                self.rule("reject", n.position, in_, context, None, code=n.code, message=n.message)
                return Ports({}, {}, {n.code: in_}, FALSE)
        raise TypeError(n)

    def step(self, n: Step, in_: int, comp: int, env: Env, context: Context) -> Ports:
        net, scope, shown = self.net, context.scope, n.position
        codes = [*n.rejects, *self.codes(n.position, context)]
        if n.timeout_ms is not None:
            codes.append("timeout")
        if n.retry is not None and n.retry.then == "reject":
            codes.append("exhausted")
        arguments = [(name, self.expression(e, env, scope)) for name, e in n.arguments]
        if n.position in self.cancellable and (n.partial or any(self.is_partial(v) for _, v in arguments)):
            codes.append("invalid-value")
        about = {
            "service": n.service,
            "action": n.action,
            "codes": codes,
            "retry": asdict(n.retry) if n.retry else None,
            "attempt_timeout_ms": n.attempt_timeout_ms,
            "timeout_ms": n.timeout_ms,
            "timeout_then": n.timeout_then if n.timeout_ms is not None else None,
            "compensation": list(n.compensation) if n.compensation else None,
            "input_shape": n.input_shape,
            "result_shape": n.result_shape,
            "deadlines": list(context.deadlines),
            "irrevocable": irrevocable(n),
            "forward_only": n.position not in self.cancellable and not n.rejects and "exhausted" not in codes,
        }
        if n.position in self.audiences:  # only then: others keep their digest
            about["private"] = sorted(self.audiences[n.position])
        self.rule("run", n.position, in_, context, n.service, arguments, **about)
        ended = {code: net.fact(shown, f"rejected:{code}", scope) for code in codes}
        done = net.fact(shown, "ok", scope)
        abandoned = n.timeout_ms is not None and n.timeout_then == "abandon"
        if n.timeout_ms is not None:
            kind = "abandon" if abandoned else "timeout"
            owner = None if abandoned else n.service  # who runs it decides, or whoever is to decide without it
            self.rule(kind, n.position, in_, context, owner, timeout_ms=n.timeout_ms)
        if abandoned:
            # The owner and the service may disagree on whether the step came in time, so everybody else must hear
            # ONE fact, the owner's verdict; otherwise some would go on while others compensate.
            shown = n.position + "!"
            self.rule("verdict", shown, net.any(scope, [done, *ended.values()]), context, None, of=n.position)
            ended = {code: net.fact(shown, f"rejected:{code}", scope) for code in codes}
            done = net.fact(shown, "ok", scope)
        gone = net.all(scope, [done, comp])
        if n.compensation:
            self.rule(
                "compensate",
                n.position,
                gone,
                context,
                n.compensation[0],
                service=n.compensation[0],
                action=n.compensation[1],
                codes=[],
                retry=None,
                attempt_timeout_ms=None,
            )
            back = net.fact(n.position, "compensated", scope)
            # An abandoned step that ran after all is compensated too, and that fact is not our port: `done` again.
            gone = net.all(scope, [done, back]) if abandoned else (back if gone != FALSE else FALSE)
        out = {**env, n.out: self.value("out", scope, shown)}
        return Ports({NORMAL: done}, {NORMAL: out}, ended, gone)

    def par(self, n: Par, in_: int, comp: int, env: Env, context: Context) -> Ports:
        net, scope = self.net, context.scope
        backs = [net.add("or", scope) for _ in n.branches]
        outs = [self.node(b, in_, back, env, context) for b, back in zip(n.branches, backs, strict=True)]
        done = net.all(scope, [o.ends[NORMAL] for o in outs])
        for k, back in enumerate(backs):
            # `comp` alone would be too early: what surrounds us may want us back while we still run.
            net.fill(back, self.broken(outs[:k] + outs[k + 1 :], scope) if len(outs) > 1 else FALSE)
            net.fill(back, net.all(scope, [comp, done]))
        # The code is that of the first failed branch in the order of the text; "branch j did not fail" is the
        # positive fact that it has been compensated, which drain brings anyway.
        failed: list[dict[str, int]] = []
        ended = [net.any(scope, [*o.failed.values(), o.compensated]) for o in outs]
        for k, o in enumerate(outs):
            also = [*(x.compensated for x in outs[:k]), *ended[k + 1 :]]
            failed.append({c: net.all(scope, [f, *also]) for c, f in o.failed.items()})
        results = [("var", o.envs[NORMAL][r]) for o, r in zip(outs, n.results, strict=True)]
        out = dict(env)
        for o in outs:
            out.update(o.envs[NORMAL])  # `a, b = await together(…)` names the values of the branches
        out[n.out] = self.value("expression", scope, ("list", *results))
        gone = net.all(scope, [o.compensated for o in outs])
        return Ports({NORMAL: done}, {NORMAL: out}, self.union(scope, failed), gone)

    def choice(self, n: Choice, in_: int, comp: int, env: Env, context: Context) -> Ports:
        net, scope = self.net, context.scope
        guard = self.expression(n.condition, env, scope)
        may_fail = n.position in self.cancellable and self.is_partial(guard)
        failed: dict[str, int] = {}
        if n.at is not None:  # a recorded decision: everybody else hears the verdict and needs no value
            self.rule("decide", n.position, in_, context, n.at, [("guard", guard)], may_reject=may_fail)
            arms = [net.fact(n.position, f"chosen:{label}", scope) for label in ("then", "else")]
            if may_fail:
                failed["invalid-value"] = net.fact(n.position, "rejected:invalid-value", scope)
        else:  # agreement: a pure guard has one answer wherever it is evaluated
            arms, failed = self.switch(n.position, guard, ("then", "else"), in_, context, may_fail=may_fail)
        outs = [
            self.node(arm, condition, comp, env, context)
            for arm, condition in zip((n.then, n.otherwise), arms, strict=True)
        ]
        joined = self.alternatives(outs, scope)
        return replace(joined, failed=self.union(scope, [joined.failed, failed]))

    def switch(
        self, position: str, guard: int, labels: tuple[str, ...], in_: int, context: Context, *, may_fail: bool
    ) -> tuple[list[int], dict[str, int]]:
        """Evaluate a guard; gives the conditions of its answers, and of its failure where that may be taken back."""
        net, scope, switch = self.net, context.scope, len(self.switches)
        arms = [net.add("arm", scope, (switch, label)) for label in labels]
        error = net.add("arm", scope, (switch, "error")) if may_fail else FALSE
        if may_fail:
            self.rule("reject", position, error, context, None, code="invalid-value", message="the guard failed")
        self.switches.append(
            Switch(position=position, trigger=in_, scope=scope, guard=guard, arms=(arms[0], arms[-1], error))
        )
        return arms, {"invalid-value": error} if may_fail else {}

    def attempt(self, n: Attempt, in_: int, comp: int, env: Env, context: Context) -> Ports:
        net, scope = self.net, context.scope
        body = self.node(n.body, in_, comp, env, context)
        around = {"cancelled", *(f"deadline@{d}" for d in context.deadlines)}
        caught = {c: f for c, f in body.failed.items() if c not in around and _listed(c, n.codes)}
        passed = {c: f for c, f in body.failed.items() if c not in caught}
        ends, envs = dict(body.ends), dict(body.envs)
        null = self.value("expression", (), ("lit", None))
        ways: list[tuple[int, Env]] = []
        if NORMAL in body.ends:
            ways.append((body.ends[NORMAL], {**body.envs[NORMAL], n.out: null}))
        for c, f in caught.items():
            rejected = self.value("expression", (), ("record", (("code", ("lit", c.partition("@")[0])),)))
            ways.append((f, {**env, n.out: rejected}))
        if ways:
            ends[NORMAL] = net.any(scope, [c for c, _ in ways])
            envs[NORMAL] = self.merge(ways, scope)
        gone = [body.compensated, *(net.all(scope, [f, comp]) for f in caught.values())]
        return Ports(ends, envs, passed, net.any(scope, gone))

    def loop(self, n: Loop, in_: int, comp: int, env: Env, context: Context) -> Ports:
        def core(in_: int, comp: int, env: Env, context: Context) -> Ports:
            return self.rounds(n, in_, comp, env, context)

        whole = self.sequence([core, self.go(n.otherwise)], in_, comp, env, context)
        if BROKE not in whole.ends:
            return whole
        scope = context.scope
        ways = [(whole.ends[e], whole.envs[e]) for e in (NORMAL, BROKE) if e in whole.ends]
        whole.ends[NORMAL] = self.net.any(scope, [c for c, _ in ways])
        whole.envs[NORMAL] = self.merge(ways, scope)
        del whole.ends[BROKE], whole.envs[BROKE]
        return whole

    def rounds(self, n: Loop, in_: int, comp: int, env: Env, context: Context) -> Ports:
        """Rounds 0, 1, …: each is a sequence of the body and the rest of the loop, so the last is compensated first."""
        if n.limit == 0:
            return self.nothing(in_, comp, env, context)
        net, outer, block = self.net, context.scope, len(self.blocks)
        self.blocks.append(Block(kind="loop", position=n.position, limit=n.limit))
        scope = (*outer, block)
        inside = replace(context, scope=scope)
        begin, back = net.via("or", scope, (in_, ENTER)), net.add("or", scope)
        heads = {name: self.head(scope, env[name]) for name in sorted(_assigned(n.body)) if name in env}
        inner = {**env, **heads}
        if n.index is not None:
            inner[n.index] = self.value("index", scope)
        body = self.node(n.body, begin, back, inner, inside)
        on = [e for e in (NORMAL, CONTINUE) if e in body.ends]
        again = net.any(scope, [body.ends[e] for e in on])
        handed = self.merge([(body.ends[e], body.envs[e]) for e in on], scope) if on else {}
        for name, head in heads.items():
            self.values[head].of = (env[name], handed.get(name, env[name]))
        net.fill(begin, again, NEXT)
        last = net.via("or", scope, (again, LAST)) if on else FALSE
        left = {NORMAL: last, BROKE: body.ends.get(BREAK, FALSE), RETURN: body.ends.get(RETURN, FALSE)}
        inner_envs = {NORMAL: handed, BROKE: body.envs.get(BREAK, {}), RETURN: body.envs.get(RETURN, {})}
        ends = {e: net.via("or", outer, (c, EXIT)) for e, c in left.items() if c != FALSE}
        envs = {e: {name: self.left(outer, c, v) for name, v in inner_envs[e].items()} for e, c in ends.items()}
        fails = {c: net.add("or", scope) for c in body.failed}
        later = {c: net.via("or", scope, (f, PREV)) for c, f in fails.items()}
        for c, f in fails.items():
            net.fill(f, body.failed[c])
            net.fill(f, net.all(scope, [later[c], body.compensated]))
        gone = net.add("and", scope)
        rest = net.via("or", scope, (gone, PREV))
        net.fill(rest, net.all(scope, [net.any(scope, left.values()), comp]))
        net.fill(gone, rest)
        net.fill(gone, body.compensated)
        for woken in (*later.values(), rest):
            net.fill(back, woken)
        failed = {c: net.via("or", outer, (f, FIRST)) for c, f in fails.items()}
        return Ports(ends, envs, failed, net.via("or", outer, (gone, FIRST)))

    def head(self, scope: Scope, first: int) -> int:
        """Make the value of a variable at the beginning of a round; what the round before hands on comes later."""
        self.values.append(Value(kind="head", scope=scope, of=(first, first)))
        return len(self.values) - 1

    def left(self, scope: Scope, condition: int, inner: int) -> int:
        """Give what an inner value was when its block was left; an outer value is what it always was."""
        if len(self.values[inner].scope) <= len(scope):
            return inner
        return self.value("left", scope, condition, inner)

    def each(self, n: Each, in_: int, comp: int, env: Env, context: Context) -> Ports:
        """One joiner counts, and records one fact for each port: n branches cost O(n), and followers hear one fact."""
        net, outer, block = self.net, context.scope, len(self.blocks)
        over = self.expression(n.over, env, outer)
        scope = (*outer, block)
        self.blocks.append(Block(kind="each", position=n.position, limit=n.limit, over=over, at_once=n.at_once))
        begin = net.via("or", scope, (in_, FAN))
        back = net.fact(n.position, "back", outer)
        inner = {**env, n.item: self.value("item", scope, over)}
        body = self.node(n.body, begin, back, inner, replace(context, scope=scope))
        done, some = body.ends[NORMAL], net.any(scope, body.failed.values())
        ended = net.any(scope, [done, some])
        self.blocks[block] = replace(self.blocks[block], ended=ended)

        def count(inside: int) -> int:
            node = net.via("count", outer, (inside, EXIT))
            net.nodes[node].of = (block,)
            return node

        failed_one = net.via("or", outer, (some, EXIT)) if some != FALSE else FALSE
        joined = net.fact(n.position, "ok", outer)
        results = self.value("list", outer, block, body.envs[NORMAL][n.result])

        def mark(label: str, when: int, arguments: Sequence[tuple[str, int]] = (), **about: Any) -> None:
            self.rule("mark", n.position, when, context, n.by, arguments, label=label, **about)

        self.rule(
            "fork",
            n.position,
            in_,
            context,
            n.by,
            [("over", over)],
            block=block,
            may_reject=n.position in self.cancellable,
        )
        mark("ok", count(done), [("results", results)])
        turned = net.all(outer, [joined, comp])
        mark("back", net.any(outer, [net.all(outer, [count(ended), failed_one]), turned]))
        settled = net.all(outer, [count(net.any(scope, [some, body.compensated])), failed_one])
        mark("failed", settled, block=block, codes=dict(body.failed))
        gone = net.all(outer, [joined, back, count(body.compensated)]) if turned != FALSE else FALSE
        mark("gone", gone)
        codes = [*body.failed, *(("too-many", "invalid-value") if n.position in self.cancellable else ())]
        failed = {c: net.fact(n.position, f"failed:{c}", outer) for c in dict.fromkeys(codes)}
        out = {**env, n.out: self.value("out", outer, n.position)}
        compensated = net.fact(n.position, "gone", outer) if gone != FALSE else FALSE
        return Ports({NORMAL: joined}, {NORMAL: out}, failed, compensated)

    def wait(self, n: Wait | Sleep, in_: int, comp: int, env: Env, context: Context) -> Ports:
        net, scope = self.net, context.scope
        codes = self.codes(n.position, context)
        about: dict[str, Any] = {"codes": codes, "deadlines": list(context.deadlines)}
        given: dict[str, Expression | None]
        match n:
            case Wait():
                given = {"key": n.key, "timeout": n.timeout}
                about |= {"event": n.event, "version": n.version}
                labels = ["ok", *(["fired"] if n.timeout is not None else [])]
            case Sleep():
                given = {"duration": n.duration, "until": n.until}
                labels = ["fired"]
            case _:
                assert_never(n)
        arguments = [(name, self.expression(e, env, scope)) for name, e in given.items() if e is not None]
        if n.position in self.cancellable and any(self.is_partial(v) for _, v in arguments):
            codes.append("invalid-value")
        self.rule("wait" if isinstance(n, Wait) else "sleep", n.position, in_, context, n.by, arguments, **about)
        done = net.any(scope, [net.fact(n.position, label, scope) for label in labels])
        failed = {c: net.fact(n.position, f"rejected:{c}", scope) for c in codes}
        out = {**env, n.out: self.value("out", scope, n.position)}
        return Ports({NORMAL: done}, {NORMAL: out}, failed, net.all(scope, [done, comp]))

    def deadline(self, n: Deadline, in_: int, comp: int, env: Env, context: Context) -> Ports:
        duration, failed = self.expression(n.duration, env, context.scope), dict[str, int]()
        if self.is_partial(duration):  # the block is entered once its duration has a value
            may_fail = n.position in self.cancellable
            value = self.value("expression", context.scope, ("list", ("var", duration)))
            [in_], failed = self.switch(n.position, value, ("known",), in_, context, may_fail=may_fail)
        self.rule("deadline", n.position, in_, context, n.by, [("duration", duration)])
        body = self.node(n.body, in_, comp, env, replace(context, deadlines=(*context.deadlines, n.position)))
        ended = self.net.any(context.scope, [*body.ends.values(), *body.failed.values()])
        self.rule("disarm", n.position, ended, context, n.by)
        return replace(body, failed=self.union(context.scope, [body.failed, failed]))

    def section(self, n: Section, in_: int, comp: int, env: Env, context: Context) -> Ports:
        """To what surrounds it a section is one step: marks, recorded by an orchestrator, are its border."""
        style = self.where.style_of(n)
        if style == context.style:
            return self.node(n.body, in_, comp, env, replace(context, orchestrator=n.by or context.orchestrator))
        net, scope = self.net, context.scope
        orchestrator = n.by or f"{placement.ORCHESTRATOR}/{n.position}"
        inside = replace(context, style=style, orchestrator=orchestrator, section=n.position)
        if style == placement.CHOREOGRAPHY:  # opened and turned back by the orchestrator outside
            self.rule("mark", n.position, in_, context, None, label="open")
            back = net.fact(n.position, "back", scope)
            body = self.node(n.body, net.fact(n.position, "open", scope), back, env, inside)
            turned = net.all(scope, [comp, net.any(scope, body.ends.values())])
            self.rule("mark", n.position, turned, context, None, label="back")
            return body
        body = self.node(n.body, in_, comp, env, inside)  # its orchestrator is one more participant to those outside

        def shown(label: str, when: int) -> int:
            self.rule("mark", n.position, when, inside, None, label=label)
            return net.fact(n.position, label, scope) if when != FALSE else FALSE

        failed = {c: shown(f"failed:{c}", f) for c, f in body.failed.items()}
        ends = {e: shown("done" if e == NORMAL else f"done:{e}", c) for e, c in body.ends.items()}
        return Ports(ends, body.envs, failed, shown("gone", body.compensated))

    def call(self, n: Call, in_: int, comp: int, env: Env, context: Context) -> Ports:
        inner = {name: self.expression(e, env, context.scope) for name, e in n.arguments}
        body = self.node(n.body, in_, comp, inner, context)
        done = self.net.any(context.scope, body.ends.values())
        out = {**env, n.out: self.merged(body, RESULT, context.scope)}
        return Ports({NORMAL: done}, {NORMAL: out}, body.failed, body.compensated)


def _listed(code: str, codes: tuple[str, ...] | None) -> bool:
    return codes is None or code.partition("@")[0] in codes


def _bound(node: Any) -> Iterator[Expression]:
    """Give the expressions to which variables are bound, anywhere inside."""
    match node:
        case Let() | Return():
            yield node.value
        case Call():
            yield from (e for _, e in node.arguments)
    if isinstance(node, Node):
        for f in fields(node):
            yield from _bound(getattr(node, f.name))
    elif isinstance(node, tuple):
        for x in node:
            yield from _bound(x)


def _assigned(node: Node) -> set[str]:
    """Give the variables that a piece of a loop's body may bind (a called workflow has variables of its own)."""
    match node:
        case Step() | Wait() | Sleep() | Call():
            return {node.out}
        case Let():
            return {node.name}
        case Seq():
            return set().union(*(_assigned(p) for p in node.parts))
        case Par():
            return {node.out}.union(*(_assigned(b) for b in node.branches))
        case Choice():
            return _assigned(node.then) | _assigned(node.otherwise)
        case Attempt():
            return {node.out} | _assigned(node.body)
        case Loop():
            return _assigned(node.body) | _assigned(node.otherwise) | ({node.index} if node.index else set())
        case Each():
            return {node.out}
        case Deadline() | Section():
            return _assigned(node.body)
        case _:
            return set()
