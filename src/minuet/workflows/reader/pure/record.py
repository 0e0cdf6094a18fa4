"""The fields of message types: of dataclasses, Structs, Pydantic models and TypedDicts alike."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from minuet.workflows.reader.pure.valuetype import UNKNOWN, RecordType, ValueType, raw_of, type_of

_NO_DEFAULT: Final = msgspec.NODEFAULT


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a message type. `default` is raw JSON; `is_settled` is False where a call would make it anew."""

    name: str
    wire: str
    is_required: bool
    type: ValueType = UNKNOWN
    is_settled: bool = True
    default: Any = None
    is_keyword_only: bool = False


@functools.cache
def fields_of(record: RecordType) -> dict[str, Field]:
    """Give the fields of a message type by their names, in the order in which they are declared."""
    cls = record.cls
    hints = typing.get_type_hints(cls, include_extras=True)
    bound = dict(zip(getattr(cls, "__parameters__", ()), record.arguments, strict=False))
    if issubclass(cls, msgspec.Struct):
        fields = _struct_fields(cls)
    elif dataclasses.is_dataclass(cls):
        fields = _dataclass_fields(cls)
    elif hasattr(cls, "__pydantic_fields__"):
        fields = _model_fields(cls)
    else:
        required: frozenset[str] = getattr(cls, "__required_keys__", frozenset())
        fields = [Field(name, name, is_required=name in required, is_settled=False) for name in hints]
    return {f.name: dataclasses.replace(f, type=type_of(_bound(hints.get(f.name, Any), bound))) for f in fields}


def _field(name: str, wire: str, default: Any, factory: Any, *, is_keyword_only: bool) -> Field:
    """Make a field, whose type comes later, from its default and its factory, of which at most one is there."""
    if default is _NO_DEFAULT and factory is _NO_DEFAULT:
        return Field(name, wire, is_required=True, is_keyword_only=is_keyword_only)
    if factory is not _NO_DEFAULT:
        if factory not in (list, dict, tuple, set, frozenset, str, int, float, bool):
            return Field(name, wire, is_required=False, is_settled=False, is_keyword_only=is_keyword_only)
        default = factory()
    is_raw, raw = raw_of(default)
    return Field(name, wire, is_required=False, is_settled=is_raw, default=raw, is_keyword_only=is_keyword_only)


def _struct_fields(cls: type[msgspec.Struct]) -> list[Field]:
    positional = inspect.signature(cls).parameters
    return [
        _field(
            f.name,
            f.encode_name,
            f.default,
            f.default_factory,
            is_keyword_only=positional[f.name].kind is inspect.Parameter.KEYWORD_ONLY,
        )
        for f in msgspec.structs.fields(cls)
    ]


def _dataclass_fields(cls: type) -> list[Field]:
    def given(value: Any) -> Any:
        return _NO_DEFAULT if value is dataclasses.MISSING else value

    return [
        _field(f.name, f.name, given(f.default), given(f.default_factory), is_keyword_only=f.kw_only is True)
        if f.init
        else Field(f.name, f.name, is_required=False, is_settled=False)
        for f in dataclasses.fields(cls)
    ]


def _model_fields(cls: Any) -> list[Field]:
    def given(field: Any) -> Any:
        return _NO_DEFAULT if field.is_required() or field.default_factory is not None else field.default

    return [
        _field(
            name,
            field.serialization_alias or field.alias or name,
            given(field),
            _NO_DEFAULT if field.default_factory is None else field.default_factory,
            is_keyword_only=True,
        )
        for name, field in cls.__pydantic_fields__.items()
    ]


def _bound(annotation: Any, arguments: dict[Any, Any]) -> Any:
    """Put the arguments of a generic type in the place of its type variables."""
    if isinstance(annotation, typing.TypeVar):
        return arguments.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if parameters and arguments:
        return annotation[tuple(arguments.get(p, p) for p in parameters)]
    return annotation
