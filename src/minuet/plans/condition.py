"""Positive and/or conditions over facts, as a network that is evaluated once, forwards.

A condition is a node; it starts false and becomes true only when its inputs have: this *is* the least fixpoint, so
conditions may be recursive. There is no negation, hence nothing ever turns false again, and the order in which
facts come does not matter.

Nodes are templates. Each stands in a *scope*: the path of loops and `each` blocks around it; an instance is a node
with one index for each of them (its round). An edge says how the round changes on the way from an input to the node:

    SAME    the same round
    OUTER   the input stands further out: its round is a prefix (only beside a SAME input, in an `and`)
    ENTER   into round 0 of a loop                      FAN     into every element of an `each`
    NEXT    from round r to r+1, below the limit         LAST    only from the last round the limit allows
    PREV    from round r to r-1                          FIRST   out of the loop, from round 0 only
    EXIT    out of the block, from whichever round; that round is remembered

`and` needs all inputs, `or` one, `count` as many instances of its input as the `each` has elements.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SAME, OUTER, ENTER, FAN, NEXT, LAST, PREV, FIRST, EXIT = (
    "same",
    "outer",
    "enter",
    "fan",
    "next",
    "last",
    "prev",
    "first",
    "exit",
)
EDGES = frozenset({SAME, OUTER, ENTER, FAN, NEXT, LAST, PREV, FIRST, EXIT})

FALSE = 0
START = 1

Scope = tuple[int, ...]  # indices of blocks, outermost first


@dataclass(slots=True)
class Condition:
    """A node. `kind`: false, start, fact, arm, and, or, count.

    A fact has (position, label) in `of`; an arm has (switch, label): the outcome of an evaluated guard.
    """

    kind: str
    scope: Scope
    of: tuple[Any, ...] = ()
    inputs: list[tuple[int, str]] = field(default_factory=list)


class Network:
    """Builds conditions; equal facts are one node."""

    def __init__(self) -> None:
        self.nodes = [Condition("false", ()), Condition("start", ())]
        self._facts: dict[tuple[str, str], int] = {}

    def add(self, kind: str, scope: Scope, of: tuple[Any, ...] = ()) -> int:
        """Make a node without inputs; for `or` and `and` they may be filled in later."""
        self.nodes.append(Condition(kind, scope, of))
        return len(self.nodes) - 1

    def fact(self, position: str, label: str, scope: Scope) -> int:
        """Give the node that is true when this fact is known."""
        if (found := self._facts.get((position, label))) is None:
            found = self._facts[position, label] = self.add("fact", scope, (position, label))
        return found

    def fill(self, node: int, source: int, edge: str | None = None) -> None:
        """Add an input. Without an edge: SAME, or OUTER where the input stands further out."""
        if source == FALSE and self.nodes[node].kind == "or":
            return
        here, there = self.nodes[node].scope, self.nodes[source].scope
        if edge is None:
            edge = SAME if here == there else OUTER
            assert edge == SAME or self.nodes[node].kind == "and", (
                "only an `and` may have an outer input",
                node,
                source,
            )
            assert here[: len(there)] == there, ("an inner condition needs an edge that leaves its block", node, source)
        if (source, edge) not in self.nodes[node].inputs:
            self.nodes[node].inputs.append((source, edge))

    def any(self, scope: Scope, sources: Iterable[int]) -> int:
        """Give a node that is true when one of these is."""
        some = list(dict.fromkeys(s for s in sources if s != FALSE))
        if not some:
            return FALSE
        if len(some) == 1 and self.nodes[some[0]].scope == scope:
            return some[0]
        node = self.add("or", scope)
        for s in some:
            self.fill(node, s)
        return node

    def all(self, scope: Scope, sources: Iterable[int]) -> int:
        """Give a node that is true when all of these are."""
        some = list(dict.fromkeys(sources))
        if FALSE in some:
            return FALSE
        if len(some) == 1 and self.nodes[some[0]].scope == scope:
            return some[0]
        node = self.add("and", scope)
        for s in some:
            self.fill(node, s)
        return node

    def via(self, kind: str, scope: Scope, *sources: tuple[int, str]) -> int:
        """Give a node with explicit edges."""
        node = self.add(kind, scope)
        for source, edge in sources:
            self.fill(node, source, edge)
        return node


def simplify(
    nodes: list[Condition], roots: Iterable[int], also: dict[int, list[int]]
) -> tuple[list[Condition], dict[int, int]]:
    """Drop what can never be true, nodes that only repeat another, and what nobody asks for.

    `roots` are the nodes that somebody watches; `also` names, for nodes that hold by more than their inputs (arms of
    a switch, facts of a rule, counts of elements, of which there may be none), those of which one must hold before.
    Gives the new nodes, in an order that depends on the structure alone, and where each old node has gone (FALSE for
    what can never be true).
    """
    possible = _possible(nodes, also)
    target = list(range(len(nodes)))

    def resolve(i: int) -> int:
        while target[i] != i:
            i = target[i]
        return i

    for i in range(len(nodes)):
        if i > START and i not in possible:
            target[i] = FALSE
    changed = True
    while changed:
        changed = False
        for i, node in enumerate(nodes):
            if target[i] != i or node.kind not in ("or", "and", "count"):
                continue
            inputs = list(dict.fromkeys((resolve(s), e) for s, e in node.inputs))
            if node.kind != "and":
                inputs = [(s, e) for s, e in inputs if s != FALSE and (s, e) != (i, SAME)]
            if inputs != node.inputs:
                node.inputs, changed = inputs, True
            if len(inputs) == 1 and inputs[0][1] == SAME and inputs[0][0] != i:
                target[i], changed = inputs[0][0], True
    order: dict[int, int] = {FALSE: FALSE, START: START}
    todo = [resolve(r) for r in reversed(list(roots))]
    while todo:
        i = todo.pop()
        if i in order:
            continue
        order[i] = len(order)
        below = [resolve(s) for s, _ in nodes[i].inputs] + [resolve(s) for s in also.get(i, ())]
        todo.extend(reversed(below))
    kept = sorted(order, key=order.__getitem__)
    new = [
        Condition(
            nodes[i].kind, nodes[i].scope, nodes[i].of, sorted((order[resolve(s)], e) for s, e in nodes[i].inputs)
        )
        for i in kept
    ]
    return new, {i: order.get(resolve(i), FALSE) for i in range(len(nodes))}


def _possible(nodes: list[Condition], also: dict[int, list[int]]) -> set[int]:
    """Give the nodes that can become true if every answer can come; by counting, so that cycles do not matter."""
    parents: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        for s, _ in node.inputs:
            parents.setdefault(s, []).append(i)
        for s in also.get(i, ()):
            parents.setdefault(s, []).append(i)
    found: set[int] = set()
    missing = {i: len({s for s, _ in n.inputs}) for i, n in enumerate(nodes) if n.kind == "and"}
    todo = [i for i, n in enumerate(nodes) if n.kind == "start" or (n.kind == "and" and not n.inputs)]
    while todo:
        i = todo.pop()
        if i in found:
            continue
        found.add(i)
        for p in dict.fromkeys(parents.get(i, ())):
            if p in found:
                continue
            if nodes[p].kind == "and":
                missing[p] -= 1
                if missing[p]:
                    continue
            todo.append(p)
    return found
