"""Which operations there are on which types, and what they give."""

from __future__ import annotations

import enum
import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

from minuet.workflows.expression import is_wide
from minuet.workflows.reader.pure.valuetype import (
    BOOL,
    DATE,
    DATETIME,
    DECIMAL,
    DURATION,
    FLOAT,
    INT,
    STR,
    UNKNOWN,
    AttemptType,
    EnumType,
    ListType,
    MapType,
    Opaque,
    RecordType,
    RejectedType,
    Scalar,
    TupleType,
    Unknown,
    ValueType,
    describe,
    join,
    joined,
    unwrapped,
)

_WHOLE: Final = ("bool", "int")
_NUMBERS: Final = ("bool", "int", "float")
_INSTANTS: Final = ("date", "datetime")
_PORTABLE_DIRECTIVES: Final = re.compile(r"(?:[^%]|%[YmdHMSfjz%])*")
_SAMPLES: Final[dict[ValueType, Any]] = {
    BOOL: True,
    INT: 1,
    FLOAT: 1.0,
    DECIMAL: Decimal(1),
    STR: "",
    DATE: date(2000, 1, 1),
    DATETIME: datetime(2000, 1, 1, tzinfo=UTC),
    Scalar("time"): time(),
}
"""A value of each type that has formats."""


def plain(t: ValueType) -> ValueType:
    """Give the type that an operation sees: without None, and the value behind an `IntEnum` or a `StrEnum`."""
    t = unwrapped(t)
    if isinstance(t, EnumType):
        return INT if issubclass(t.cls, int) else STR if issubclass(t.cls, str) else t
    return t


def calculated(operator: str, a: ValueType, b: ValueType) -> ValueType | None:
    """Give the type of `a operator b`, or None where there is no such operation."""
    a, b = plain(a), plain(b)
    match a, operator, b:
        case (Unknown(), _, _) | (_, _, Unknown()):
            return UNKNOWN
        case Scalar(x), _, Scalar(y) if x in _NUMBERS and y in _NUMBERS:
            return FLOAT if operator == "div" or "float" in (x, y) else INT
        case Scalar("decimal"), _, Scalar(other) if other == "decimal" or other in _WHOLE:
            return DECIMAL
        case Scalar(other), _, Scalar("decimal") if other in _WHOLE:
            return DECIMAL
        case Scalar("str"), "add", Scalar("str"):
            return STR
        case (Scalar("str"), "mul", Scalar(n)) | (Scalar(n), "mul", Scalar("str")) if n in _WHOLE:
            return STR
        case ListType(x, False), "add", ListType(y, False):
            return ListType(join(x, y))
        case TupleType(x), "add", TupleType(y):
            return TupleType((*x, *y))
        case (ListType(_, False), "mul", Scalar(n)) | (Scalar(n), "mul", ListType(_, False)) if n in _WHOLE:
            return a if isinstance(a, ListType) else b
        case Scalar("duration"), _, Scalar("duration"):
            return {"add": DURATION, "sub": DURATION, "div": FLOAT, "floordiv": INT, "mod": DURATION}.get(operator)
        case Scalar(instant), "add" | "sub", Scalar("duration") if instant in _INSTANTS:
            return a
        case Scalar("duration"), "add", Scalar(instant) if instant in _INSTANTS:
            return b
        case Scalar("date" | "datetime"), "sub", _ if a == b:
            return DURATION
        case Scalar("duration"), "mul" | "div", Scalar(n) if n in _NUMBERS:
            return DURATION
        case Scalar("duration"), "floordiv", Scalar(n) if n in _WHOLE:
            return DURATION
        case Scalar(n), "mul", Scalar("duration") if n in _NUMBERS:
            return DURATION
    return None


def calculation_problem(sign: str, a: ValueType, b: ValueType) -> tuple[str, str]:
    """Say what is wrong with a calculation that does not exist, and what to do."""
    kinds = {plain(a), plain(b)}
    if kinds == {DECIMAL, FLOAT}:
        return "a Decimal is mixed with a float", 'write the number as Decimal("…")'
    if sign == "%" and STR in kinds:
        return "text is formatted with %", "use an f-string"
    return f"{describe(a)} {sign} {describe(b)} is no pure operation", "calculate it in an action, and return it"


def equality_problem(a: ValueType, b: ValueType) -> tuple[str, str] | None:
    """Say why two values cannot be compared for equality, and what to do; None if they can."""
    a, b = plain(a), plain(b)
    none = Scalar("null")
    if isinstance(a, Unknown) or isinstance(b, Unknown) or none in (a, b):
        return None
    if isinstance(a, RecordType) or isinstance(b, RecordType):
        return f"{describe(a)} == {describe(b)} compares whole records", "compare their fields"
    match a, b:
        case (Opaque(), _) | (_, Opaque()) | (AttemptType() | RejectedType(), _) | (_, AttemptType() | RejectedType()):
            return f"{describe(a)} and {describe(b)} are not compared here", "compare them in an action"
        case Scalar(x), Scalar(y):
            if {x, y} == {"decimal", "float"}:
                return "a Decimal is compared with a float", 'write the number as Decimal("…")'
            if x == y or (x in (*_NUMBERS, "decimal") and y in (*_NUMBERS, "decimal")):
                return None
        case EnumType(x), EnumType(y) if x is y:
            return None
        case EnumType(x), Scalar() | EnumType():
            return f"{describe(a)} is never equal to {describe(b)}", f"compare with a member of {x.__name__}"
        case Scalar(), EnumType(y):
            return f"{describe(a)} is never equal to {describe(b)}", f"compare with a member of {y.__name__}"
        case ListType(_, True), _:
            return "sets are compared", "compare sorted(…) of both"
        case ListType(x), ListType(y, False):
            return equality_problem(x, y)
        case MapType(x), MapType(y):
            return equality_problem(x, y)
        case TupleType(x), TupleType(y):
            return next(filter(None, map(equality_problem, x, y)), None)
    return f"{describe(a)} is never equal to {describe(b)}", "compare values of one type"


def order_problem(a: ValueType, b: ValueType) -> tuple[str, str] | None:
    """Say why two values have no order, and what to do; None if they have."""
    a, b = plain(a), plain(b)
    if problem := equality_problem(a, b):
        return problem
    for t in (a, b):
        if t == Scalar("null") or isinstance(t, MapType | EnumType):
            return f"{describe(t)} has no order", "compare something that has one"
        if isinstance(t, ListType) and (problem := order_problem(t.item, t.item)):
            return problem
        if isinstance(t, TupleType) and (problem := next(filter(None, map(order_problem, t.items, t.items)), None)):
            return problem
    return None


def text_problem(t: ValueType) -> tuple[str, str] | None:
    """Say why a value has no text of its own that is the same everywhere; None if it has."""
    t = unwrapped(t)
    match t:
        case Unknown():
            return None
        case Scalar("bytes"):
            return "bytes have no text", "return the text from an action"
        case Scalar():
            return None
        case EnumType(cls):
            if issubclass(cls, enum.StrEnum | enum.IntEnum):
                return None
            return f"{cls.__name__} shows as its name, which does not travel", "take .value"
    return (
        f"{describe(t)} has no text that is the same everywhere",
        "take a field of it, or return the text from an action",
    )


def is_number(t: ValueType) -> bool:
    """Tell whether sums, signs and absolute values exist for a type."""
    return isinstance(t := plain(t), Unknown) or t in (Scalar("bool"), INT, FLOAT, DECIMAL)


def element_of(t: ValueType) -> ValueType | None:
    """Give the type of what a comprehension goes through, or None where there is nothing, or no order."""
    match unwrapped(t):
        case Unknown():
            return UNKNOWN
        case ListType(item, is_set):
            return None if is_set else item
        case TupleType(items):
            return joined(items)
        case MapType():
            return STR
    return None


def comparison_problem(sign: str, left: ValueType, right: ValueType) -> tuple[str, str] | None:
    """Say why two values are not compared like this, and what to do; None if they are."""
    match sign:
        case "is" | "isnot":
            return None
        case "eq" | "ne":
            return equality_problem(left, right)
        case "in" | "notin":
            container = plain(right)
            match container:
                case Unknown():
                    return None
                case ListType(item):
                    return equality_problem(left, item)
                case TupleType(items):
                    problems = (equality_problem(left, item) for item in items)
                    return next((problem for problem in problems if problem), None)
                case MapType() | Scalar("str"):
                    if plain(left) in (STR, UNKNOWN):
                        return None
            return f"{describe(left)} in {describe(right)} is no pure operation", "ask an action"
    return order_problem(left, right)


def called(name: str, arguments: list[ValueType]) -> ValueType | None:
    """Give the type of a call, or None where there is no such call."""
    kinds = [plain(argument) for argument in arguments]
    match name, kinds:
        case "len", [ListType(_, is_set)]:
            return None if is_set else INT
        case "len", [TupleType() | MapType() | Scalar("str" | "bytes")]:
            return INT
        case (("any" | "all" | "sorted" | "min" | "max" | "sum"), [ListType(item) | MapType(item), *rest]):
            element = STR if isinstance(kinds[0], MapType) else item
            return _result_over(name, element, rest)
        case (("any" | "all" | "sorted" | "min" | "max" | "sum"), [TupleType() as items, *rest]) if len(kinds) == 1:
            element = element_of(items) or UNKNOWN
            return _result_over(name, element, rest)
        case (("min" | "max"), [first, second, *rest]):
            if any(order_problem(first, other) for other in (second, *rest)):
                return None
            return joined(arguments)
        case "abs", [Scalar("duration")]:
            return kinds[0]
        case "abs", [number] if is_number(number):
            return INT if number == BOOL else number
        case "round", [number] if is_number(number):
            return INT
        case "round", [number, digits] if is_number(number) and digits in (INT, BOOL):
            return INT if number == BOOL else number
        case "str", [_]:
            return STR
        case "bool", [_]:
            return BOOL
        case "int", [Scalar("str" | "bool" | "int" | "float" | "decimal")]:
            return INT
        case "float", [Scalar("str" | "bool" | "int" | "float" | "decimal")]:
            return FLOAT
    return None


def _result_over(name: str, element: ValueType, rest: list[ValueType]) -> ValueType | None:
    """Give the type of a function over the elements of a list."""
    match name:
        case "any" | "all":
            return None if rest else BOOL
        case "sorted" if not rest and order_problem(element, element) is None:
            return ListType(element)
        case "min" | "max" if not rest and order_problem(element, element) is None:
            return element
        case "sum" if is_number(element) and len(rest) <= 1:
            total = join(INT, plain(element))
            if rest:
                return calculated("add", rest[0], total)
            return total if not isinstance(total, Unknown) else INT
        case "sum" if rest == [element] == [Scalar("duration")]:
            return element
    return None


def format_problem(spec: str, t: ValueType) -> tuple[str, str] | None:
    """Say why values of a type cannot be formatted like this."""
    if is_wide(spec):
        return f'the format "{spec}" is too wide', "give a smaller width"
    sample = _SAMPLES.get(t)
    if isinstance(sample, date | time):
        is_portable = _PORTABLE_DIRECTIVES.fullmatch(spec) is not None
        return None if is_portable else (f'the format "{spec}" differs from place to place', "use %Y %m %d %H %M %S")
    if spec.endswith("n"):
        return f'the format "{spec}" asks the locale, which differs', 'use "," or "_"'
    try:
        format(sample, spec)
    except (TypeError, ValueError) as error:
        return f'the format "{spec}" does not fit {describe(t)}: {error}', "use one that fits"
    return None
