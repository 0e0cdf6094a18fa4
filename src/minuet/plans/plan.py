"""A plan: a compiled workflow as data. Made once, stored, shipped, and loaded without any user's code.

The JSON form has two halves: what counts for the digest (rules, conditions, values, the tree as drawn for people), and
where things stand in the user's files, which does not. Two equal sources, with equal contracts and styles, give the
same bytes and so the same digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, TypedDict

import msgspec

from minuet.errors import PlanInvalid
from minuet.plans.compile import Compiled, compile_tree
from minuet.plans.condition import FALSE, Condition, simplify
from minuet.plans.placement import Placement, is_conductor
from minuet.plans.reach import sections
from minuet.plans.rule import Block, Rule, Switch, Value
from minuet.plans.sound import Form, Unsound, verify
from minuet.workflows import expression
from minuet.workflows.tree import Node, Place, WorkflowTree

FORMAT = 1


@dataclass(slots=True, kw_only=True)
class Plan:
    """A compiled workflow. `body` is its tree as JSON, for people; `places` gives (file, line, column) by position."""

    workflow: str
    digest: str
    input_shape: str | None
    result_shape: str
    style: str
    sections: dict[str, str]
    conditions: list[Condition]
    values: list[Value]
    rules: list[Rule]
    switches: list[Switch]
    blocks: list[Block]
    body: dict[str, Any]
    places: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    _conductors: frozenset[str] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Give `workflow@digest`, the digest cut to eight digits."""
        return f"{self.workflow}@{self.digest[:8]}"

    def steps(self) -> list[Rule]:
        """Give the rules that run steps, in the order of the text."""
        return [r for r in self.rules if r.kind == "run"]

    def services(self) -> dict[str, set[str]]:
        """Give the services that the plan names, with the actions and compensations it needs of each."""
        found: dict[str, set[str]] = {}
        given_up = {r.position for r in self.rules if r.kind == "abandon"}
        for r in self.rules:
            if r.kind in ("run", "compensate"):
                found.setdefault(r.about["service"], set()).add(r.about["action"])
            if r.kind == "run" and r.position in given_up:  # taken back where it runs after all
                service, action = r.about["compensation"]
                found.setdefault(service, set()).add(action)
        return found

    def conductors(self) -> frozenset[str]:
        """Give the names of those who are no services: home, and the orchestrators."""
        if self._conductors is None:  # a plan is not changed once it is used
            named = {n["by"] for n in _nodes(self.body) if n["node"] == "Section" and n["by"]}
            self._conductors = frozenset(r.who for r in self.rules if is_conductor(r.who) or r.who in named)
        return self._conductors

    def to_json(self) -> bytes:
        """Give the plan as JSON text."""
        return msgspec.json.encode({**_content(self), "digest": self.digest, "places": self.places})


def make_plan(tree: WorkflowTree, where: Placement | None = None) -> Plan:
    """Compile a workflow as read into a plan; `minuet.plans.check` says whether it can be performed."""
    where = where or Placement()
    inner = sections(tree.body)
    plan = Plan(
        workflow=tree.name,
        digest="",
        input_shape=tree.input[1] if tree.input else None,
        result_shape=tree.result_shape,
        style=where.root,
        sections={s.position: where.style_of(s) for s in inner},
        conditions=[],
        values=[],
        rules=[],
        switches=[],
        blocks=[],
        body=_drawn(tree.body),
        places=dict(_places(tree.body)),
    )
    _tidy(compile_tree(tree, where), plan)
    plan.digest = _digest(plan)
    return plan


def load_plan(raw: bytes | str) -> Plan:
    """Load a plan from its JSON text.

    Raises:
        PlanInvalid: it is damaged, was altered (its digest does not fit), or is of another format.
    """
    try:
        if (found := msgspec.json.decode(raw, type=_Format)["format"]) != FORMAT:
            raise _invalid(
                f"the plan has format {found}, this release reads {FORMAT}", "Install the release that wrote it"
            )
        data = _decode(raw)
        plan = Plan(
            workflow=data["workflow"],
            digest=data["digest"],
            input_shape=data["input_shape"],
            result_shape=data["result_shape"],
            style=data["style"],
            sections=data["sections"],
            conditions=[Condition(k, tuple(s), _tuples(of), inputs) for k, s, of, inputs in data["conditions"]],
            values=[
                Value(kind=k, scope=tuple(s), of=(expression.from_json(of[0]),) if k == "expression" else _tuples(of))
                for k, s, of in data["values"]
            ],
            rules=[
                Rule(kind=k, position=p, when=w, scope=tuple(s), who=who, arguments=a, about=about)
                for k, p, w, s, who, a, about in data["rules"]
            ],
            switches=[
                Switch(position=p, trigger=t, scope=tuple(s), guard=g, arms=arms)
                for p, t, s, g, arms in data["switches"]
            ],
            blocks=[Block(**b) for b in data["blocks"]],
            body=data["body"],
            places=data["places"],
        )
        digest = _digest(plan)
    except (msgspec.MsgspecError, LookupError, TypeError, ValueError, AttributeError, RecursionError) as e:
        raise _invalid(f"the plan cannot be read: {e}") from e
    if plan.digest != digest:
        raise _invalid(f"plan {plan.name} was altered: its content has the digest {digest}", digest=digest)
    try:
        verify(plan)
    except Unsound as e:
        raise _invalid(f"plan {plan.name} is not sound: {e}") from e
    return plan


class _Format(TypedDict):
    format: int


_decode = msgspec.json.Decoder(Form).decode


def _invalid(what: str, remedy: str = "Restore it, or make it anew from its source", **subject: Any) -> PlanInvalid:
    return PlanInvalid(what, remedy=remedy, **subject)


def _content(plan: Plan) -> dict[str, Any]:
    """Give what counts for the digest."""
    return {
        "format": FORMAT,
        "workflow": plan.workflow,
        "input_shape": plan.input_shape,
        "result_shape": plan.result_shape,
        "style": plan.style,
        "sections": plan.sections,
        "conditions": [(c.kind, c.scope, c.of, c.inputs) for c in plan.conditions],
        "values": [(v.kind, v.scope, v.of) for v in plan.values],
        "rules": [(r.kind, r.position, r.when, r.scope, r.who, r.arguments, r.about) for r in plan.rules],
        "switches": [(s.position, s.trigger, s.scope, s.guard, s.arms) for s in plan.switches],
        "blocks": [{f.name: getattr(b, f.name) for f in fields(b)} for b in plan.blocks],
        "body": plan.body,
    }


def _digest(plan: Plan) -> str:
    raw = msgspec.json.encode(_content(plan), order="deterministic")
    return hashlib.sha256(raw).hexdigest()[:16]


def _tuples(x: Any) -> Any:
    return tuple(_tuples(i) for i in x) if isinstance(x, list | tuple) else x


def _drawn(node: Any) -> Any:
    """Give a tree as JSON, without its places."""
    if isinstance(node, Node) or is_dataclass(node):
        return {"node": type(node).__name__} | {
            f.name: _drawn(getattr(node, f.name)) for f in fields(node) if f.name != "place"
        }
    if isinstance(node, tuple | list):
        return [_drawn(x) for x in node]
    if isinstance(node, dict):
        return {k: _drawn(v) for k, v in node.items()}
    return node


def _nodes(drawn: Any) -> Iterator[dict[str, Any]]:
    """Give the nodes of a tree as JSON."""
    todo = [drawn]
    while todo:
        x = todo.pop()
        if isinstance(x, dict):
            if "node" in x:
                yield x
            todo += x.values()
        elif isinstance(x, list):
            todo += x


def _places(node: Any) -> Iterator[tuple[str, tuple[str, int, int]]]:
    if isinstance(node, Node):
        place: Place = node.place
        if position := getattr(node, "position", None):
            yield position, (place.file, place.line, place.column)
        for f in fields(node):
            yield from _places(getattr(node, f.name))
    elif isinstance(node, tuple):
        for x in node:
            yield from _places(x)


def _tidy(compiled: Compiled, plan: Plan) -> None:
    """Keep what is used, and number it by its use, so that equal workflows give equal plans."""
    also = {arm: [s.trigger] for s in compiled.switches for arm in s.arms if arm != FALSE}
    before: dict[str, list[int]] = {}  # position -> conditions of the rules that stand there
    for r in compiled.rules:
        before.setdefault(r.position, []).append(r.when)
    begun = {r.about["block"]: [r.when] for r in compiled.rules if r.kind == "fork"}
    also |= {i: before.get(c.of[0], []) for i, c in enumerate(compiled.network.nodes) if c.kind == "fact"}
    also |= {i: begun[c.of[0]] for i, c in enumerate(compiled.network.nodes) if c.kind == "count"}
    possible = simplify(compiled.network.nodes, range(len(compiled.network.nodes)), also)[1]
    rules = [r for r in compiled.rules if possible[r.when] != FALSE]
    live = [s for s in compiled.switches if possible[s.trigger] != FALSE]

    values = _Values(compiled.values)
    for r in rules:
        r.arguments = [(name, values.use(v)) for name, v in r.arguments]
    for s in live:
        s.guard = values.use(s.guard)
    blocks = list(compiled.blocks)
    overs = {i: values.use(b.over) for i, b in enumerate(blocks) if b.over is not None}

    roots = [r.when for r in rules]
    roots += [c for r in rules if r.kind == "mark" for c in r.about.get("codes", {}).values()]
    roots += [arm for s in live for arm in s.arms] + [s.trigger for s in live]
    roots += [b.ended for b in blocks if b.ended is not None]
    roots += values.conditions()
    plan.conditions, moved = simplify(compiled.network.nodes, roots, also)

    for r in rules:
        r.when = moved[r.when]
        if r.kind == "mark" and "codes" in r.about:
            r.about = {**r.about, "codes": {c: moved[i] for c, i in r.about["codes"].items() if moved[i] != FALSE}}
    plan.rules = rules
    where: dict[int, int] = {}
    for s in live:
        where[len(where)] = compiled.switches.index(s)
        s.trigger = moved[s.trigger]
        s.arms = (moved[s.arms[0]], moved[s.arms[1]], moved[s.arms[2]])
    renumbered = {old: new for new, old in where.items()}
    for c in plan.conditions:
        if c.kind == "arm":
            c.of = (renumbered[c.of[0]], c.of[1])
    plan.switches = live
    plan.blocks = [
        Block(
            kind=b.kind,
            position=b.position,
            limit=b.limit,
            over=overs.get(i),
            at_once=b.at_once,
            ended=moved[b.ended] if b.ended is not None else None,
        )
        for i, b in enumerate(blocks)
    ]
    plan.values = values.moved(moved)


class _Values:
    """Numbers values by their first use."""

    def __init__(self, old: list[Value]) -> None:
        self.old = old
        self.order: dict[int, int] = {}

    def use(self, v: int) -> int:
        todo = [v]
        while todo:
            u = todo.pop()
            if u not in self.order:
                self.order[u] = len(self.order)
                todo.extend(reversed(self.old[u].below))
        return self.order[v]

    def conditions(self) -> list[int]:
        """Give the conditions that values name."""
        found = []
        for i in self.order:
            v = self.old[i]
            if v.kind == "phi":
                found += [c for c, _ in v.of]
            elif v.kind == "left":
                found.append(v.of[0])
        return found

    def moved(self, conditions: dict[int, int]) -> list[Value]:
        """Give the used values in their new order, with everything they name renumbered."""
        new = []
        for i in self.order:
            v = self.old[i]
            of = v.of
            match v.kind:
                case "expression":
                    of = (expression.substitute(v.of[0], {x: ("var", n) for x, n in self.order.items()}),)
                case "phi":
                    ways = tuple((conditions[c], self.order[x]) for c, x in v.of if conditions[c] != FALSE)
                    of = ways
                case "item":
                    of = (self.order[v.of[0]],)
                case "list":
                    of = (v.of[0], self.order[v.of[1]])
                case "left":
                    of = (conditions[v.of[0]], self.order[v.of[1]])
                case "head":
                    of = (self.order[v.of[0]], self.order[v.of[1]])
            new.append(Value(kind=v.kind, scope=v.scope, of=of))
        return new
