"""What travels with a fact: the values that later rules read, as far as whoever records it knows them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from minuet.engine.knowledge import MISSING, Knowledge, Round
from minuet.ids import parse_round, round_text
from minuet.plans.condition import Scope
from minuet.workflows.expression import ExpressionFailed, to_json_bytes

Carried = dict[tuple[int, Round], bytes]
"""(value, round) -> JSON text."""


def carried(k: Knowledge, live: Iterable[int], scope: Scope, round_: Round) -> Carried:
    """Give the live values that are known at a fact that stands in this scope and round.

    What can be evaluated travels as its result, so that its inputs need not travel further than the first
    participant that can decide; of what cannot be, the parts travel.
    """
    values = k.program.values
    found: Carried = {}
    seen = set[int]()
    todo = list(live)
    while todo:
        v = todo.pop()
        if v in seen:
            continue
        seen.add(v)
        value = values[v]
        if value.kind == "index" or (value.kind == "expression" and not value.below):
            continue  # the plan says it
        depth = len(value.scope)
        at = round_[:depth]
        got: Any = MISSING
        if scope[:depth] == value.scope:
            with suppress(ExpressionFailed):  # it fails wherever it is evaluated: let the parts travel
                got = k.read(v, at)
        if got is not MISSING and _is_json(got):
            found[v, at] = k.raw(v, at) if value.kind in ("out", "input") else to_json_bytes(got)
            if value.kind != "head":
                continue
        todo += value.below  # of a loop's variable also what the next round begins with
    return found


def write_carried(carry: Carried) -> str:
    """Give carried values as JSON text: `[[value index, round, value], …]`."""
    return msgspec.json.encode([(v, round_text(at), msgspec.Raw(raw)) for (v, at), raw in carry.items()]).decode()


def read_carried(text: str | bytes) -> Carried:
    """Read what `write_carried` gave. Raises msgspec.DecodeError, ValueError."""
    return {(v, parse_round(at)): bytes(raw) for v, at, raw in _decode(text)}


_decode = msgspec.json.Decoder(list[tuple[int, str, msgspec.Raw]]).decode


def _is_json(value: Any) -> bool:
    """Say whether a value comes back from JSON as what it was, wherever it is read."""
    return value is None or isinstance(value, str | int | float | bool | list | dict | tuple)
