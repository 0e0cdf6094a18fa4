"""What msgspec lets pass and JSON on our wires does not: naive datetimes, NaN, integers beyond ±2⁵³.

A value is walked through together with the description of its type (`msgspec.inspect`), since only the type tells
whether a string of digits is an integer that was written as a string.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

from msgspec import inspect as describe

from minuet.contracts import pydantic_model
from minuet.errors import DeclarationError, InvalidPayload

SAFE_INTEGER = 2**53
"""The largest integer that a reader of JSON with floats only reads exactly (RFC 8259, section 6)."""

_BIG = re.compile(r"-?[1-9][0-9]{15,307}")
_RECORDS = (describe.StructType, describe.DataclassType, describe.TypedDictType, describe.NamedTupleType)
_Leaf = Callable[[Any, tuple[Any, ...], str], Any]


def leaves(info: Any) -> Iterator[Any]:
    """Give the descriptions of all plain types inside a type, each record once."""
    seen, todo = set[Any](), [info]
    while todo:
        one = todo.pop()
        if isinstance(one, describe.Metadata):
            todo.append(one.type)
        elif isinstance(one, _RECORDS):
            if one.cls not in seen:
                seen.add(one.cls)
                todo.extend(f.type for f in one.fields)
        elif isinstance(one, describe.UnionType):
            todo.extend(one.types)
        elif isinstance(one, describe.CollectionType):
            todo.append(one.item_type)
        elif isinstance(one, describe.TupleType):
            todo.extend(one.item_types)
        elif isinstance(one, describe.DictType):
            todo.extend((one.key_type, one.value_type))
        else:
            yield one


def check_type(info: Any) -> None:
    """Refuse a type with something inside that JSON cannot carry."""
    for leaf in leaves(info):
        if isinstance(leaf, describe.ExtType) or (
            isinstance(leaf, describe.CustomType) and not pydantic_model.is_model(leaf.cls)
        ):
            name = getattr(getattr(leaf, "cls", None), "__qualname__", None) or str(getattr(leaf, "cls", "ext"))
            raise DeclarationError(
                f"{name} is no type that JSON can carry",
                remedy="Use a dataclass, a msgspec.Struct, a Pydantic model, or plain types",
            )


def to_wire(value: Any, info: Any) -> Any:
    """Give what is to be written for a value whose datetimes and numbers are Python's own.

    Raises:
        InvalidPayload: a datetime without an offset, or a number that is not finite.
    """
    return _walk(value, info, "$", _leaf_to_wire)


def from_wire(value: Any, info: Any) -> Any:
    """Give a read JSON value with the integers that were written as strings."""
    return _walk(value, info, "$", _leaf_from_wire)


def check_scalar(value: Any, path: str) -> None:
    """Refuse a naive datetime, and a number that is not finite."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidPayload(
                f"the datetime {value.isoformat()} at {path} has no offset",
                remedy="Give it a time zone, as in datetime.now(timezone.utc)",
                path=path,
            )
    elif (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, Decimal) and not value.is_finite()
    ):
        raise InvalidPayload(
            f"the number at {path} is {value}, which JSON does not have", remedy="Use None, or reject", path=path
        )


def is_big(value: Any) -> bool:
    """Tell whether a value is an integer that is written as a string."""
    return type(value) is int and not -SAFE_INTEGER <= value <= SAFE_INTEGER


def _leaf_to_wire(value: Any, types: tuple[Any, ...], path: str) -> Any:
    check_scalar(value, path)
    if not is_big(value):
        return value
    if any(isinstance(t, describe.IntType) for t in types) and any(isinstance(t, describe.StrType) for t in types):
        raise InvalidPayload(
            f"the integer at {path} is beyond ±2⁵³, and would be read as the string that it is written as",
            remedy="Use a type that is not both an integer and a string",
            path=path,
        )
    return value if any(isinstance(t, describe.FloatType) for t in types) else str(value)


def _leaf_from_wire(value: Any, types: tuple[Any, ...], _: str) -> Any:
    if isinstance(value, str) and any(isinstance(t, describe.IntType) for t in types) and _BIG.fullmatch(value):
        number = int(value)
        return number if is_big(number) else value
    return value


def _walk(value: Any, info: Any, path: str, leaf: _Leaf) -> Any:
    while isinstance(info, describe.Metadata):
        info = info.type
    types = info.types if isinstance(info, describe.UnionType) else (info,)
    if isinstance(value, dict):
        return _walk_dict(value, types, path, leaf)
    if isinstance(value, (list, tuple, set, frozenset)):
        items = _item_types(types)
        return [_walk(v, items(i), f"{path}[{i}]", leaf) for i, v in enumerate(value)]
    return leaf(value, types, path)


def _walk_dict(value: dict[Any, Any], types: tuple[Any, ...], path: str, leaf: _Leaf) -> dict[Any, Any]:
    """Walk an object: a record by its fields' names on the wire, a map by its one type of values."""
    records = [t for t in types if isinstance(t, (*_RECORDS[:3],))]
    record = next((r for r in records if len(records) == 1 or _tagged(r, value)), None)
    if record is not None:
        fields = {getattr(f, "encode_name", f.name): f.type for f in record.fields}
        return {k: _walk(v, fields.get(k, _ANY), f"{path}.{k}", leaf) for k, v in value.items()}
    mapping = next((t for t in types if isinstance(t, describe.DictType)), None)
    value_type = _ANY if mapping is None else mapping.value_type
    for k in value:
        check_scalar(k, path)
    return {k: _walk(v, value_type, f"{path}.{k}", leaf) for k, v in value.items()}


def _tagged(record: Any, value: dict[Any, Any]) -> bool:
    tag_field = getattr(record, "tag_field", None)
    return tag_field is not None and value.get(tag_field) == record.tag


def _item_types(types: tuple[Any, ...]) -> Callable[[int], Any]:
    """Give the type of each item of an array."""
    for t in types:
        if isinstance(t, describe.CollectionType):
            return lambda _, t=t: t.item_type  # type: ignore[misc]
        if isinstance(t, describe.TupleType):
            return lambda i, t=t: t.item_types[i] if i < len(t.item_types) else _ANY  # type: ignore[misc]
        if isinstance(t, describe.NamedTupleType) or (isinstance(t, describe.StructType) and t.array_like):
            offset = 0 if getattr(t, "tag_field", None) is None else 1
            return lambda i, t=t, o=offset: t.fields[i - o].type if 0 <= i - o < len(t.fields) else _ANY  # type: ignore[misc]
    return lambda _: _ANY


_ANY = describe.AnyType()
