"""The types that values of a workflow may have: a closed list, made from the annotations of the user's code.

They exist at import only: the reader uses them to say what an operation means, and where a raw JSON value must be
converted before it. A plan carries the conversions, never the user's classes.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime as dt
import enum
import functools
import types
import typing
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Union

import msgspec

from minuet.contracts.codec import codec_for
from minuet.errors import InvalidPayload


@dataclass(frozen=True, slots=True)
class Scalar:
    """A plain value: null, bool, int, float, str, decimal, datetime, date, time, duration, uuid, bytes."""

    name: str


@dataclass(frozen=True, slots=True)
class EnumType:
    """A member of an enumeration; on the wire it is its value."""

    cls: type[enum.Enum]


@dataclass(frozen=True, slots=True)
class ListType:
    """A list, a tuple of any length, or a set."""

    item: ValueType
    is_set: bool = False


@dataclass(frozen=True, slots=True)
class TupleType:
    """A tuple whose length is known."""

    items: tuple[ValueType, ...]


@dataclass(frozen=True, slots=True)
class MapType:
    """A dict whose keys are text."""

    value: ValueType


@dataclass(frozen=True, slots=True)
class RecordType:
    """A message type: a dataclass, a msgspec.Struct, a Pydantic model or a TypedDict."""

    cls: type
    arguments: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value or None."""

    inner: ValueType


@dataclass(frozen=True, slots=True)
class AttemptType:
    """What `async with attempt(…) as tried` binds; `site` tells one attempt from another."""

    site: int


@dataclass(frozen=True, slots=True)
class RejectedType:
    """`tried.rejected`: None, or the rejection with its code."""

    site: int


@dataclass(frozen=True, slots=True)
class Opaque:
    """A type that is passed on as it is, but not looked into; `name` is for messages."""

    name: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """What a refused expression has; it gives no second finding."""


ValueType = (
    Scalar
    | EnumType
    | ListType
    | TupleType
    | MapType
    | RecordType
    | OptionalType
    | AttemptType
    | RejectedType
    | Opaque
    | Unknown
)

NULL: Final = Scalar("null")
BOOL: Final = Scalar("bool")
INT: Final = Scalar("int")
FLOAT: Final = Scalar("float")
STR: Final = Scalar("str")
DECIMAL: Final = Scalar("decimal")
DATETIME: Final = Scalar("datetime")
DATE: Final = Scalar("date")
DURATION: Final = Scalar("duration")
UNKNOWN: Final = Unknown()

_SCALARS: Final[dict[Any, Scalar]] = {
    None: NULL,
    type(None): NULL,
    bool: BOOL,
    int: INT,
    float: FLOAT,
    str: STR,
    Decimal: DECIMAL,
    dt.datetime: DATETIME,
    dt.date: DATE,
    dt.time: Scalar("time"),
    dt.timedelta: DURATION,
    uuid.UUID: Scalar("uuid"),
    bytes: Scalar("bytes"),
}
_LISTS: Final = (list, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_SETS: Final = (set, frozenset, collections.abc.Set)
_MAPS: Final = (dict, collections.abc.Mapping)
_RAW_AS_THEY_ARE: Final = frozenset(("null", "bool", "float", "str"))


@functools.cache
def _cached(annotation: Any) -> ValueType:
    return _type_of(annotation)


def type_of(annotation: Any) -> ValueType:
    """Give the type of values that an annotation declares."""
    try:
        return _cached(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return _type_of(annotation)


def _type_of(annotation: Any) -> ValueType:
    if isinstance(annotation, typing.NewType):
        return type_of(annotation.__supertype__)
    if type(annotation).__name__ == "TypeAliasType":
        return type_of(annotation.__value__)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_of(arguments[0])
    if origin is typing.Literal:
        return joined(type_of(type(value)) for value in arguments)
    if origin is Union or origin is types.UnionType:
        return joined(map(type_of, arguments))
    if origin in (typing.Required, typing.NotRequired, typing.Final):
        return type_of(arguments[0])
    base = origin or annotation
    if base in _SCALARS:
        return _SCALARS[base]
    if base is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return ListType(type_of(arguments[0]))
        return TupleType(tuple(map(type_of, arguments))) if arguments else ListType(Opaque("Any"))
    if base in _LISTS or base in _SETS:
        return ListType(type_of(arguments[0]) if arguments else Opaque("Any"), is_set=base in _SETS)
    if base in _MAPS:
        if not arguments or type_of(arguments[0]) == STR:
            return MapType(type_of(arguments[1]) if arguments else Opaque("Any"))
        return Opaque(_name(annotation))
    if isinstance(base, type):
        if issubclass(base, enum.Enum):
            is_plain = all(isinstance(member.value, str | int) for member in base)
            return EnumType(base) if is_plain else Opaque(base.__name__)
        if _is_record(base):
            return RecordType(base, arguments)
    return Opaque(_name(annotation))


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")


def _is_record(cls: type) -> bool:
    if issubclass(cls, msgspec.Struct):
        return not cls.__struct_config__.array_like
    return dataclasses.is_dataclass(cls) or hasattr(cls, "__pydantic_fields__") or typing.is_typeddict(cls)


def raw_of(value: Any) -> tuple[bool, Any]:
    """Give (True, raw JSON) of a constant, or (False, None) where JSON cannot say it."""
    try:
        return True, msgspec.json.decode(codec_for(Any).encode(value))
    except InvalidPayload:
        return False, None


def type_of_value(value: Any) -> ValueType:
    """Give the type of a constant."""
    match value:
        case list() | set() | frozenset():
            items = [type_of_value(item) for item in value]
            return ListType(joined(items), is_set=not isinstance(value, list))
        case tuple():
            return TupleType(tuple(map(type_of_value, value)))
        case dict():
            if not all(isinstance(key, str) for key in value):
                return Opaque("dict")
            items = [type_of_value(item) for item in value.values()]
            return MapType(joined(items))
    return type_of(type(value))


def join(a: ValueType, b: ValueType) -> ValueType:
    """Give the type of a value that is of either type."""
    if a == b or isinstance(b, Unknown):
        return a
    match a, b:
        case Unknown(), _:
            return b
        case OptionalType(inner), _:
            return OptionalType(join(inner, b.inner if isinstance(b, OptionalType) else inner if b == NULL else b))
        case _, OptionalType(inner):
            return join(b, a)
        case (Scalar("null"), other) | (other, Scalar("null")):
            return other if isinstance(other, RejectedType) else OptionalType(other)
        case Scalar("bool" | "int" | "float" as x), Scalar("bool" | "int" | "float" as y):
            return FLOAT if "float" in (x, y) else INT
        case (Scalar("decimal"), Scalar("bool" | "int")) | (Scalar("bool" | "int"), Scalar("decimal")):
            return DECIMAL
        case ListType(x, s), ListType(y, t):
            return ListType(join(x, y), is_set=s or t)
        case (ListType(x), TupleType(items)) | (TupleType(items), ListType(x)):
            return ListType(joined((x, *items)))
        case TupleType(x), TupleType(y):
            if len(x) == len(y):
                return TupleType(tuple(map(join, x, y)))
            return ListType(joined((*x, *y)))
        case MapType(x), MapType(y):
            return MapType(join(x, y))
        case RecordType(x), RecordType(y):
            if issubclass(x, y):
                return b
            if issubclass(y, x):
                return a
    names = dict.fromkeys((*describe(a).split(" | "), *describe(b).split(" | ")))
    return Opaque(" | ".join(names))


def joined(types: Iterable[ValueType]) -> ValueType:
    """Give the type of a value that is of any of these types; unknown if there are none."""
    result: ValueType = UNKNOWN
    for t in types:
        result = join(result, t)
    return result


def conversion(t: ValueType) -> Any:
    """Give what an `as` node is to make of a raw value of this type, or None where raw is right."""
    match t:
        case Scalar("int"):
            return "bigint"
        case Scalar(name):
            return None if name in _RAW_AS_THEY_ARE else name
        case EnumType(cls):
            return "bigint" if issubclass(cls, int) else None
        case ListType(item):
            return None if (inner := conversion(item)) is None else ("list", inner)
        case MapType(value):
            return None if (inner := conversion(value)) is None else ("map", inner)
        case OptionalType(some):
            return None if (inner := conversion(some)) is None else ("optional", inner)
        case TupleType(items):
            inners = tuple(map(conversion, items))
            return None if all(inner is None for inner in inners) else ("tuple", inners)
    return None


def describe(t: ValueType) -> str:
    """Name a type for a message."""
    match t:
        case Scalar("null"):
            return "None"
        case Scalar(name):
            return name
        case EnumType(cls) | RecordType(cls):
            return cls.__name__
        case ListType(item, is_set):
            return f"{'set' if is_set else 'list'}[{describe(item)}]"
        case TupleType(items):
            return f"tuple[{', '.join(map(describe, items))}]"
        case MapType(value):
            return f"dict[str, {describe(value)}]"
        case OptionalType(inner):
            return f"{describe(inner)} | None"
        case AttemptType():
            return "an attempt"
        case RejectedType():
            return "a rejection"
        case Opaque(name):
            return name
        case Unknown():
            return "unknown"


def unwrapped(t: ValueType) -> ValueType:
    """Give what an optional value is when it is there."""
    return t.inner if isinstance(t, OptionalType) else t
