"""What lies before a position: how far a cancellation may still reach.

A cancellation makes the next positions reject, so that what was done is compensated. That is only right while nothing
has been done that cannot be taken back. A step is *irrevocable* when it has no compensation and is neither pure nor
meant to be kept. A position is *cancellable* when no irrevocable step can have begun before it, or beside it.
"""

from __future__ import annotations

from minuet.workflows.tree import (
    Attempt,
    Break,
    Call,
    Choice,
    Continue,
    Deadline,
    Each,
    Loop,
    Node,
    Par,
    Reject,
    Return,
    Section,
    Seq,
    Sleep,
    Step,
    Wait,
)


def irrevocable(step: Step) -> bool:
    """Say whether a step's effect, once there, stays there."""
    return step.compensation is None and not step.pure and not step.keep


def cancellable(root: Node) -> set[str]:
    """Give the positions that may still reject without leaving something standing that cannot be taken back."""
    found: set[str] = set()
    _walk(root, found, passed=False)
    return found


def _walk(node: Node, found: set[str], *, passed: bool) -> bool | None:
    """Collect positions; `passed`: something irrevocable may lie before.

    Gives the same for what follows; None where nothing follows, because every path leaves (`return`, `raise`, …).
    """
    if not passed and (position := getattr(node, "position", None)):
        found.add(position)
    match node:
        case Step():
            return passed or irrevocable(node)
        case Seq():
            for part in node.parts:
                after = _walk(part, found, passed=passed)
                if after is None:
                    return None
                passed = after
            return passed
        case Par():
            inside = [_contains(b) for b in node.branches]
            for i, b in enumerate(node.branches):
                _walk(b, found, passed=passed or any(inside[:i] + inside[i + 1 :]))
            return passed or any(inside)
        case Choice():
            arms = [_walk(node.then, found, passed=passed), _walk(node.otherwise, found, passed=passed)]
            reached = [after for after in arms if after is not None]
            return any(reached) if reached else None
        case Loop():
            _walk(node.body, found, passed=passed or (node.limit > 1 and _contains(node.body)))
            _walk(node.otherwise, found, passed=passed or _contains(node.body))
            return passed or _contains(node.body) or _contains(node.otherwise)
        case Each():
            _walk(node.body, found, passed=passed or _contains(node.body))
            return passed or _contains(node.body)
        case Attempt() | Call():  # left in several ways, of which some go on behind it
            _walk(node.body, found, passed=passed)
            return passed or _contains(node.body)
        case Deadline() | Section():
            return _walk(node.body, found, passed=passed)
        case Return() | Reject() | Break() | Continue():
            return None
        case _:
            return passed


def _contains(node: Node) -> bool:
    """Say whether something irrevocable stands inside."""
    return any(isinstance(n, Step) and irrevocable(n) for n in _nodes(node))


def idle_deadlines(root: Node) -> list[Deadline]:
    """Give the deadlines that could cancel nothing: before all that they enclose something irrevocable may lie."""
    able = cancellable(root)
    return [d for d in _nodes(root) if isinstance(d, Deadline) and not able & _cancels(d.body)]


def _cancels(node: Node) -> set[str]:
    return {n.position for n in _nodes(node) if isinstance(n, Step | Wait | Sleep)}


def _nodes(node: Node) -> list[Node]:
    """Give a node and all inside, in the order of the text."""
    inner: tuple[Node, ...]
    match node:
        case Seq():
            inner = node.parts
        case Par():
            inner = node.branches
        case Choice():
            inner = (node.then, node.otherwise)
        case Loop():
            inner = (node.body, node.otherwise)
        case Attempt() | Deadline() | Section() | Call() | Each():
            inner = (node.body,)
        case _:
            inner = ()
    return [node, *(n for part in inner for n in _nodes(part))]


def sections(node: Node) -> list[Section]:
    """Give all sections inside, in the order of the text."""
    return [n for n in _nodes(node) if isinstance(n, Section)]
