"""What is awaited: which module reads a step, a word or a call of another workflow; and what cannot be awaited."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from minuet.workflows import words
from minuet.workflows.reader.body import Body, nothing
from minuet.workflows.reader.called import Inline, is_recursion, read_called
from minuet.workflows.reader.parallel import read_each, read_together
from minuet.workflows.reader.pure.call import is_promise, is_workflow, refused_call
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.valuetype import Unknown, ValueType
from minuet.workflows.reader.step import read_step
from minuet.workflows.reader.wait import read_sleep, read_wait
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Node


def read_awaited(
    body: Body, node: ast.expr, position: str, out: str, inline: Inline, results: Sequence[str | None] = ()
) -> tuple[Node, ValueType]:
    """Read what is awaited as one node, which binds `out`, and give the type of its value.

    `results` are the names that the values of a `together` are unpacked to at once, where there are any.
    """
    if isinstance(node, ast.Call):
        if is_recursion(body, node):
            return nothing(body, node)
        if is_promise(body, node):
            return _promise(body, node, position, out, inline, results)
        refused_call(body, node, read_pure)
    elif isinstance(node, ast.Await):
        body.refuse("M009", node, f"{shown(node.value)} is awaited twice", "leave one await out")
    elif isinstance(node, ast.Lambda | ast.GeneratorExp):
        read_pure(body, node)
    elif not isinstance(read_pure(body, node).type, Unknown):
        body.refuse(
            "M009", node, f"{shown(node)} is awaited, but is no step",
            "await the call of an action, together(…), each(…), wait_for(…) or sleep(…)",
        )  # fmt: skip
    return nothing(body, node)


def _promise(
    body: Body, node: ast.Call, position: str, out: str, inline: Inline, results: Sequence[str | None]
) -> tuple[Node, ValueType]:
    """Read a call that gives something to await."""

    def branch(awaited: ast.expr, position: str, out: str) -> tuple[Node, ValueType]:
        if isinstance(awaited, ast.Await):
            what = f"{shown(awaited.value)} is awaited before its branch begins"
            body.refuse("M009", awaited, what, "leave the inner await out")
            return nothing(body, awaited)
        return read_awaited(body, awaited, position, out, inline)

    meaning = body.source.resolve(node.func)
    if meaning is words.together:
        return read_together(body, node, position, out, results, branch)
    if meaning is words.each:
        return read_each(body, node, position, out, branch)
    if meaning is words.wait_for:
        return read_wait(body, node, position, out)
    if meaning is words.sleep:
        return read_sleep(body, node, position, out)
    if is_workflow(meaning):
        return read_called(body, node, meaning, position, out, inline)
    return read_step(body, node, position, out)
