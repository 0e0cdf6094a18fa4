"""Loops: `for` over a `range` with a bound that is part of the plan, and the scopes of its rounds."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from minuet.workflows.reader.argument import known_count
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.flow import Flow, Rounds
from minuet.workflows.reader.position import Numbers
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.valuetype import INT, Unknown
from minuet.workflows.reader.scope import Scope, merge
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Loop, Node, Seq

ROUNDS_MAX: Final = 10_000
_READINGS_MAX: Final = 5

Ends = list[tuple[Scope | None, str]]
"""The scopes with which rounds end, each with the words that say when."""


def read_loop(flow: Flow, node: ast.For, numbers: Numbers) -> Iterator[Node]:
    """Read a loop; as nothing, if it has no bound."""
    body, limit = flow.body, _bound(flow.body, node)
    if limit is None:
        with flow.loop():
            flow.read_on([node.target], [*node.body, *node.orelse], numbers)
        return
    position = numbers.next()
    index = _index(body, node)
    before = body.scope.copy()
    rounds_body, rounds, ends = _rounds(flow, node, position, before)
    exhausted = merge(ends)
    body.scope = exhausted or before.copy()
    otherwise = flow.block(node.orelse, Numbers(f"{position}.else."), node)
    when = f"when the loop of line {node.lineno}"
    is_exhausted = exhausted is not None and not flow.left
    arms: Ends = [(body.scope if is_exhausted else None, f"{when} runs to its end")]
    arms += [(scope, f"{when} is left by break") for scope in rounds.breaks]
    flow.meet(arms, before)
    if index is not None:
        body.scope.forget(index, "after its loop")
    yield Loop(
        place=body.place(node), position=position, index=index, limit=limit, body=rounds_body, otherwise=otherwise
    )


def _rounds(flow: Flow, node: ast.For, position: str, before: Scope) -> tuple[Seq, Rounds, Ends]:
    """Read the body of a loop for all its rounds, and give it with the scopes of its ends.

    A later round begins with what an earlier one has bound, maybe with other types than the first one: then the
    body is read again, until what it begins with stays the same.
    """
    entry, readings = before, 0
    while True:
        readings += 1
        mark = flow.body.mark()
        with flow.loop() as rounds:
            seq, end = flow.arm(node.body, Numbers(f"{position}."), entry.copy(), node)
        ends: Ends = [(scope, f"when line {node.lineno} begins a round") for scope in (end, *rounds.continues)]
        again = merge([(entry, f"in the first round of line {node.lineno}"), *ends])
        if again is None or again.agrees(entry, before.names) or readings > _READINGS_MAX:
            return seq, rounds, ends
        flow.body.back_to(mark)
        if readings == _READINGS_MAX:
            again.widen(entry, before.names)
        entry = again


def _index(body: Body, node: ast.For) -> str | None:
    """Bind the name that counts the rounds, if it is read anywhere in the workflow."""
    assert isinstance(node.target, ast.Name)
    name = node.target.id
    is_read = any(
        isinstance(child, ast.Name) and child.id == name and isinstance(child.ctx, ast.Load)
        for child in ast.walk(body.source.node)
    )
    if name == "_" or not is_read:
        return None
    body.bind(node.target, INT)
    return name


def _bound(body: Body, node: ast.For) -> int | None:
    """Give the bound of `for i in range(n)`; None after a finding."""
    match node.iter:
        case ast.Call(func=function, args=arguments, keywords=[]) if body.source.resolve(function) is range:
            return _bound_of_range(body, node, arguments)
    over = shown(node.iter)
    if any(isinstance(child, ast.Await) for child in ast.walk(node)):
        remedy = "use each(…, limit=), or range(n) with a bound"
        body.refuse("M008", node, f"a loop over {over} has steps in it", remedy)
    else:
        remedy = "use a comprehension for values, and range(n) for rounds"
        body.refuse("M008", node, f"a loop goes over {over}", remedy)
    return None


def _bound_of_range(body: Body, node: ast.For, arguments: list[ast.expr]) -> int | None:
    if len(arguments) != 1:
        body.refuse("M007", node.iter, f"{ast.unparse(node.iter)} counts from elsewhere", "use range(n)")
        return None
    if not isinstance(node.target, ast.Name):
        body.refuse("M004", node.target, f"{shown(node.target)} counts the rounds", "use one name")
        return None
    typed = read_pure(body, arguments[0])
    limit = known_count(typed)
    if limit is None and not isinstance(typed.type, Unknown):
        what = f"{shown(arguments[0])} is no bound that is known now"
        body.refuse("M007", arguments[0], what, "use a number from 1, or a constant of the module")
    if limit is not None and limit > ROUNDS_MAX:
        remedy = f"stay below {ROUNDS_MAX:,}, which is also how many facts a run may have; larger work is several runs"
        body.refuse("M007", arguments[0], f"this loop may have {limit:,} rounds", remedy)
        return None
    return limit
