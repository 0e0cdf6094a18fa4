"""Where a run was rejected: when several branches reject, the first one in the order of the text, always the same.

The code alone is known to the rules. Its origin is found by walking the text once more, when the run has ended: a
rejection that an attempt has caught, or that another branch outdid, is not the one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from minuet.engine.knowledge import Knowledge, Round

_SILENT: dict[str, Any] = {"message": "", "details": None}


class _Rejection(NamedTuple):
    code: str
    position: str
    message: str
    details: Any


def where_rejected(k: Knowledge, code: str) -> tuple[str, str, Any]:
    """Give position, message and details of the rejection with which a run has failed."""
    known = _known(k)
    same = [r for r in known.values() if r.code == code]
    found = same[0] if len(same) == 1 else _first(k.program.plan.body, (), (), known)
    return found[1:] if found is not None else ("", "", None)


def _known(k: Knowledge) -> dict[tuple[str, Round], _Rejection]:
    """Give all rejections; the verdict on a step stands for the step, and for an `each` only its own."""
    found: dict[tuple[str, Round], _Rejection] = {}
    for (position, round_), (label, value) in k.outcomes.items():
        kind, _, code = label.partition(":")
        if kind == "rejected" or (kind == "failed" and value is not None):
            told = msgspec.json.decode(value) if value is not None else _SILENT
            shown = position.removesuffix("!")
            found[shown, round_] = _Rejection(code, shown, told["message"], told["details"])
    for (position, round_), (code, message) in k.raised.items():
        found[position, round_] = _Rejection(code, position, message, None)
    return found


def _first(
    node: Any, round_: Round, deadlines: tuple[str, ...], known: dict[tuple[str, Round], _Rejection]
) -> _Rejection | None:
    """Give the rejection with which a node has failed; None if it has not."""
    kind, position = node["node"], node.get("position")
    if (own := known.get((position, round_))) is not None:
        return own
    match kind:
        case "Attempt":
            found = _first(node["body"], round_, deadlines, known)
            return None if found is None or _is_caught(found.code, node["codes"], deadlines) else found
        case "Deadline":
            return _first(node["body"], round_, (*deadlines, position), known)
        case "Loop" | "Each":
            rounds = ((node["body"], r) for r in _rounds(known, round_))
            rest = [(node["otherwise"], round_)] if kind == "Loop" else []
            return _first_of([*rounds, *rest], deadlines, known)
        case "Choice":
            return _first_of([(node["then"], round_), (node["otherwise"], round_)], deadlines, known)
        case "Seq":
            return _first_of([(part, round_) for part in node["parts"]], deadlines, known)
        case "Par":
            return _first_of([(branch, round_) for branch in node["branches"]], deadlines, known)
        case "Section" | "Call":
            return _first(node["body"], round_, deadlines, known)
    return None


def _first_of(
    nodes: Iterable[tuple[Any, Round]], deadlines: tuple[str, ...], known: dict[tuple[str, Round], _Rejection]
) -> _Rejection | None:
    return next((f for node, r in nodes if (f := _first(node, r, deadlines, known)) is not None), None)


def _rounds(known: dict[tuple[str, Round], _Rejection], outer: Round) -> list[Round]:
    """Give the rounds inside this one in which something was rejected."""
    depth = len(outer)
    return sorted({round_[: depth + 1] for _, round_ in known if len(round_) > depth and round_[:depth] == outer})


def _is_caught(code: str, codes: list[str] | None, deadlines: tuple[str, ...]) -> bool:
    name, _, deadline = code.partition("@")
    if code == "cancelled" or (name == "deadline" and deadline in deadlines):
        return False
    return codes is None or name in codes
