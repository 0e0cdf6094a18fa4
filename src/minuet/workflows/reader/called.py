"""Calls of other workflows: read where they are called, as a part of the caller; in a circle they are refused."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from minuet.contracts.action import ServiceSpec
from minuet.workflows.reader.argument import bound_arguments
from minuet.workflows.reader.body import Body, nothing
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.valuetype import ValueType
from minuet.workflows.reader.source import MISSING, Definition
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Call, Node

Inline = Callable[[Body, Any, dict[str, ServiceSpec], str], tuple[Node, ValueType]]
"""Reads the body of another workflow: (caller, workflow, its services, prefix of its positions)."""


def read_called(
    body: Body, node: ast.Call, workflow: Any, position: str, out: str, inline: Inline
) -> tuple[Node, ValueType]:
    """Read the call of a workflow, with the services of this one that it is given."""
    inputs: dict[str, Any] = workflow.signature.inputs
    services: dict[str, Any] = workflow.signature.services
    given = bound_arguments(body, node, workflow.name, [*inputs, *services])
    if given is None:
        return nothing(body, node)
    for name in (*inputs, *services):
        if name not in given:
            body.refuse("M004", node, f'{workflow.name}(…) lacks "{name}"', f"give {name}=")
            return nothing(body, node)
    passed: dict[str, ServiceSpec] = {}
    for name in services:
        match given[name]:
            case ast.Name(id=own) if own in body.services:
                passed[name] = body.services[own]
            case other:
                body.refuse(
                    "M012",
                    other,
                    f"{name}={shown(other)} is no service of this workflow",
                    "pass one of its services",
                )
                return nothing(body, node)
    arguments = tuple((name, read_pure(body, given[name]).expression) for name in inputs)
    read, kind = inline(body, workflow, passed, f"{position}.")
    call = Call(
        place=body.place(node),
        position=position,
        workflow=workflow.name,
        arguments=arguments,
        body=read,
        out=out,
    )
    return call, kind


def is_recursion(body: Body, node: ast.Call) -> bool:
    """Refuse a call of the workflow that is being read, or of one that is defined later."""
    if not isinstance(node.func, ast.Name) or node.func.id in body.source.local_names - body.source.closure.keys():
        return False
    source, name = body.source, node.func.id
    own = source.node.name
    remedy = "child(…), a run of its own, is not yet part of Minuet; make the repetition a loop: for _ in range(n)"
    if name == own:
        body.refuse("M017", node, f"{own} calls itself", remedy)
        return True
    if source.meaning(name) is not MISSING:
        return False
    below = source.definition_below(name)
    if below is None:
        return False
    if _reaches(source.definition_below, below, own, set()):
        body.refuse("M017", node, f"{own} and {name} call each other", remedy)
    else:
        body.refuse(
            "M017", node, f'"{name}" is defined below {own}, which is read before', f"move {name} up, above {own}"
        )
    return True


def _reaches(find: Callable[[str], Definition | None], node: Definition, goal: str, seen: set[str]) -> bool:
    """Tell whether a function of the file calls another one, by way of others or directly."""
    seen.add(node.name)
    for child in ast.walk(node):
        match child:
            case ast.Call(func=ast.Name(id=name)):
                if name == goal:
                    return True
                if name not in seen and (inner := find(name)) is not None and _reaches(find, inner, goal, seen):
                    return True
    return False
