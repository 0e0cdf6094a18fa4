"""Statements: which module reads which kind."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterator

from minuet.workflows.reader.assignment import read_assignment
from minuet.workflows.reader.block import read_block
from minuet.workflows.reader.choice import read_choice
from minuet.workflows.reader.exit import read_jump, read_raise, read_return
from minuet.workflows.reader.flow import Flow
from minuet.workflows.reader.forbidden import read_forbidden
from minuet.workflows.reader.loop import read_loop
from minuet.workflows.reader.position import Numbers
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Node, Reject


def read_statement(flow: Flow, node: ast.stmt, numbers: Numbers) -> Iterator[Node]:
    """Read one statement: as one node mostly, as none where it does nothing, as several where names are unpacked."""
    match node:
        case ast.Pass() | ast.Expr(value=ast.Constant()):
            return
        case ast.Expr(value=ast.Await(value=awaited)):
            yield flow.awaited(awaited, numbers, flow.body.hidden())[0]
        case ast.Expr(value=value):
            yield from _bare(flow, value, numbers)
        case ast.Assign(targets=targets, value=value):
            yield from read_assignment(flow, targets, value, numbers)
        case ast.AnnAssign(target=target, value=value):
            if value is not None:
                yield from read_assignment(flow, [target], value, numbers, node.annotation)
        case ast.If():
            yield read_choice(flow, node, numbers)
        case ast.For():
            yield from read_loop(flow, node, numbers)
        case ast.AsyncWith():
            yield from read_block(flow, node, node.items, numbers)
        case ast.Return():
            yield from read_return(flow, node, numbers)
        case ast.Raise():
            yield read_raise(flow, node, numbers)
        case ast.Break() | ast.Continue():
            yield read_jump(flow, node)
        case _:
            read_forbidden(flow, node, numbers)


def _bare(flow: Flow, node: ast.expr, numbers: Numbers) -> Iterator[Node]:
    """Read an expression that stands alone: `assert_never(x)`, or a mistake."""
    body = flow.body
    if isinstance(node, ast.Call) and body.source.resolve(node.func) is typing.assert_never:
        flow.left = True
        yield Reject(
            place=body.place(node),
            position=numbers.next(),
            code="invalid-value",
            message="a value that no arm expects",
        )
        return
    before = len(body.refusals.findings)
    read_pure(body, node)
    if len(body.refusals.findings) == before:
        body.refuse("M004", node, f"the value of {shown(node)} goes nowhere", "give it a name, or leave it out")
