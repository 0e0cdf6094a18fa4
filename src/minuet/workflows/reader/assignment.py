"""Assignments: what a name is bound to, also where a value is unpacked to several."""

from __future__ import annotations

import ast
from collections.abc import Generator, Iterator, Sequence

from minuet.workflows.expression import variables
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.flow import Flow
from minuet.workflows.reader.position import Numbers
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.typed import Typed, element_of_tuple
from minuet.workflows.reader.pure.valuetype import (
    UNKNOWN,
    AttemptType,
    Opaque,
    RejectedType,
    TupleType,
    Unknown,
    describe,
    type_of,
    unwrapped,
)
from minuet.workflows.reader.source import MISSING
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Let, Node, Par


def read_assignment(
    flow: Flow, targets: Sequence[ast.expr], value: ast.expr, numbers: Numbers, annotation: ast.expr | None = None
) -> Iterator[Node]:
    """Read an assignment, of something pure or of what is awaited."""
    body = flow.body
    first, *others = targets
    if isinstance(value, ast.Await):
        yield from _awaited(flow, first, value.value, numbers, annotation)
    elif isinstance(first, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
        yield from _pairwise(body, first, value)
    else:
        typed = read_pure(body, value)
        if isinstance(typed.type, AttemptType | RejectedType):
            body.refuse("M004", value, f"{shown(value)} is given another name", "ask tried.rejected where it is needed")
        yield from _unpacked(body, first, _declared(body, typed, annotation))
    for other in others:
        yield from _unpacked(body, other, read_pure(body, first))


def _awaited(
    flow: Flow, target: ast.expr, awaited: ast.expr, numbers: Numbers, annotation: ast.expr | None
) -> Iterator[Node]:
    """Bind the value of what is awaited."""
    body = flow.body
    if isinstance(target, ast.Name) and target.id != "_":
        node, kind = flow.awaited(awaited, numbers, target.id)
        yield node
        body.bind(target, _declared(body, Typed(("var", target.id), kind), annotation).type)
        return
    out, names = body.hidden(), _plain_names(target)
    node, kind = flow.awaited(awaited, numbers, out, names)
    yield node
    if names and isinstance(node, Par) and isinstance(kind, TupleType) and len(names) == len(kind.items):
        assert isinstance(target, ast.Tuple | ast.List)
        for element, name, item in zip(target.elts, names, kind.items, strict=True):
            if name is not None:
                body.bind(element, item)
        return
    yield from _unpacked(body, target, Typed(("var", out), kind))


def _plain_names(target: ast.expr) -> list[str | None]:
    """Give the names of `a, b = …`; None for a name that is not kept; nothing for any other target."""
    if not isinstance(target, ast.Tuple | ast.List):
        return []
    names = [element.id if isinstance(element, ast.Name) else "" for element in target.elts]
    if "" in names:
        return []
    return [None if name == "_" or name in names[i + 1 :] else name for i, name in enumerate(names)]


def _declared(body: Body, typed: Typed, annotation: ast.expr | None) -> Typed:
    """Give an annotated value the type that its annotation says."""
    if annotation is None or isinstance(typed.type, Unknown):
        return typed
    text = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    declared = body.source.annotation(text)
    if declared is MISSING:
        body.refuse(
            "M003", annotation, f"the type {shown(annotation)} is not known where the workflow is read",
            "define or import it above the workflow",
        )  # fmt: skip
        return typed
    kind = type_of(declared)
    if kind == Opaque("Any"):
        body.refuse("M003", annotation, "the annotation Any says nothing", "leave it out, or name a type")
        return typed
    return Typed(typed.expression, kind, is_raw=True)


def _pairwise(body: Body, target: ast.Tuple | ast.List, value: ast.Tuple | ast.List) -> Iterator[Node]:
    """Read `a, b = b, a`: all values first, then all names."""
    if len(target.elts) != len(value.elts) or any(isinstance(e, ast.Starred) for e in (*target.elts, *value.elts)):
        body.refuse("M004", target, "the two sides differ in length", "write one value for each name")
        return
    values = [read_pure(body, element) for element in value.elts]
    names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    for number, typed in enumerate(values):
        if names & variables(typed.expression):
            values[number] = yield from _kept(body, value.elts[number], typed)
    for element, typed in zip(target.elts, values, strict=True):
        yield from _unpacked(body, element, typed)


def _unpacked(body: Body, target: ast.expr, typed: Typed) -> Iterator[Node]:
    """Bind a value to a name, or its elements to several."""
    match target:
        case ast.Name(id=name):
            if body.bind(target, typed.type):
                yield Let(place=body.place(target), name=name, value=typed.expression)
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            yield from _elements(body, target, elements, typed)
        case ast.Attribute() | ast.Subscript():
            body.refuse("M010", target, f"{shown(target)} is changed, and values are facts", "build a new one")
        case _:
            body.refuse("M004", target, f"{shown(target)} takes what is left over", "name each element")


def _elements(body: Body, target: ast.expr, elements: Sequence[ast.expr], typed: Typed) -> Iterator[Node]:
    kind = unwrapped(typed.type)
    if isinstance(kind, TupleType) and len(kind.items) == len(elements):
        if typed.expression[0] != "var":
            typed = yield from _kept(body, target, typed)
        for number, element in enumerate(elements):
            yield from _unpacked(body, element, element_of_tuple(typed, number))
        return
    if not isinstance(kind, Unknown):
        has = f"has {len(kind.items)} elements" if isinstance(kind, TupleType) else "has no known length"
        remedy = "write one name for each" if isinstance(kind, TupleType) else "take its elements by index: xs[0]"
        body.refuse("M004", target, f"{describe(kind)} {has}, not {len(elements)}", remedy)
    body.bind_all(target, UNKNOWN)


def _kept(body: Body, at: ast.expr, typed: Typed) -> Generator[Node, None, Typed]:
    """Keep a value under a name of ours, because the names that it is made of are about to change or to be many."""
    hidden = body.hidden()
    yield Let(place=body.place(at), name=hidden, value=typed.expression)
    return Typed(("var", hidden), typed.type)
