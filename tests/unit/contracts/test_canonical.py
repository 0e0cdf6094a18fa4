from __future__ import annotations

import math

import pytest

from minuet.contracts.canonical import canonical_json, digest


def test_members_are_sorted_and_there_are_no_spaces() -> None:
    assert canonical_json({"b": [1, True, None], "a": "é"}) == '{"a":"é","b":[1,true,null]}'.encode()


def test_members_are_sorted_by_utf_16_units() -> None:
    # U+1F600 begins with the unit D83D, which is below U+FB33, although its code point is above it (RFC 8785, 3.2.3).
    assert canonical_json({"\ufb33": 1, "\U0001f600": 2}) == '{"\U0001f600":2,"\ufb33":1}'.encode()


@pytest.mark.parametrize(
    ("number", "text"),
    [  # RFC 8785, appendix B, and the corners of ECMA-262, Number::toString
        (0.0, "0"),
        (-0.0, "0"),
        (1.0, "1"),
        (-1.5, "-1.5"),
        (5e-324, "5e-324"),
        (-5e-324, "-5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (9007199254740992.0, "9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (1e23, "1e+23"),
        (1e21, "1e+21"),
        (1e20, "100000000000000000000"),
        (999999999999999700000.0, "999999999999999700000"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (0.000001, "0.000001"),
        (0.0000123, "0.0000123"),
        (333333333.3333332, "333333333.3333332"),
        (0.1, "0.1"),
        (100.0, "100"),
        (120.5, "120.5"),
    ],
)
def test_numbers_are_written_as_ecmascript_writes_them(number: float, text: str) -> None:
    assert canonical_json(number) == text.encode()


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="no JSON"):
        canonical_json(math.nan)
    with pytest.raises(TypeError, match="no JSON"):
        canonical_json(object())


def test_a_digest_has_sixteen_hex_digits_and_ignores_the_order_of_members() -> None:
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) == "43258cff783fe703"
    assert digest({"a": 1}) != digest({"a": 2})
