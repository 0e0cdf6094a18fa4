"""What travels with a fact: the values that later rules read, as far as whoever records it knows them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from minuet.engine.knowledge import MISSING, Knowledge, Round
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


def _is_json(value: Any) -> bool:
    """Say whether a value comes back from JSON as what it was, wherever it is read."""
    return value is None or isinstance(value, str | int | float | bool | list | dict | tuple)
