"""What travels with a fact: the values that later rules read, as far as whoever records it knows them."""

from __future__ import annotations

from collections.abc import Iterable
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
        got: Any = MISSING
        if scope[:depth] == value.scope:
            try:
                got = k.read(v, round_[:depth])
            except ExpressionFailed:
                got = MISSING  # it fails wherever it is evaluated: let the parts travel
            if got is not MISSING and _is_json(got):
                found[v, round_[:depth]] = k.raw(v, round_[:depth]) if value.kind in ("out", "input") else to_json_bytes(got)
        if got is MISSING or not _is_json(got) or value.kind == "head":
            todo += value.below
    return found


def _is_json(value: Any) -> bool:
    """Say whether a value comes back from JSON as what it was, wherever it is read."""
    return value is None or isinstance(value, str | int | float | bool | list | dict | tuple)
