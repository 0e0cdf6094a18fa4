"""JSON from outside, read strictly: what another reader might take differently, or a store cannot keep, is refused.

The bytes are given back as they came: they are stored, hashed and sent on untouched, and decoded once, by the codec of
the type that they are for. Our own stored bytes are not read by this.
"""

from __future__ import annotations

import json
import math
from typing import Any

from minuet.errors import InvalidPayload

DEPTH_MAX = 64
"""Levels of nesting: deeper documents exhaust the stack of some reader."""
KEYS_MAX = 10_000
"""Members of all objects together: more is data, which travels by reference."""
STRING_BYTES_MAX = 256 * 1024
"""UTF-8 bytes of one string, as large as a message on the wire may be."""
INTEGER_DIGITS_MAX = 308
"""Digits of one integer: more does not fit a float, nor any column."""


def read_json(raw: bytes, *, max_bytes: int) -> bytes:
    """Check a JSON document from outside, and give its bytes as they came.

    Raises:
        InvalidPayload: with `reason` (`malformed`, `too-large`, `not-finite`, `duplicate-key`, `too-deep`,
            `too-many-keys`, `string-too-long`, `integer-too-long`, `null-character`, `lone-surrogate`), and `path`.
    """
    if len(raw) > max_bytes:
        raise _refusal("too-large", f"the document has {len(raw)} bytes", f"At most {max_bytes} are read")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refusal("malformed", f"byte {error.start} is no UTF-8", "Send JSON, in UTF-8") from error
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _refusal(
            "malformed",
            f"this is no JSON: {error.msg}, line {error.lineno} column {error.colno}",
            "Send one JSON value",
        ) from error
    except RecursionError:
        raise _too_deep("$") from None
    _check(value)
    return raw


def check_limits(raw: bytes, *, max_bytes: int) -> None:
    """Hold a document that our own codec has written to the limits of those from outside: it is no more readable.

    Most are plainly within them, which is quick to see; only the others are read.

    Raises:
        InvalidPayload: as `read_json`.
    """
    if len(raw) > _SMALL_BYTES or raw.count(b"{") + raw.count(b"[") > DEPTH_MAX or b"\\u0000" in raw:
        read_json(raw, max_bytes=max_bytes)


_SMALL_BYTES = 32 * 1024  # too few for a string that is too long, and for too many keys


def _constant(name: str) -> Any:
    raise _refusal("not-finite", f"the document has {name}, which is no JSON", "Leave it out, or send null")


def _float(digits: str) -> None:
    if math.isinf(float(digits)):
        shown = digits if len(digits) <= 40 else digits[:40] + "…"
        raise _refusal("not-finite", f"the number {shown} is too large to be one", "Send numbers that fit a float")


def _integer(digits: str) -> None:
    if len(digits.lstrip("-")) > INTEGER_DIGITS_MAX:
        raise _refusal(
            "integer-too-long",
            f"the document has an integer of {len(digits.lstrip('-'))} digits",
            f"At most {INTEGER_DIGITS_MAX} are read",
        )


_DECODER = json.JSONDecoder(
    object_pairs_hook=tuple,  # an object is a tuple of pairs, an array a list: so a repeated key is still to be seen
    parse_constant=_constant,
    parse_float=_float,
    parse_int=_integer,
)


def _check(document: Any) -> None:
    """Walk through a document: keys, strings, depth."""
    keys = 0
    todo: list[tuple[Any, str, int]] = [(document, "$", 0)]
    while todo:
        value, path, depth = todo.pop()
        if isinstance(value, str):
            _check_string(value, path)
        elif isinstance(value, (tuple, list)):
            if depth == DEPTH_MAX:
                raise _too_deep(path)
            if isinstance(value, list):
                todo.extend((item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value) if item is not None)
                continue
            keys += len(value)
            if keys > KEYS_MAX:
                raise _refusal("too-many-keys", "the document has too many keys", f"At most {KEYS_MAX} are read")
            seen = set[str]()
            for name, item in value:
                _check_string(name, path)
                inner = f"{path}.{name}"
                if name in seen:
                    raise _refusal("duplicate-key", f"the key {inner} is there twice", "Send each key once", inner)
                seen.add(name)
                todo.append((item, inner, depth + 1))


def _check_string(value: str, path: str) -> None:
    if "\0" in value:
        raise _refusal(
            "null-character", f"a string at {path} has U+0000, which no store can keep", "Leave it out", path
        )
    try:
        size = len(value) if value.isascii() else len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise _refusal(
            "lone-surrogate", f"a string at {path} has half of a surrogate pair", "Send whole characters", path
        ) from None
    if size > STRING_BYTES_MAX:
        raise _refusal(
            "string-too-long", f"the string at {path} has {size} bytes", f"At most {STRING_BYTES_MAX} are read", path
        )


def _too_deep(path: str) -> InvalidPayload:
    return _refusal("too-deep", "the document is nested too deeply", f"At most {DEPTH_MAX} levels are read", path)


def _refusal(reason: str, message: str, remedy: str, path: str = "$") -> InvalidPayload:
    shown = path if len(path) <= 200 else path[:200] + "…"
    return InvalidPayload(message, remedy=remedy, reason=reason, path=shown)
