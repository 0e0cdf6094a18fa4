"""Names in pure expressions: variables, constants, fields."""

from __future__ import annotations

import ast
import types
from typing import Any

from minuet.contracts.step import Action
from minuet.workflows.reader import foreign
from minuet.workflows.reader.body import Body, ReadPure
from minuet.workflows.reader.pure.record import fields_of
from minuet.workflows.reader.pure.typed import POISON, Typed
from minuet.workflows.reader.pure.valuetype import (
    STR,
    AttemptType,
    EnumType,
    Opaque,
    RecordType,
    RejectedType,
    Unknown,
    describe,
    joined,
    raw_of,
    type_of_value,
    unwrapped,
)
from minuet.workflows.reader.scope import Partly
from minuet.workflows.reader.source import MISSING
from minuet.workflows.refusal import attribute_name, did_you_mean, shown


def read_constant(body: Body, node: ast.expr, value: Any) -> Typed:
    """Fold a constant in, if it is of a plain type."""
    t = type_of_value(value)
    if not isinstance(t, Opaque):
        is_raw, raw = raw_of(value)
        if is_raw:
            return Typed(("lit", raw), t, is_raw=not isinstance(raw, int))
    code, message, remedy = foreign.refusal_of(node, value)
    if code != "M004":
        return body.refuse(code, node, message, remedy)
    what = type(value).__name__
    if callable(value) or isinstance(value, types.ModuleType):
        return body.refuse(
            "M004", node, f"{shown(node)} is a {what}, not a value", "values are data; call it in an action"
        )
    return body.refuse(
        "M004",
        node,
        f"{shown(node)} is a {what}, which a plan cannot keep",
        "use a plain value, or return it from an action",
    )


def read_name(body: Body, node: ast.Name) -> Typed:
    """Read a name: of a lambda, of the workflow, or of a constant."""
    name = node.id
    if name in body.lambdas:
        return body.lambdas[name]
    if name in body.services:
        return body.refuse(
            "M012", node, f'the service "{name}" is used as a value: who does a step is known only at run time',
            f"write {name}.action(…) where it is to act; one arm per service",
        )  # fmt: skip
    if name in body.source.local_names and name not in body.source.closure:
        return _variable(body, node)
    value = body.source.meaning(name)
    if value is MISSING:
        return undefined(body, node, name)
    return read_constant(body, node, value)


def _variable(body: Body, node: ast.Name) -> Typed:
    binding = body.scope.lookup(node.id)
    if binding is None:
        return body.refuse("M011", node, f'"{node.id}" is not bound here yet', "give it a value before it is read")
    if isinstance(binding, Partly):
        remedy = "bind it on every way, or read it only where it is bound"
        if binding.site is not None:
            remedy = "read it where tried.rejected is known to be false, as after `if tried.rejected: … return`"
        return body.refuse("M011", node, f'"{node.id}" is not bound {binding.why}', remedy)
    return Typed(("var", node.id), binding.type)


def undefined(body: Body, node: ast.expr, name: str) -> Typed:
    """Refuse a name that means nothing at this point of the import."""
    if body.source.is_defined_below(name):
        return body.refuse(
            "M004",
            node,
            f'"{name}" is defined below this workflow, which is read before',
            "move it up, above the workflow",
        )
    return body.refuse("M004", node, f'"{name}" is not defined', "define or import it above the workflow")


def read_attribute(body: Body, node: ast.Attribute, read: ReadPure) -> Typed:
    """Read `value.field`, `tried.rejected`, or a constant of a module or a class."""
    value = body.source.resolve(node)
    if value is not MISSING:
        if isinstance(value, Action):
            return body.refuse(
                "M012", node, f"{shown(node)} is an action of a class, not of a service", "call it on a service"
            )
        return read_constant(body, node, value)
    root = body.source.resolve(node.value)
    if isinstance(root, types.ModuleType | type):
        known = [name for name in dir(root) if not name.startswith("_")]
        remedy = did_you_mean(node.attr, known, "define it there")
        return body.refuse("M004", node, f"{shown(node.value)} has no {node.attr}", remedy)
    if isinstance(node.value, ast.Name) and node.value.id in body.services and node.value.id not in body.lambdas:
        return body.refuse(
            "M012", node, f"{shown(node)} is used as a value: who does a step is known only at run time",
            "call it where it is to act, and await it",
        )  # fmt: skip
    if isinstance(node.value, ast.Name) and node.value.id not in body.lambdas:
        binding = body.scope.lookup(node.value.id)
        if binding is not None and not isinstance(binding, Partly) and isinstance(binding.type, AttemptType):
            if node.attr == "rejected":
                return Typed(("var", f"{node.value.id}.rejected"), RejectedType(binding.type.site))
            remedy = did_you_mean(node.attr, ["rejected"], f"ask {node.value.id}.rejected")
            return body.refuse("M004", attribute_name(node), f"an attempt has no {node.attr}", remedy)
    base = read(body, node.value)
    return _field(body, node, base)


def _field(body: Body, node: ast.Attribute, base: Typed) -> Typed:
    name, at = node.attr, attribute_name(node)
    t = unwrapped(base.type)
    match t:
        case Unknown():
            return POISON
        case RejectedType():
            if name == "code":
                return Typed(("field", base.expression, "code"), STR)
            return body.refuse(
                "M004", at, f"a rejection has no {name} here", "ask its code, or isinstance(…, CardDeclined)"
            )
        case EnumType(cls) if name == "value":
            kinds = (type_of_value(member.value) for member in cls)
            return Typed(base.expression, joined(kinds))
        case RecordType(cls):
            try:
                fields = fields_of(t)
            except (NameError, TypeError) as error:
                return body.refuse(
                    "M003",
                    node,
                    f"the types of the fields of {cls.__name__} are not known: {error}",
                    "define them above it",
                )
            if name in fields:
                field = fields[name]
                default = (field.default,) if field.is_settled and not field.is_required else ()
                return Typed(("field", base.expression, field.wire, *default), field.type)
            if hasattr(cls, name):
                kind = "method" if callable(getattr(cls, name)) else "property"
                return body.refuse(
                    "M004", at, f"{name} is a {kind} of {cls.__name__}, which only its own code can evaluate",
                    "return it from an action",
                )  # fmt: skip
            remedy = did_you_mean(name, fields, f"its fields are {', '.join(fields) or 'none'}")
            return body.refuse("M004", at, f"{cls.__name__} has no field {name}", remedy)
        case Opaque("Any"):
            return body.refuse(
                "M003", node, f"the type of {shown(node.value)} is Any", "annotate it with a message type"
            )
    return body.refuse(
        "M004",
        at,
        f"{shown(node)}: values of type {describe(t)} have no fields in a plan",
        "return it from an action",
    )
