"""Arguments of steps, words and blocks: bound to names, and the kinds that several of them have."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from minuet.contracts.action import Rejection
from minuet.contracts.duration import milliseconds
from minuet.errors import DeclarationError
from minuet.workflows.expression import Expression, evaluate
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.pure.name import undefined
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.typed import Typed, python_value
from minuet.workflows.reader.pure.valuetype import DURATION, FLOAT, INT, Unknown, unwrapped
from minuet.workflows.reader.source import MISSING
from minuet.workflows.refusal import did_you_mean, shown


def bound_arguments(
    body: Body, call: ast.Call, name: str, parameters: Sequence[str], injected: Sequence[str] = ()
) -> dict[str, ast.expr] | None:
    """Bind the arguments of a call to names; None after a finding."""
    starred = [a.value for a in call.args if isinstance(a, ast.Starred)]
    starred += [k.value for k in call.keywords if k.arg is None]
    if starred:
        body.refuse("M004", starred[0], "arguments are unpacked with *", "write each argument")
        return None
    if len(call.args) > len(parameters):
        body.refuse(
            "M004",
            call.args[len(parameters)],
            f"{name}(…) takes {len(parameters)} arguments, not {len(call.args)}",
            "leave the others out",
        )
        return None
    given = dict(zip(parameters, call.args, strict=False))
    for keyword in call.keywords:
        key = str(keyword.arg)
        if key in injected:
            body.refuse("M004", keyword, f'"{key}" of {name}(…) is injected', "leave it out")
        elif key in given:
            body.refuse("M004", keyword, f'"{key}" of {name}(…) is given twice', "leave one out")
        elif key not in parameters:
            remedy = did_you_mean(key, parameters, f"it has {', '.join(parameters) or 'none'}")
            body.refuse("M004", keyword, f'{name}(…) has no parameter "{key}"', remedy)
        else:
            given[key] = keyword.value
    return given


def read_duration(body: Body, node: ast.expr) -> Expression:
    """Read a length of time: milliseconds as a whole number, or an expression that gives a duration."""
    typed = read_pure(body, node)
    t = unwrapped(typed.type)
    if typed.expression[0] == "lit" and t in (INT, FLOAT, DURATION):
        try:
            return ("lit", milliseconds(constant_value(typed), shown(node)))
        except DeclarationError as error:
            body.refuse("M004", node, *text_of(error))
    elif t == DURATION:
        return python_value(typed)
    elif t in (INT, FLOAT):
        return ("call", "round", ("mul", python_value(typed), ("lit", 1000)))
    elif not isinstance(t, Unknown):
        body.refuse("M004", node, f"{shown(node)} is no length of time", "give seconds, or a timedelta")
    return ("lit", 1)


def read_owner(body: Body, node: ast.expr | None) -> str | None:
    """Read `by=`: a service of this workflow."""
    match node:
        case None | ast.Constant(value=None):
            return None
        case ast.Name(id=name) if name in body.services:
            return body.services[name].name
    body.refuse("M012", node, f"by={shown(node)} is no service of this workflow", "name one of its services")
    return None


def read_text(body: Body, node: ast.expr | None) -> str | None:
    """Read the name of an orchestrator: text, or a constant of the module."""
    if node is None or (isinstance(node, ast.Constant) and node.value is None):
        return None
    if not (isinstance(node, ast.Name) and node.id in body.services):
        typed = read_pure(body, node)
        match typed.expression:
            case ("lit", str(text)):
                return text
        if isinstance(typed.type, Unknown):
            return None
    body.refuse("M004", node, f"by={shown(node)} names no orchestrator", 'write its name: by="desk"')
    return None


def read_rejection(body: Body, node: ast.expr, at: ast.expr, remedy: str) -> type[Rejection] | None:
    """Read the name of a declared rejection; None after a finding, which stands at another expression around it."""
    cls = body.source.resolve(node)
    if isinstance(cls, type) and issubclass(cls, Rejection) and cls is not Rejection:
        return cls
    if isinstance(node, ast.Name) and cls is MISSING and node.id not in body.source.local_names:
        undefined(body, node, node.id)
    else:
        body.refuse("M004", at, f"{shown(at)} is no declared rejection", remedy)
    return None


def known_count(typed: Typed) -> int | None:
    """Give a number from 1 that is known when the workflow is read; None for anything else."""
    match typed.expression:
        case ("lit", int(number)) if typed.type == INT and number >= 1:
            return number
    return None


def constant_value(typed: Typed) -> Any:
    """Give the value of a literal: a number, a text, a duration."""
    return evaluate(python_value(typed), _no_variable)


def text_of(error: Exception) -> tuple[str, str]:
    """Give the message and the remedy of a declaration's error as those of a finding."""
    if isinstance(error, DeclarationError):
        return error.message, (error.remedy[:1].lower() + error.remedy[1:]) or "correct it"
    return str(error), "correct it"


def _no_variable(name: Any) -> Any:
    raise LookupError(name)
