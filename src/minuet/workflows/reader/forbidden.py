"""Statements that a plan cannot say, each with what to write instead; what stands inside of them is read still."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Final

from minuet.workflows.reader.flow import Flow
from minuet.workflows.reader.foreign import Refusal
from minuet.workflows.reader.position import Numbers
from minuet.workflows.reader.pure.call import is_promise
from minuet.workflows.reader.pure.syntax import read_condition
from minuet.workflows.refusal import shown

_SIGNS: Final[dict[type[ast.operator], str]] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip


def read_forbidden(flow: Flow, node: ast.stmt, numbers: Numbers) -> None:
    """Refuse a statement, and read on inside of it."""
    code, message, remedy = _refusal(node)
    at = node.items[0].context_expr if isinstance(node, ast.With) else node
    flow.body.refuse(code, at, message, remedy)
    _read_inside(flow, node, numbers)


def _refusal(node: ast.stmt) -> Refusal:
    match node:
        case ast.Try() | ast.TryStar():
            return "M006", "Python would enter the except before anything is compensated", "use async with attempt(…)"
        case ast.While():
            return "M007", "a loop needs a bound", "use for _ in range(n)"
        case ast.AsyncFor(iter=over):
            return "M008", f"async for goes over {shown(over)}", "use each(…, limit=), or range(n) with a bound"
        case ast.With(items=[ast.withitem(context_expr=entered), *_]):
            return "M004", f"{shown(entered)} would be entered by nobody", "move it into an action"
        case ast.AugAssign(target=ast.Name(id=name), op=operator, value=value):
            new = f"{name} = {name} {_SIGNS.get(type(operator), '+')} {shown(value)}"
            return "M010", f"{name} is changed in place, and values are facts", f"build a new one: {new}"
        case ast.AugAssign(target=target):
            return "M010", f"{shown(target)} is changed, and values are facts", "build a new one"
        case ast.Delete():
            return "M010", "del takes a name away, and values are facts", "leave it out"
        case ast.Global(names=names) | ast.Nonlocal(names=names):
            return "M010", f"{', '.join(names)} is changed outside of the workflow", "return the value instead"
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return "M013", f"{name} is a function inside a workflow", "name it as a workflow of its own and call it"
        case ast.ClassDef(name=name):
            return "M013", f"{name} is a class inside a workflow", "define it at the top of the module"
        case ast.Match(subject=subject):
            return "M004", f"match {shown(subject)} is not read", "write it as if/elif/else"
        case ast.Import() | ast.ImportFrom():
            return "M004", "an import inside a workflow", "import it at the top of the module"
        case ast.Assert():
            return "M004", "assert is executed by nobody", "raise a declared rejection: if not …: raise …"
    return "M004", f"{shown(node)} is not part of a plan", "leave it out"


def _read_inside(flow: Flow, node: ast.stmt, numbers: Numbers) -> None:
    match node:
        case ast.Try() | ast.TryStar():
            handlers = [statement for handler in node.handlers for statement in handler.body]
            names = [ast.Name(handler.name) for handler in node.handlers if handler.name]
            flow.read_on(names, [*node.body, *node.orelse, *handlers, *node.finalbody], numbers)
        case ast.While():
            read_condition(flow.body, node.test)
            with flow.loop():
                flow.read_on([], [*node.body, *node.orelse], numbers)
        case ast.AsyncFor():
            is_parallel = is_promise(flow.body, node.iter)
            with flow.beside(shown(node.iter)) if is_parallel else nullcontext(), flow.loop():
                flow.read_on([node.target], [*node.body, *node.orelse], numbers)
        case ast.With():
            kept = [item.optional_vars for item in node.items if item.optional_vars is not None]
            flow.read_on(kept, node.body, numbers)
        case ast.Match():
            names = [ast.Name(name) for case in node.cases for name in _captured(case.pattern)]
            flow.read_on(names, [statement for case in node.cases for statement in case.body], numbers)
        case ast.Import() | ast.ImportFrom():
            flow.read_on([ast.Name((a.asname or a.name).split(".")[0]) for a in node.names], [], numbers)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            flow.read_on([ast.Name(name)], [], numbers)


def _captured(pattern: ast.pattern) -> Iterator[str]:
    for child in ast.walk(pattern):
        match child:
            case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name
