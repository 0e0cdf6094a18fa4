"""Ways out: `return`, `raise`, `break` and `continue`; what follows them is not reached."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Final

from minuet.workflows.reader.argument import read_rejection
from minuet.workflows.reader.flow import Flow
from minuet.workflows.reader.position import Numbers
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.typed import Typed
from minuet.workflows.reader.pure.valuetype import NULL, AttemptType, RejectedType
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Break, Continue, Node, Reject, Return

_RAISE: Final = "raise a subclass of Rejection, or return a value"


def read_return(flow: Flow, node: ast.Return, numbers: Numbers) -> Iterator[Node]:
    """Read `return value`, where the value may be awaited."""
    body, value = flow.body, node.value
    _leave(flow, node, "return")
    place = body.place(node)
    if isinstance(value, ast.Await):
        out = body.hidden()
        yield flow.awaited(value.value, numbers, out)[0]
        yield Return(place=place, value=("var", out))
        return
    typed = Typed(("lit", None), NULL) if value is None else read_pure(body, value)
    if value is not None and isinstance(typed.type, AttemptType | RejectedType):
        body.refuse("M004", value, f"{shown(value)} stays inside the workflow", "return its code")
    yield Return(place=place, value=typed.expression)


def read_raise(flow: Flow, node: ast.Raise, numbers: Numbers) -> Reject:
    """Read `raise SoldOut("…")`."""
    body, raised = flow.body, node.exc
    flow.left = True
    arguments: list[ast.expr] = []
    keywords: list[ast.keyword] = []
    rejection = None
    if raised is None:
        body.refuse("M004", node, "raise without a rejection", _RAISE)
    elif isinstance(raised, ast.Call):
        arguments, keywords = raised.args, raised.keywords
        rejection = read_rejection(body, raised.func, raised, _RAISE)
    else:
        rejection = read_rejection(body, raised, raised, _RAISE)
    if node.cause is not None:
        body.refuse("M004", node.cause, "a rejection has no cause", "leave `from …` out")
    message = ""
    for number, argument in enumerate(arguments):
        match argument:
            case ast.Constant(value=str(text)) if number == 0:
                message = text
            case _:
                body.refuse("M004", argument, "the message of a rejection is part of the plan", "write it as text")
    if rejection is not None:
        body.rejections[rejection.code] = rejection
    for keyword in keywords:
        remedy = "reject in an action, which may give details"
        body.refuse("M004", keyword, "a rejection of a workflow has no details", remedy)
    return Reject(
        place=body.place(node),
        position=numbers.next(),
        code=rejection.code if rejection else "invalid-value",
        message=message,
    )


def read_jump(flow: Flow, node: ast.Break | ast.Continue) -> Node:
    """Read `break` or `continue`; the scope goes on behind the loop, or at its next round."""
    is_break = isinstance(node, ast.Break)
    _leave(flow, node, "break" if is_break else "continue")
    rounds = flow.rounds[-1]
    scope = flow.body.scope.copy()
    for assigned in flow.assigned[rounds.attempts :]:
        scope.assigned |= assigned
    (rounds.breaks if is_break else rounds.continues).append(scope)
    place = flow.body.place(node)
    return Break(place=place) if is_break else Continue(place=place)


def _leave(flow: Flow, node: ast.stmt, word: str) -> None:
    """Record that what follows is not reached; refused where branches still run beside it."""
    flow.left = True
    if flow.parallel:
        flow.body.refuse(
            "M015", node, f"{word} leaves while the other branches of {flow.parallel[-1]} still run",
            "let the branch give a value, and decide after the join",
        )  # fmt: skip
