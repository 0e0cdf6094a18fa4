"""Canonical JSON (RFC 8785) and the digests that are taken of it."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

DIGEST_HEX_DIGITS = 16


def canonical_json(value: Any) -> bytes:
    """Write JSON in its one canonical form: members sorted, no spaces, numbers as ECMAScript writes them."""
    return _text(value).encode()


def digest(value: Any) -> str:
    """Give the SHA-256 of a value's canonical JSON, as the first 16 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:DIGEST_HEX_DIGITS]


def _text(value: Any) -> str:
    match value:
        case dict():
            names = sorted(value, key=lambda name: name.encode("utf-16-be"))  # by UTF-16 units, says the RFC
            return "{" + ",".join(f"{_string(n)}:{_text(value[n])}" for n in names) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_text, value)) + "]"
        case float():
            return _number(value)
        case str():
            return _string(value)
        case bool() | None:
            return json.dumps(value)
        case int():
            return str(value)
    raise TypeError(f"{type(value).__name__} is no JSON")


def _string(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """Write a float as ECMAScript does (ECMA-262, Number::toString): Python differs in where exponents begin."""
    if not math.isfinite(value):
        raise ValueError(f"{value} is no JSON")
    if value == 0:
        return "0"
    sign, digits = ("-" if value < 0 else ""), repr(abs(value))
    mantissa, _, exponent = digits.partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = fraction.rstrip("0")
    significant = (whole + fraction).lstrip("0")
    # The decimal point stands after `point` digits of `significant`, counted from its first.
    point = len(whole.lstrip("0")) + int(exponent or 0) if whole.strip("0") else -_zeros(fraction) + int(exponent or 0)
    significant = significant.rstrip("0")
    count = len(significant)
    if count <= point <= 21:
        return sign + significant + "0" * (point - count)
    if 0 < point <= 21:
        return sign + significant[:point] + "." + significant[point:]
    if -6 < point <= 0:
        return sign + "0." + "0" * -point + significant
    power = point - 1
    tail = "." + significant[1:] if count > 1 else ""
    return f"{sign}{significant[0]}{tail}e{'+' if power > 0 else '-'}{abs(power)}"


def _zeros(fraction: str) -> int:
    return len(fraction) - len(fraction.lstrip("0"))
