from __future__ import annotations

import json

import pytest

from minuet.contracts.strict_json import check_limits, read_json
from minuet.errors import InvalidPayload


def refusal(raw: bytes, max_bytes: int = 1 << 20) -> tuple[str, str]:
    with pytest.raises(InvalidPayload) as caught:
        read_json(raw, max_bytes=max_bytes)
    assert caught.value.message
    assert caught.value.remedy
    return caught.value.subject["reason"], caught.value.subject["path"]


def test_the_bytes_are_given_back_as_they_came() -> None:
    raw = b' {"b": [1, -2.50, 1e3, "\\u00e9\\ud83d\\ude00", true, null], "a": {}} '
    assert read_json(raw, max_bytes=1000) is raw


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"{'a': 1}", b'{"a": 1,}', b"[1] [2]", b'"\x01"', b"\xff", b"\xef\xbb\xbf{}", b'"\xed\xa0\x80"', b"01"],
)
def test_what_is_malformed_is_refused(raw: bytes) -> None:
    assert refusal(raw) == ("malformed", "$")


@pytest.mark.parametrize("raw", [b"NaN", b"[Infinity]", b'{"a": -Infinity}', b"1e400", b"-1e400", b'{"a": [1e999]}'])
def test_what_is_not_finite_is_refused(raw: bytes) -> None:
    assert refusal(raw)[0] == "not-finite"


def test_a_key_that_is_there_twice_is_refused_with_its_path() -> None:
    assert refusal(b'{"a": [0, {"b": 1, "b": 1}]}') == ("duplicate-key", "$.a[1].b")


def test_keys_that_differ_only_in_their_escapes_are_the_same() -> None:
    assert refusal(b'{"a": 1, "\\u0061": 1}') == ("duplicate-key", "$.a")


def test_depth_is_bounded() -> None:
    assert read_json(b"[" * 64 + b"]" * 64, max_bytes=1000)
    assert refusal(b"[" * 65 + b"]" * 65)[0] == "too-deep"
    assert refusal(b'{"a":' * 65 + b"1" + b"}" * 65)[0] == "too-deep"
    assert refusal(b"[" * 500_000)[0] == "too-deep"


def test_the_number_of_keys_is_bounded() -> None:
    assert read_json(json.dumps({str(i): i for i in range(10_000)}).encode(), max_bytes=1 << 20)
    assert refusal(json.dumps({str(i): i for i in range(10_001)}).encode())[0] == "too-many-keys"
    assert refusal(json.dumps([{"a": 1, "b": 2}] * 5_001).encode())[0] == "too-many-keys"


def test_strings_are_bounded_in_bytes() -> None:
    assert read_json(json.dumps("a" * 262_144).encode(), max_bytes=1 << 20)
    assert refusal(json.dumps(["a" * 262_145]).encode()) == ("string-too-long", "$[0]")
    assert refusal(json.dumps(["é" * 131_073], ensure_ascii=False).encode()) == ("string-too-long", "$[0]")


def test_integers_are_bounded_in_digits() -> None:
    assert read_json(b"-" + b"9" * 308, max_bytes=1000)
    assert refusal(b"-" + b"9" * 309)[0] == "integer-too-long"


@pytest.mark.parametrize("raw", [b'{"a": "x\\u0000"}', b'{"a": {"\\u0000": 1}}'])
def test_the_null_character_is_refused(raw: bytes) -> None:
    assert refusal(raw) == ("null-character", "$.a")


def test_an_escaped_backslash_before_u0000_is_no_null_character() -> None:
    assert read_json(b'"\\\\u0000"', max_bytes=100)


@pytest.mark.parametrize("raw", [b'{"a": "\\ud800"}', b'{"a": {"\\udc00x": 1}}', b'{"a": "\\ude00\\ud83d"}'])
def test_half_of_a_surrogate_pair_is_refused(raw: bytes) -> None:
    assert refusal(raw) == ("lone-surrogate", "$.a")


def test_what_is_too_large_is_refused_before_it_is_read() -> None:
    assert refusal(b"x" * 11, max_bytes=10) == ("too-large", "$")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'"' + b"x" * 40_000 + b'"', "too-large"),
        (b"[" * 65 + b"]" * 65, "too-deep"),
        (rb'["\u0000"]', "null-character"),
    ],
)
def test_what_our_codec_wrote_is_held_to_the_same_limits(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidPayload) as refused:
        check_limits(raw, max_bytes=35_000)
    assert refused.value.subject["reason"] == reason


@pytest.mark.parametrize("raw", [b"null", b'{"a":[1,2.5,"x"]}', b"[" * 64 + b"]" * 64, b'"' + b"x" * 34_000 + b'"'])
def test_what_is_within_the_limits_passes(raw: bytes) -> None:
    check_limits(raw, max_bytes=35_000)
