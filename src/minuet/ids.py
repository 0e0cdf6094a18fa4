"""Ids, and how each is derived. Pure: whoever makes an id is given the time and the shard.

A run id is a 63-bit integer, so that the rows of runs that begin together lie together in every store:

    | 42 bits: milliseconds since 1970 | 8 bits: shard | 13 bits: counter within the millisecond |

A shard has one owner at a time, who alone makes ids in it: processes that share a store never make the same. The
public form is 13 characters of Crockford's base 32, which sorts as the integer does.
"""

from __future__ import annotations

from typing import NewType
from zlib import crc32

RunId = NewType("RunId", int)
Digest = NewType("Digest", str)

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {c: i for i, c in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_COUNTER_BITS, _SHARD_BITS = 13, 8
SHARDS_MAX = 1 << _SHARD_BITS
_TEXT_LENGTH = 13
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_SHIFTS = range(60, -1, -10)  # of pairs of characters; the first one of the first pair is always 0


def run_text(run: int) -> str:
    """Give the public form of a run id."""
    return "".join([_PAIRS[run >> shift & 1023] for shift in _SHIFTS])[1:]


def parse_run(text: str) -> RunId | None:
    """Read the public form of a run id; None if it is not one."""
    if len(text) != _TEXT_LENGTH:
        return None
    run = 0
    for c in text.upper():
        if (value := _VALUES.get(c)) is None:
            return None
        run = run << 5 | value
    return RunId(run) if run < 1 << 63 else None


def shard_of(run: int) -> int:
    """Give the shard that a run belongs to: 0 in a store that one process holds."""
    return run >> _COUNTER_BITS & (1 << _SHARD_BITS) - 1


def shard_of_name(name: str, shards: int) -> int:
    """Give the shard that something belongs to which has a name and is no run: a subscription."""
    return crc32(name.encode()) % shards


def first_run(at_ms: int) -> RunId:
    """Give the least id that a run which begins at `at_ms` or later may have."""
    return RunId(max(at_ms, 0) << (_SHARD_BITS + _COUNTER_BITS))


def round_text(indices: tuple[int, ...]) -> str:
    """Give a round as text: `""` outside loops, `"2"`, nested `"2.0"`, outermost first."""
    return ".".join(map(str, indices)) if indices else ""


def parse_round(text: str) -> tuple[int, ...]:
    """Read what `round_text` wrote."""
    return tuple(map(int, text.split("."))) if text else ()


def op_key(run: int, position: str, indices: tuple[int, ...], direction: str, generation: int = 0) -> str:
    """Give the operation key: the same for every attempt, so that others can recognise a repetition."""
    return f"{run_text(run)}:{position}:{round_text(indices) or '0'}:{direction}:{generation}"


class RunIds:
    """Makes run ids that only grow, also when the clock steps back."""

    def __init__(self) -> None:
        self._last_ms = 0
        self._count = 0

    def follow(self, run: int) -> None:
        """Make only ids above this one: the clock may have stepped back since another process made it."""
        last_ms = run >> (_SHARD_BITS + _COUNTER_BITS)
        if last_ms >= self._last_ms:
            self._last_ms, self._count = last_ms, (1 << _COUNTER_BITS) - 1

    def next(self, now_ms: int, shard: int = 0) -> RunId:
        """Give the next id at `now_ms` (milliseconds since 1970), of a shard that is owned."""
        if now_ms > self._last_ms:
            self._last_ms, self._count = now_ms, 0
        elif self._count == (1 << _COUNTER_BITS) - 1:
            self._last_ms, self._count = self._last_ms + 1, 0
        else:
            self._count += 1
        return RunId((self._last_ms << _SHARD_BITS | shard) << _COUNTER_BITS | self._count)
