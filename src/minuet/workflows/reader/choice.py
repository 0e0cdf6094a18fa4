"""Choices: `if` with its arms, and `at(service, condition)`, which is decided on the record."""

from __future__ import annotations

import ast

from minuet.workflows import words
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.flow import Flow
from minuet.workflows.reader.position import Numbers
from minuet.workflows.reader.pure.syntax import read_condition
from minuet.workflows.reader.pure.truth import known_attempts
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Choice


def read_choice(flow: Flow, node: ast.If, numbers: Numbers) -> Choice:
    """Read an `if`, with what its condition tells of attempts in each arm."""
    body, position = flow.body, numbers.next()
    test, decider = node.test, None
    if isinstance(test, ast.Call) and body.source.resolve(test.func) is words.at:
        test, decider = _decision(body, test)
    condition = read_condition(body, test)
    when_true, when_false = known_attempts(body, test)
    before = body.scope
    then, after_then = flow.arm(node.body, Numbers(f"{position}.then."), before.knowing(when_true), node)
    otherwise, after_else = flow.arm(node.orelse, Numbers(f"{position}.else."), before.knowing(when_false), node)
    arms = [
        (after_then, f"when line {node.lineno} takes its first arm"),
        (after_else, f"when line {node.lineno} takes the other arm"),
    ]
    flow.meet(arms, before)
    return Choice(
        place=body.place(node), position=position, condition=condition, then=then, otherwise=otherwise, at=decider
    )


def _decision(body: Body, node: ast.Call) -> tuple[ast.expr, str | None]:
    """Read `at(orders, condition)`: the condition, and the service that decides."""
    if len(node.args) != 2 or node.keywords:
        body.refuse("M004", node, "at(…) takes a service and a condition", "write at(orders, receipt.risk > 80)")
        return ast.copy_location(ast.Constant(value=False), node), None
    decider, condition = node.args
    if isinstance(decider, ast.Name) and decider.id in body.services:
        return condition, body.services[decider.id].name
    body.refuse("M012", decider, f"{shown(decider)} is no service of this workflow", "name the service that decides")
    return condition, None
