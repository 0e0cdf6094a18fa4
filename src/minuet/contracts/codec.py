"""One codec for each type of payload: type to bytes, bytes to type, and its JSON Schema.

Everything is JSON, and is decoded once, straight into the annotated type: the data never chooses the type. msgspec
does the work, for dataclasses, Structs, TypedDicts, NamedTuples and the plain types; a Pydantic model is called
through its own validator. On the wire, whatever the type:

* `Decimal`, and integers beyond ±2⁵³ (which readers with floats would round), are strings;
* datetimes carry an offset: a naive one is refused, in both directions;
* there is no NaN and no infinity;
* bytes are base64, durations ISO 8601.

The naive datetimes, the numbers and the big integers are not in msgspec. To ask every value would cost more than
to encode it, so the *bytes* are searched for what such a value would look like; that is quick, and hardly ever
finds anything. Only then the value is walked through (`contracts.exact`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Generic, TypeVar, overload

import msgspec
from msgspec import inspect as describe

from minuet.contracts import exact, pydantic_model
from minuet.contracts.schema import schema_of
from minuet.errors import DeclarationError, InvalidPayload

T = TypeVar("T")
Search = Callable[[bytes], Any]

_PATH = re.compile(r"(.*) - at `(?:\w+` in `)?(\$[^`]*)`", re.DOTALL)
_BIG_INTEGER = re.compile(rb"[:,\[]-?[0-9]{16}").search
_SIXTEEN_DIGITS = b"0" * 16
_DIGITS_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_BIG_INTEGER_ALONE = re.compile(rb"-?[0-9]{16}").match
_YEARS = re.compile(rb"P[0-9]+Y").search
_NAIVE_DATETIME = re.compile(rb'T[0-9:.]+"').search


class Codec(Generic[T]):
    """Turns values of one type into bytes and back; `codec_for` makes it, once for each type."""

    __slots__ = ("_decode", "_encode", "_is_naive", "_is_odd", "_rewrite", "_second_try", "type")

    def __init__(
        self,
        type_: Any,
        *,
        decode: Callable[[bytes], T],
        encode: Callable[[T], bytes],
        rewrite: Callable[[T], bytes],
        second_try: Callable[[bytes, Exception], T],
        is_odd: Search | None,
        is_naive: Search | None,
    ) -> None:
        self.type = type_
        self._decode = decode
        self._encode = encode
        self._rewrite = rewrite
        self._second_try = second_try
        self._is_odd = is_odd
        self._is_naive = is_naive

    def decode(self, raw: bytes) -> T:
        """Give the value of these bytes.

        Raises:
            InvalidPayload: they are no value of the type; `path` says where.
        """
        try:
            value = self._decode(raw)
        except (ValueError, RecursionError) as error:
            value = self._second_try(raw, error)
        if self._is_naive is not None and self._is_naive(raw):
            self._rewrite(value)  # refuses the datetime, if that is what it is
        return value

    def encode(self, value: T) -> bytes:
        """Give the bytes of a value, which is trusted to be of the type.

        Raises:
            InvalidPayload: something in it cannot be written; `path` says where.
        """
        try:
            raw = self._encode(value)
            return self._rewrite(value) if self._is_odd is not None and self._is_odd(raw) else raw
        except InvalidPayload:
            raise
        except (TypeError, ValueError, RecursionError, NotImplementedError, AttributeError) as error:
            raise _refusal(self.type, error, "written as") from error

    def encode_checked(self, value: object) -> bytes:
        """Give the bytes of what somebody's code returned, and nothing that the type does not declare.

        Raises:
            InvalidPayload: it is no value of the type; `path` says where.
        """
        if type(value) is self.type and self.type in _PLAIN:
            return self.encode(value)  # type: ignore[arg-type]
        raw = self.encode(value)  # type: ignore[arg-type]
        declared = self.decode(raw)
        return raw if self._encode(declared) == raw else self.encode(declared)

    def schema(self) -> dict[str, Any]:
        """Give the type's JSON Schema (2020-12) in canonical form."""
        return schema_of(self.type)

    def __repr__(self) -> str:
        return f"Codec({name_of(self.type)})"


@overload
def codec_for(type_: type[T]) -> Codec[T]: ...
@overload
def codec_for(type_: Any) -> Codec[Any]: ...
def codec_for(type_: Any) -> Codec[Any]:
    """Give the codec of a type, as it would stand in an annotation.

    Raises:
        DeclarationError: JSON cannot carry the type.
    """
    try:
        return _codec_for(type_)
    except TypeError:  # an annotation that cannot be hashed cannot be remembered
        return _build(type_)


@functools.lru_cache(maxsize=4096)
def _codec_for(type_: Hashable) -> Codec[Any]:
    return _build(type_)


def _build(type_: Any) -> Codec[Any]:
    return _model_codec(type_) if pydantic_model.is_model(type_) else _msgspec_codec(type_)


def _msgspec_codec(type_: Any) -> Codec[Any]:
    try:
        decoder = msgspec.json.Decoder(type_, dec_hook=_from_builtins)
        info = describe.type_info(type_)
    except (TypeError, ValueError, NameError, AttributeError) as error:
        raise DeclarationError(
            f"{name_of(type_)} is no type that JSON can carry: {error}",
            remedy="Use a dataclass, a msgspec.Struct, a Pydantic model, or plain types; a union needs a tag",
        ) from error
    exact.check_type(info)
    kinds = {type(leaf) for leaf in exact.leaves(info)}
    is_any = bool(kinds & {describe.AnyType, describe.RawType})

    def rewrite(value: Any) -> bytes:
        plain = msgspec.to_builtins(value, builtin_types=_KEPT, enc_hook=_model_to_builtins)
        return _ENCODER.encode(exact.to_wire(plain, info))

    def second_try(raw: bytes, error: Exception) -> Any:
        """Read once more, with the strings of digits that stand for big integers."""
        if describe.IntType in kinds and isinstance(error, msgspec.ValidationError):
            try:
                plain = exact.from_wire(msgspec.json.decode(raw), info)
                return msgspec.convert(plain, type_, str_keys=True, dec_hook=_from_builtins)
            except (ValueError, RecursionError) as second:
                error = second
        raise _refusal(type_, error, "read as") from error

    return Codec(
        type_,
        decode=decoder.decode,
        encode=_ENCODER.encode,
        rewrite=rewrite,
        second_try=second_try,
        is_odd=_search(
            integers=is_any or describe.IntType in kinds,
            alone=not isinstance(info, (describe.StructType, describe.DataclassType)),
            floats=is_any or describe.FloatType in kinds,
            decimals=is_any or describe.DecimalType in kinds,
            datetimes=is_any or describe.DateTimeType in kinds,
            durations=False,
        ),
        is_naive=_NAIVE_DATETIME if describe.DateTimeType in kinds else None,
    )


def _model_codec(model: Any) -> Codec[Any]:
    found = set(_words(schema_of(model)))  # a model's fields are its own affair; its schema tells enough

    def rewrite(value: Any) -> bytes:
        written = msgspec.json.decode(pydantic_model.encode(value))
        return _ENCODER.encode(_model_to_wire(pydantic_model.to_python(value), written, "$"))

    def second_try(_: bytes, error: Exception) -> Any:
        raise _refusal(model, error, "read as") from error

    is_any = "integer" not in found and "number" not in found and "date-time" not in found
    return Codec(
        model,
        decode=functools.partial(pydantic_model.decode, model),
        encode=pydantic_model.encode,
        rewrite=rewrite,
        second_try=second_try,
        is_odd=_search(
            integers=is_any or "integer" in found,
            alone=True,
            floats=is_any or "number" in found,
            decimals=is_any or bool({"number", "decimal"} & found),
            datetimes=is_any or "date-time" in found,
            durations=is_any or "duration" in found,
        ),
        is_naive=_NAIVE_DATETIME if "date-time" in found else None,
    )


def _search(
    *, integers: bool, alone: bool, floats: bool, decimals: bool, datetimes: bool, durations: bool
) -> Search | None:
    """Make the search for bytes that may stand for a value which needs a closer look."""
    if not (integers or floats or decimals or datetimes or durations):
        return None

    def is_odd(raw: bytes) -> bool:
        # The translation takes a third of the time of the regular expressions, and mostly finds that there is nothing.
        is_long = integers and _SIXTEEN_DIGITS in raw.translate(_DIGITS_AS_ZEROS)
        if is_long and (_BIG_INTEGER(raw) or (alone and _BIG_INTEGER_ALONE(raw))):
            return True
        # A NaN is written as null, or as the string of a Decimal.
        if floats and b"null" in raw:
            return True
        if decimals and (b"NaN" in raw or b"Inf" in raw):
            return True
        if durations and _YEARS(raw):
            return True
        return datetimes and _NAIVE_DATETIME(raw) is not None

    return is_odd


def _from_builtins(cls: type, value: Any) -> Any:
    """Decode a Pydantic model that stands inside another type (msgspec's hook)."""
    return codec_for(cls).decode(msgspec.json.encode(value))


def _model_to_json(value: Any) -> msgspec.Raw:
    """Encode a Pydantic model that stands inside another type (msgspec's hook)."""
    return msgspec.Raw(codec_for(_model_class(value)).encode(value))


def _model_to_builtins(value: Any) -> Any:
    return msgspec.json.decode(codec_for(_model_class(value)).encode(value))


def _model_class(value: Any) -> type:
    if not pydantic_model.is_model(type(value)):
        raise TypeError(f"a {type(value).__qualname__} cannot be written as JSON")
    return type(value)


def _model_to_wire(value: Any, written: Any, path: str) -> Any:
    """Give what is to be written for a model's content, beside which stands what Pydantic wrote for it."""
    if isinstance(value, dict) and isinstance(written, dict):
        pairs = zip(value.values(), written.items(), strict=True)
        return {name: _model_to_wire(v, w, f"{path}.{name}") for v, (name, w) in pairs}
    if isinstance(value, (list, tuple, set, frozenset)) and isinstance(written, list):
        return [_model_to_wire(v, w, f"{path}[{i}]") for i, (v, w) in enumerate(zip(value, written, strict=True))]
    exact.check_scalar(value, path)
    if isinstance(value, timedelta):
        return value  # Pydantic writes years, which others cannot read; msgspec days
    return str(written) if exact.is_big(written) else written


def _words(schema: Any) -> set[str]:
    """Give every `type` and `format` that a schema mentions."""
    if isinstance(schema, dict):
        own = {v for k in ("type", "format") if isinstance(v := schema.get(k), str)}
        return own.union(*map(_words, schema.values()))
    return set().union(*map(_words, schema)) if isinstance(schema, list) else set()


def _refusal(type_: Any, error: Exception, verb: str) -> InvalidPayload:
    """Say where and why a payload does not fit."""
    if isinstance(error, InvalidPayload):
        return error
    if isinstance(error, RecursionError):
        path, why = "$", "it is nested too deeply"
    elif (found := pydantic_model.error_path(error)) is not None:
        path, why = found, pydantic_model.error_text(error)
    elif located := _PATH.fullmatch(str(error)):
        why, path = located.groups()
    else:
        path, why = "$", str(error)
    return InvalidPayload(
        f"this cannot be {verb} {name_of(type_)}: {why}, at {path}",
        remedy="Make it fit its declared type",
        path=path,
        type=name_of(type_),
    )


def name_of(type_: Any) -> str:
    """Name a type as people write it."""
    return type_.__qualname__ if isinstance(type_, type) and not hasattr(type_, "__origin__") else str(type_)


_PLAIN = frozenset({str, int, float, bool, bytes})  # what is of one of these is what it says
_KEPT = (datetime, Decimal)  # what is looked at as itself
_ENCODER = msgspec.json.Encoder(enc_hook=_model_to_json, decimal_format="string")
