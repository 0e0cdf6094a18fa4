"""Constructors in pure expressions: `Packing(hold, address)` as a record, `Decimal("9")` as a literal."""

from __future__ import annotations

import ast
import datetime as dt
import uuid
from decimal import Decimal
from typing import Any, Final

import msgspec

from minuet.workflows.expression import Expression
from minuet.workflows.reader.body import Body, ReadPure
from minuet.workflows.reader.pure import operation
from minuet.workflows.reader.pure.record import Field, fields_of
from minuet.workflows.reader.pure.typed import POISON, Typed
from minuet.workflows.reader.pure.valuetype import (
    DECIMAL,
    DURATION,
    INT,
    STR,
    RecordType,
    Unknown,
    describe,
    raw_of,
    type_of,
)
from minuet.workflows.refusal import did_you_mean, shown

_SCALARS: Final = (
    Decimal,
    dt.datetime,
    dt.date,
    dt.time,
    dt.timedelta,
    uuid.UUID,
)
_UNITS: Final = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds")


def is_constructor(cls: type) -> bool:
    """Tell whether calling a class makes a value that a plan can say."""
    return cls in _SCALARS or isinstance(type_of(cls), RecordType)


def construct(body: Body, node: ast.Call, cls: type, read: ReadPure) -> Typed:
    """Read a call of such a class; its arguments are known to be unpacked from nothing."""
    if cls in _SCALARS:
        return _scalar(body, node, cls, read)
    return _record(body, node, cls, read)


def _scalar(body: Body, node: ast.Call, cls: type, read: ReadPure) -> Typed:
    arguments = [_zone(body, argument) or read(body, argument) for argument in node.args]
    keywords = {str(k.arg): _zone(body, k.value) or read(body, k.value) for k in node.keywords}
    values = [value for value in (*arguments, *keywords.values()) if isinstance(value, Typed)]
    if any(isinstance(value.type, Unknown) for value in values):
        return POISON
    if all(value.expression[0] == "lit" for value in values):
        return _folded(body, node, cls, [*map(_plain, arguments)], {k: _plain(v) for k, v in keywords.items()})
    if cls is Decimal and len(values) == len(node.args) == 1:
        (value,) = values
        match operation.plain(value.type):
            case t if t in (DECIMAL, INT):
                return Typed(("as", "decimal", value.expression), DECIMAL, is_raw=False)
            case t if t == STR:
                return Typed(("as", "decimal", ("call", "str", value.expression)), DECIMAL, is_raw=False)
    if cls is dt.timedelta and not arguments and set(keywords) <= set(_UNITS):
        return _duration(body, node, {unit: value for unit, value in keywords.items() if isinstance(value, Typed)})
    return body.refuse(
        "M004", node, f"{shown(node)} is built from values that are known only at run time", "return it from an action"
    )


def _zone(body: Body, node: ast.expr) -> dt.tzinfo | None:
    """Give a time zone that a constant names: it is no value of its own, but a part of one."""
    value = body.source.resolve(node)
    return value if isinstance(value, dt.tzinfo) else None


def _plain(argument: Typed | dt.tzinfo) -> Any:
    return argument.expression[1] if isinstance(argument, Typed) else argument


def _folded(body: Body, node: ast.Call, cls: type, arguments: list[Any], keywords: dict[str, Any]) -> Typed:
    """Build a constant at import."""
    if cls is Decimal and any(isinstance(argument, float) for argument in arguments):
        return body.refuse("M004", node, "a Decimal is made from a float", 'write the number as Decimal("…")')
    try:
        value = cls(*arguments, **keywords)
    except (TypeError, ValueError, ArithmeticError) as error:
        return body.refuse("M004", node, f"{shown(node)} cannot be built: {error}", "correct its arguments")
    is_raw, raw = raw_of(value)
    if not is_raw:
        remedy = "give it a time zone: tzinfo=UTC" if isinstance(value, dt.datetime) else "use a finite value"
        return body.refuse("M004", node, f"{shown(node)} has no form in JSON", remedy)
    return Typed(("lit", raw), type_of(cls))


def _duration(body: Body, node: ast.Call, keywords: dict[str, Typed]) -> Typed:
    """Read `timedelta(days=order.days)` as a multiple of one day."""
    total: Expression | None = None
    for unit, value in keywords.items():
        if operation.plain(value.type) != INT:
            problem = f"{unit}= is of type {describe(value.type)}"
            return body.refuse("M004", node, problem, "give a whole number, or return the duration from an action")
        _, one = raw_of(dt.timedelta(**{unit: 1}))
        part: Expression = ("mul", ("as", "duration", ("lit", one)), ("as", "bigint", value.expression))
        total = part if total is None else ("add", total, part)
    assert total is not None
    return Typed(total, DURATION, is_raw=False)


def _record(body: Body, node: ast.Call, cls: type, read: ReadPure) -> Typed:
    record = type_of(cls)
    assert isinstance(record, RecordType)
    try:
        fields = fields_of(record)
    except (NameError, TypeError) as error:
        return body.refuse(
            "M003", node, f"the types of the fields of {cls.__name__} are not known: {error}", "define them above it"
        )
    if "__init__" in vars(cls) and not _is_generated(cls):
        return body.refuse("M004", node, f"{cls.__name__} has a constructor of its own", "build it in an action")
    given = _given(body, node, cls, fields, read)
    if given is None:
        return POISON
    pairs: list[tuple[str, Expression]] = list(_tag(cls))
    for name, field in fields.items():
        if name in given:
            pairs.append((field.wire, given[name].expression))
        elif field.is_required:
            return body.refuse("M004", node, f"{cls.__name__}(…) lacks {name}", "give it")
        elif field.is_settled:
            pairs.append((field.wire, ("lit", field.default)))
        elif not hasattr(cls, "__required_keys__"):  # a key of a TypedDict may be left out
            return body.refuse(
                "M005", node, f"the default of {cls.__name__}.{name} is made anew at each call", f"give {name}="
            )
    return Typed(("record", tuple(pairs)), record)


def _is_generated(cls: Any) -> bool:
    """Tell whether a class's constructor follows from its fields."""
    parameters = getattr(cls, "__dataclass_params__", None)
    return bool(parameters.init) if parameters is not None and "__dataclass_params__" in vars(cls) else False


def _given(body: Body, node: ast.Call, cls: type, fields: dict[str, Field], read: ReadPure) -> dict[str, Typed] | None:
    """Bind the arguments of a call to the fields of a record; None after a finding."""
    positional = [name for name, field in fields.items() if not field.is_keyword_only]
    if len(node.args) > len(positional):
        body.refuse(
            "M004", node, f"{cls.__name__}(…) takes {len(positional)} positional arguments", "give them by name"
        )
        return None
    given = {name: read(body, argument) for name, argument in zip(positional, node.args, strict=False)}
    for keyword in node.keywords:
        name = str(keyword.arg)
        if name not in fields:
            remedy = did_you_mean(name, fields, f"its fields are {', '.join(fields) or 'none'}")
            body.refuse("M004", keyword.value, f"{cls.__name__} has no field {name}", remedy)
            return None
        given[name] = read(body, keyword.value)
    return given


def _tag(cls: type) -> list[tuple[str, Expression]]:
    """Give the field by which a union knows a tagged Struct."""
    if issubclass(cls, msgspec.Struct) and cls.__struct_config__.tag is not None:
        return [(str(cls.__struct_config__.tag_field), ("lit", cls.__struct_config__.tag))]
    return []
