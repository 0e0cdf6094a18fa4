"""What makes a plan sound: each part has its form, points only at what is there, and changes rounds as it may.

A plan that was stored or sent is checked before anything is performed with it. The digest says that it was not
altered by accident; it does not say that somebody who makes digests made no mistake. So after this nothing in the
engine has to ask whether an index is in range, a round deep enough, or a chain of values without end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, NotRequired, TypedDict

import msgspec

from minuet.contracts.action import RetryPolicy
from minuet.plans import condition
from minuet.plans.condition import FALSE, FAN, OUTER, Scope
from minuet.plans.rule import Rule, Value
from minuet.workflows import tree

if TYPE_CHECKING:
    from minuet.plans.plan import Plan


class BlockForm(TypedDict):
    """A block in JSON."""

    kind: str
    position: str
    limit: int
    over: int | None
    at_once: int | None
    ended: int | None


class Form(TypedDict):
    """A plan in JSON: what counts for the digest, the digest, and where things stand in the user's files."""

    format: int
    digest: str
    workflow: str
    input_shape: str | None
    result_shape: str
    style: str
    sections: dict[str, str]
    conditions: list[tuple[str, list[int], list[Any], list[tuple[int, str]]]]
    values: list[tuple[str, list[int], list[Any]]]
    rules: list[tuple[str, str, int, list[int], str, list[tuple[str, int]], dict[str, Any]]]
    switches: list[tuple[str, int, list[int], int, tuple[int, int, int]]]
    blocks: list[BlockForm]
    body: dict[str, Any]
    places: dict[str, tuple[str, int, int]]


class _Performed(TypedDict):
    service: str
    action: str
    codes: list[str]
    retry: RetryPolicy | None
    attempt_timeout_ms: int | None


class _Run(_Performed):
    timeout_ms: int | None
    timeout_then: str | None
    compensation: tuple[str, str] | None
    input_shape: str
    result_shape: str
    deadlines: list[str]
    irrevocable: bool
    forward_only: bool
    private: NotRequired[list[str]]


class _Timed(TypedDict):
    timeout_ms: int


class _Verdict(TypedDict):
    of: str


class _Decide(TypedDict):
    may_reject: bool


class _Sleep(TypedDict):
    codes: list[str]
    deadlines: list[str]


class _Wait(_Sleep):
    event: str
    version: int


class _Fork(TypedDict):
    block: int
    may_reject: bool


class _MarkPort(TypedDict):
    label: str


class _Mark(_MarkPort, total=False):
    block: int
    codes: dict[str, int]


class _Reject(TypedDict):
    code: str
    message: str


class _End(TypedDict):
    code: str


class _Nothing(TypedDict):
    pass


_ABOUT: Final[Mapping[str, Any]] = {
    "run": _Run,
    "compensate": _Performed,
    "timeout": _Timed,
    "abandon": _Timed,
    "verdict": _Verdict,
    "decide": _Decide,
    "wait": _Wait,
    "sleep": _Sleep,
    "deadline": _Nothing,
    "disarm": _Nothing,
    "fork": _Fork,
    "mark": _Mark,
    "reject": _Reject,
    "end": _End,
}
_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "decide": ("guard",),
    "deadline": ("duration",),
    "fork": ("over",),
}
_OF: Final[Mapping[str, Any]] = {
    "false": tuple[()],
    "start": tuple[()],
    "fact": tuple[str, str],
    "arm": tuple[int, str],
    "and": tuple[()],
    "or": tuple[()],
    "count": tuple[int],
    "input": tuple[()],
    "out": tuple[str],
    "expression": tuple[tuple[Any, ...]],
    "phi": tuple[tuple[int, int], ...],
    "index": tuple[()],
    "item": tuple[int],
    "list": tuple[int, int],
    "head": tuple[int, int],
    "left": tuple[int, int],
}
_DRAWN: Final = [
    cls for cls in vars(tree).values() if isinstance(cls, type) and issubclass(cls, tree.Node) and cls is not tree.Node
]
_NODES: Final = {c.__name__: {"node", *(f.name for f in fields(c))} - {"place"} for c in (*_DRAWN, RetryPolicy)}
_CHILDREN: Final = {
    c.__name__: [f.name for f in fields(c) if f.name in ("body", "then", "otherwise", "parts", "branches")]
    for c in _DRAWN
}


class Unsound(Exception):
    """A part of a plan is not what it must be; the text says which."""


def verify(plan: Plan) -> None:
    """Refuse a plan that points to nowhere.

    Raises:
        Unsound: something is not there, or not of the right kind.
    """
    _Check(plan).all()


class _Check:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def all(self) -> None:
        self.blocks()
        self.conditions()
        self.values()
        for rule in self.plan.rules:
            self.rule(rule)
        self.switches()
        self.tree(self.plan.body)

    def need(self, holds: object, what: str, at: object = "") -> None:
        if not holds:
            raise Unsound(f"{what} {at}".rstrip())

    def form(self, given: Any, form: Any, what: str, at: object) -> Any:
        try:
            return msgspec.convert(given, form)
        except msgspec.ValidationError as e:
            raise Unsound(f"{what} {at}: {e}") from e

    # What may be named

    def scope_of(self, c: int, what: str) -> Scope:
        self.need(0 <= c < len(self.plan.conditions), f"{what} names no condition:", c)
        return self.plan.conditions[c].scope

    def value(self, v: int, scope: Scope, what: str) -> None:
        """A value is read in the rounds of its reader: it stands there, or further out."""
        self.need(0 <= v < len(self.plan.values), f"{what} names no value:", v)
        self.need(_is_prefix(self.plan.values[v].scope, scope), f"{what} reads another round's value:", v)

    def block(self, b: int, what: str) -> None:
        self.need(0 <= b < len(self.plan.blocks), f"{what} names no block:", b)

    # The parts

    def blocks(self) -> None:
        for i, b in enumerate(self.plan.blocks):
            self.need(b.kind in ("loop", "each") and b.limit >= 1 and (b.at_once or 1) >= 1, "block", i)
            if b.kind == "each":
                self.need(b.over is not None and 0 <= b.over < len(self.plan.values), "block", i)
            if b.ended is not None:
                self.need(self.scope_of(b.ended, "a block")[-1:] in ((i,), ()), "the end of block", i)

    def conditions(self) -> None:
        conditions = self.plan.conditions
        self.need([c.kind for c in conditions[:2]] == ["false", "start"], "the first conditions are false and start")
        for i, c in enumerate(conditions):
            at = f"condition {i}"
            self.need(c.kind in _OF and (c.kind in ("false", "start")) == (i < 2), f"{at} is of kind", c.kind)
            self.form(c.of, _OF[c.kind], at, c.kind)
            for b in c.scope:
                self.block(b, at)
            if c.kind == "arm":
                self.need(0 <= c.of[0] < len(self.plan.switches), f"{at} has no switch:", c.of[0])
            if c.kind == "count":
                self.block(c.of[0], at)
            self.need(c.kind in ("and", "or", "count") or not c.inputs, f"{at} takes no inputs")
            for source, edge in c.inputs:
                self.need(_leads(self.scope_of(source, at), edge, c.scope), f"{at} cannot be reached by", edge)
                self.need(c.kind == "and" or edge != OUTER, f"{at} takes no input from outside")
            self.need(c.kind != "and" or any(e != OUTER for _, e in c.inputs), f"{at} has no round of its own")
            begins = any(e == FAN for _, e in c.inputs)
            self.need(not begins or self.plan.blocks[c.scope[-1]].kind == "each", f"{at} begins elements of a loop")

    def values(self) -> None:
        for i, v in enumerate(self.plan.values):
            at = f"value {i}"
            self.need(v.kind in _OF, f"{at} is of kind", v.kind)
            self.form(v.of, _OF[v.kind], at, v.kind)
            for b in v.scope:
                self.block(b, at)
            try:
                below = v.below
            except (TypeError, ValueError, LookupError, AttributeError, RecursionError) as e:
                raise Unsound(f"{at} is no expression: {e}") from e
            inner = v.scope
            match v.kind:
                case "phi":
                    for c, _ in v.of:
                        self.need(_is_prefix(self.scope_of(c, at), v.scope), f"{at} asks another round")
                case "index" | "item" | "head":
                    self.need(v.scope, f"{at} stands in no round")
                case "list":
                    self.block(v.of[0], at)
                    inner = (*v.scope, v.of[0])
                case "left":
                    self.need(v.of[0] == FALSE or self.scope_of(v.of[0], at) == v.scope, f"{at} was left elsewhere")
                    self.need(0 <= v.of[1] < len(self.plan.values), f"{at} names no value:", v.of[1])
                    inner = self.plan.values[v.of[1]].scope
                    self.need(inner[:-1] == v.scope, f"{at} leaves more than one block")
            for x in below:
                self.need(isinstance(x, int), f"{at} reads", x)
                self.value(x, inner, at)
        self.need(_is_well_founded(self.plan.values), "a value stands on itself")

    def rule(self, r: Rule) -> None:
        at = f"rule {r.kind} at {r.position or 'the end'}"
        self.need(r.kind in _ABOUT, at, "is of no kind")
        self.need(self.scope_of(r.when, at) == r.scope, at, "holds in another round")
        for _, v in r.arguments:
            self.value(v, r.scope, at)
        self.form(r.about, _ABOUT[r.kind], at, "")
        names = tuple(name for name, _ in r.arguments)
        self.need(names == _ARGUMENTS.get(r.kind, names), at, "has other arguments")
        match r.kind:
            case "wait":
                self.need(names in (("key",), ("key", "timeout")), at, "has other arguments")
            case "sleep":
                self.need(names in (("duration",), ("until",)), at, "has other arguments")
            case "end":
                self.need(names == (() if r.about["code"] else ("result",)), at, "has other arguments")
            case "verdict":
                self.need(self.has("run", r.about["of"], r.scope), at, "has no step")
            case "fork":
                self.elements(r.about["block"], r.scope, at)
            case "mark" if r.about["label"] == "failed":
                self.need({"block", "codes"} <= set(r.about), at, "has no elements")
                self.elements(r.about["block"], r.scope, at)
                for c in r.about["codes"].values():
                    self.need(self.scope_of(c, at) == (*r.scope, r.about["block"]), at, "counts another block")
            case "mark":
                self.need(r.about["label"] != "ok" or names == ("results",), at, "has no results")
        for d in r.about.get("deadlines", ()):
            self.need(any(x.kind == "deadline" and x.position == d for x in self.plan.rules), at, "has no deadline")

    def has(self, kind: str, position: str, scope: Scope) -> bool:
        return any(r.kind == kind and r.position == position and r.scope == scope for r in self.plan.rules)

    def elements(self, block: int, scope: Scope, at: str) -> None:
        self.block(block, at)
        self.need(self.plan.blocks[block].kind == "each", at, "goes over no list")
        begins = [c.scope for c in self.plan.conditions if any(e == FAN for _, e in c.inputs)]
        self.need((*scope, block) in begins, at, "begins nothing")

    def switches(self) -> None:
        for s in self.plan.switches:
            at = f"the choice at {s.position}"
            self.need(self.scope_of(s.trigger, at) == s.scope, at, "holds in another round")
            self.value(s.guard, s.scope, at)
            for arm in s.arms:
                self.need(arm == FALSE or self.scope_of(arm, at) == s.scope, at, "has an arm in another round")

    def tree(self, body: Any) -> None:
        """The tree is for people, and for finding where a run was rejected."""
        self.need(_are_nodes([body]), "there is no tree")
        todo: list[Any] = [body]
        while todo:
            part = todo.pop()
            if isinstance(part, dict):
                kind = part.get("node")
                if kind is not None:
                    self.need(isinstance(kind, str) and set(part) == _NODES.get(kind), "the tree has a node", kind)
                    for name in _CHILDREN.get(kind, ()):
                        self.need(_are_nodes(part[name] if isinstance(part[name], list) else [part[name]]), kind, name)
                todo += part.values()
            elif isinstance(part, list):
                todo += part


def _are_nodes(given: list[Any]) -> bool:
    return all(isinstance(x, dict) and isinstance(x.get("node"), str) for x in given)


def _is_prefix(outer: Scope, inner: Scope) -> bool:
    return inner[: len(outer)] == outer


def _leads(source: Scope, edge: str, node: Scope) -> bool:
    """Say whether an edge of this kind leads from one round to the other."""
    match edge:
        case condition.SAME:
            return source == node
        case condition.OUTER:
            return len(source) < len(node) and _is_prefix(source, node)
        case condition.ENTER | condition.FAN:
            return bool(node) and source == node[:-1]
        case condition.NEXT | condition.LAST | condition.PREV:
            return bool(node) and source == node
        case condition.FIRST | condition.EXIT:
            return bool(source) and source[:-1] == node
    return False


def _is_well_founded(values: list[Value]) -> bool:
    """Say whether every chain of values ends; what a loop hands on leads to the round before, which has its end."""
    below = [v.below[:1] if v.kind == "head" else v.below for v in values]
    above: list[list[int]] = [[] for _ in values]
    for v, found in enumerate(below):
        for x in found:
            above[x].append(v)
    left = [len(found) for found in below]
    todo = [v for v, n in enumerate(left) if not n]
    for v in todo:
        for x in above[v]:
            left[x] -= 1
            if not left[x]:
                todo.append(x)
    return len(todo) == len(values)
