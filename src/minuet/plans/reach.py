"""What lies before a position: how far a cancellation may still reach.

A cancellation makes the next positions reject, so that what was done is compensated. That is only right while nothing
has been done that cannot be taken back. A step is *irrevocable* when it has no compensation and is neither pure nor
meant to be kept. A position is *cancellable* when no irrevocable step can have begun before it, or beside it.
"""

from __future__ import annotations

from minuet.workflows.tree import (
    Attempt,
    Call,
    Choice,
    Deadline,
    Each,
    Loop,
    Node,
    Par,
    Section,
    Seq,
    Step,
)


def irrevocable(step: Step) -> bool:
    """Say whether a step's effect, once there, stays there."""
    return step.compensation is None and not step.pure and not step.keep


def cancellable(root: Node) -> set[str]:
    """Give the positions that may still reject without leaving something standing that cannot be taken back."""
    found: set[str] = set()
    _walk(root, False, found)
    return found


def _walk(node: Node, passed: bool, found: set[str]) -> bool:  # noqa: FBT001 - threaded through, and read beside its node
    """Collect positions; `passed`: something irrevocable may lie before. Gives the same for what follows."""
    if not passed and (position := getattr(node, "position", None)):
        found.add(position)
    match node:
        case Step():
            return passed or irrevocable(node)
        case Seq():
            for part in node.parts:
                passed = _walk(part, passed, found)
            return passed
        case Par():
            inside = [_contains(b) for b in node.branches]
            for i, b in enumerate(node.branches):
                _walk(b, passed or any(inside[:i] + inside[i + 1 :]), found)
            return passed or any(inside)
        case Choice():
            then = _walk(node.then, passed, found)
            return _walk(node.otherwise, passed, found) or then
        case Loop():
            passed = _walk(node.body, passed or (node.limit > 1 and _contains(node.body)), found)
            return _walk(node.otherwise, passed, found)
        case Each():
            return _walk(node.body, passed or _contains(node.body), found)
        case Attempt() | Deadline() | Section() | Call():
            return _walk(node.body, passed, found)
        case _:
            return passed


def _contains(node: Node) -> bool:
    """Say whether something irrevocable stands inside."""
    return _walk(node, False, set())


def sections(node: Node) -> list[Section]:
    """Give all sections inside, in the order of the text."""
    match node:
        case Section():
            return [node, *sections(node.body)]
        case Seq():
            return [s for p in node.parts for s in sections(p)]
        case Par():
            return [s for b in node.branches for s in sections(b)]
        case Choice():
            return sections(node.then) + sections(node.otherwise)
        case Loop():
            return sections(node.body) + sections(node.otherwise)
        case Attempt() | Deadline() | Call() | Each():
            return sections(node.body)
        case _:
            return []
