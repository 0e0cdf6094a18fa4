"""Branches that run beside each other: `together`, and `each` over the elements of a list."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from minuet.workflows.reader.argument import bound_arguments, known_count, read_owner
from minuet.workflows.reader.body import Body, nothing
from minuet.workflows.reader.position import branch_of
from minuet.workflows.reader.pure import operation
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.typed import Typed
from minuet.workflows.reader.pure.valuetype import UNKNOWN, ListType, TupleType, Unknown, ValueType, describe
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Each, Node, Par

ReadBranch = Callable[[ast.expr, str, str], tuple[Node, ValueType]]
"""Reads one branch, from its position and the name that it binds."""


def read_together(
    body: Body, node: ast.Call, position: str, out: str, results: Sequence[str | None], branch: ReadBranch
) -> tuple[Node, ValueType]:
    """Read `together(…)`; its values are bound to `results`, where names are given for all of them."""
    for keyword in node.keywords:
        body.refuse("M004", keyword, f"together(…) has no {keyword.arg}=", "give it steps only")
    starred = next((a for a in node.args if isinstance(a, ast.Starred)), None)
    if starred is not None:
        problem = "how many branches there are is known only at run time"
        body.refuse("M008", starred, problem, "use each(xs, lambda x: …, limit=)")
        return nothing(body, node)
    if not node.args:
        body.refuse("M008", node, "together(…) has no branches", "give it steps")
        return nothing(body, node)
    names = list(results) if len(results) == len(node.args) else [None] * len(node.args)
    outs = [name or body.hidden() for name in names]
    branches: list[Node] = []
    kinds: list[ValueType] = []
    for number, (awaited, name) in enumerate(zip(node.args, outs, strict=True)):
        read, kind = branch(awaited, branch_of(position, number), name)
        branches.append(read)
        kinds.append(kind)
    par = Par(place=body.place(node), position=position, branches=tuple(branches), results=tuple(outs), out=out)
    return par, TupleType(tuple(kinds))


def read_each(body: Body, node: ast.Call, position: str, out: str, branch: ReadBranch) -> tuple[Node, ValueType]:
    """Read `each(xs, lambda x: …, limit=n)`, whose lambda gives one branch for every element."""
    given = bound_arguments(body, node, "each", ("items", "body", "limit", "at_once", "by"))
    if given is None:
        return nothing(body, node)
    if "items" not in given or "body" not in given:
        body.refuse("M004", node, "each(…) takes a list and a lambda", "each(xs, lambda x: …, limit=n)")
        return nothing(body, node)
    limit = _count(body, given.get("limit"), "limit")
    if "limit" not in given:
        body.refuse("M008", node, "each(…) has no limit", "give limit=: the most elements that there may be")
    at_once = _count(body, given.get("at_once"), "at_once")
    over = read_pure(body, given["items"])
    item = operation.element_of(over.type)
    if item is None:
        body.refuse(
            "M004", given["items"], f"each(…) goes through {describe(over.type)}",
            "go through a list; sorted(…) makes one of a set",
        )  # fmt: skip
        item = UNKNOWN
    function = _lambda(body, given["body"])
    if function is None:
        return nothing(body, node)
    name = function.args.args[0].arg
    variable, outer = body.unique(name), body.lambdas
    body.lambdas = {**outer, name: Typed(("var", variable), item)}
    result = body.hidden()
    read, kind = branch(function.body, f"{position}.1", result)
    body.lambdas = outer
    each = Each(
        place=body.place(node),
        position=position,
        over=over.expression,
        item=variable,
        body=read,
        result=result,
        out=out,
        limit=limit or 1,
        at_once=at_once,
        by=read_owner(body, given.get("by")),
    )
    return each, ListType(kind)


def _lambda(body: Body, node: ast.expr) -> ast.Lambda | None:
    """Give the lambda of an `each`, which takes one element; None after a finding."""
    match node:
        case ast.Lambda(
            args=ast.arguments(posonlyargs=[], args=[_], vararg=None, kwonlyargs=[], kwarg=None, defaults=[])
        ):
            return node
        case ast.Lambda():
            body.refuse("M013", node, "the lambda of each(…) takes one element", "write lambda x: …")
        case _:
            body.refuse("M013", node, f"each(…) takes a lambda, not {shown(node)}", "write lambda x: service.action(x)")
    return None


def _count(body: Body, node: ast.expr | None, what: str) -> int | None:
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return None
    typed = read_pure(body, node)
    number = known_count(typed)
    if number is None and not isinstance(typed.type, Unknown):
        problem = f"{what}={shown(node)} is no number that is known now"
        body.refuse("M008", node, problem, "use a number, or a constant of the module")
    return number
