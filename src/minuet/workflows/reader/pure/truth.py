"""What is true: the truth of a value, and what a condition tells of the attempts before it."""

from __future__ import annotations

import ast

from minuet.contracts.action import Rejection
from minuet.workflows.expression import Expression
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.pure.typed import Typed, python_value
from minuet.workflows.reader.pure.valuetype import (
    BOOL,
    STR,
    AttemptType,
    EnumType,
    Opaque,
    RecordType,
    RejectedType,
    Scalar,
    unwrapped,
)
from minuet.workflows.reader.scope import Bound
from minuet.workflows.refusal import shown


def truth(body: Body, node: ast.expr, typed: Typed) -> Expression:
    """Give an expression that is truthy exactly when the Python value is."""
    t = unwrapped(typed.type)
    match t:
        case Scalar("date" | "datetime" | "time" | "uuid") | RecordType() | RejectedType():
            return ("compare", typed.expression, "isnot", ("lit", None))
        case EnumType(cls) if not issubclass(cls, str | int):
            return ("compare", typed.expression, "isnot", ("lit", None))
        case AttemptType():
            body.refuse("M004", node, f"{shown(node)} is an attempt, and always true", f"ask {shown(node)}.rejected")
        case Opaque(name):
            body.refuse(
                "M004",
                node,
                f"whether {shown(node)} ({name}) is true is not known here",
                "compare it, or ask an action",
            )
    return typed.expression if t in (BOOL, STR) else python_value(typed)


def known_attempts(body: Body, test: ast.expr) -> tuple[dict[int, bool], dict[int, bool]]:
    """Tell which attempts are known to be rejected or not, when a condition is true, and when it is false."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=inner):
            when_true, when_false = known_attempts(body, inner)
            return when_false, when_true
        case ast.BoolOp(op=operator, values=values):
            facts = [known_attempts(body, value) for value in values]
            if isinstance(operator, ast.And):
                return {site: known for true, _ in facts for site, known in true.items()}, {}
            return {}, {site: known for _, false in facts for site, known in false.items()}
        case ast.Compare(left=left, ops=[ast.Is() | ast.IsNot() as operator], comparators=[ast.Constant(value=None)]):
            when_true, when_false = known_attempts(body, left)
            return (when_false, when_true) if isinstance(operator, ast.Is) else (when_true, when_false)
        case ast.Call(func=ast.Name(id="isinstance"), args=[value, kind]):
            when_true, when_false = known_attempts(body, value)
            return when_true, when_false if body.source.resolve(kind) is Rejection else {}
        case ast.Attribute(value=ast.Name(id=name), attr="rejected") if name not in body.lambdas:
            binding = body.scope.lookup(name)
            if isinstance(binding, Bound) and isinstance(binding.type, AttemptType):
                return {binding.type.site: True}, {binding.type.site: False}
    return {}, {}
