"""Blocks, `async with`: attempts, deadlines, sections; and what is no block of a plan."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from minuet.contracts.action import Rejection
from minuet.workflows import words
from minuet.workflows.reader import foreign
from minuet.workflows.reader.argument import bound_arguments, read_duration, read_owner, read_rejection, read_text
from minuet.workflows.reader.body import Body
from minuet.workflows.reader.flow import Flow
from minuet.workflows.reader.position import Numbers
from minuet.workflows.reader.pure.valuetype import AttemptType
from minuet.workflows.reader.source import MISSING
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Attempt, Deadline, Node, Place, Section, Seq


def read_block(flow: Flow, node: ast.AsyncWith, items: Sequence[ast.withitem], numbers: Numbers) -> Iterator[Node]:
    """Read `async with`; the several items of one statement stand inside each other."""
    body = flow.body
    item, *inner = items
    call, name = item.context_expr, item.optional_vars
    meaning = body.source.resolve(call.func) if isinstance(call, ast.Call) else MISSING
    if not isinstance(call, ast.Call) or meaning not in (
        words.attempt, words.deadline, words.orchestration, words.choreography
    ):  # fmt: skip
        _refused(flow, call, meaning, name, node, numbers)
        return
    if name is not None and (meaning is not words.attempt or not isinstance(name, ast.Name)):
        body.refuse("M004", name, f"{shown(call)} gives nothing to keep", "leave `as …` out")
        name = None
    position, place = numbers.next(), body.place(node)

    def inside() -> Seq:
        own = Numbers(f"{position}.")
        if not inner:
            return flow.block(node.body, own, node)
        return Seq(place=place, parts=tuple(read_block(flow, node, inner, own)))

    if meaning is words.attempt:
        yield _attempt(flow, call, name, position, place, inside)
    elif meaning is words.deadline:
        yield _deadline(body, call, position, place, inside)
    else:
        yield _section(body, call, meaning, position, place, inside)


def _attempt(
    flow: Flow, call: ast.Call, name: ast.expr | None, position: str, place: Place, inside: Callable[[], Seq]
) -> Attempt:
    body, codes = flow.body, _codes(flow.body, call)
    out = f"{name.id}.rejected" if isinstance(name, ast.Name) else body.hidden()
    before, site = body.scope, (place.line << 12) + place.column
    flow.assigned.append(before.assigned)
    body.scope = before.enter_attempt()
    seq = inside()
    flow.assigned.pop()
    body.scope = before.leave_attempt(None if flow.left else body.scope, site, place.line)
    flow.left = False  # it may be rejected, and then goes on behind the attempt
    if name is not None:
        body.bind(name, AttemptType(site))
    return Attempt(place=place, position=position, body=seq, codes=codes, out=out)


def _codes(body: Body, call: ast.Call) -> tuple[str, ...] | None:
    """Give the codes that an attempt names; None where it names none."""
    for keyword in call.keywords:
        body.refuse("M004", keyword, f"attempt(…) has no {keyword.arg}=", "name rejections only")
    codes = []
    for argument in call.args:
        is_any = body.source.resolve(argument) is Rejection
        remedy = "write attempt() for any of them" if is_any else "name subclasses of Rejection"
        rejection = read_rejection(body, argument, argument, remedy)
        if rejection is not None:
            codes.append(rejection.code)
    return tuple(codes) if call.args else None


def _deadline(body: Body, call: ast.Call, position: str, place: Place, inside: Callable[[], Seq]) -> Deadline:
    given = bound_arguments(body, call, "deadline", ("duration", "by")) or {}
    if "duration" not in given:
        body.refuse("M004", call, "deadline(…) lacks its duration", "give seconds, or a timedelta")
    duration = read_duration(body, given["duration"]) if "duration" in given else ("lit", 1)
    by = read_owner(body, given.get("by"))
    return Deadline(place=place, position=position, duration=duration, body=inside(), by=by)


def _section(
    body: Body, call: ast.Call, meaning: Any, position: str, place: Place, inside: Callable[[], Seq]
) -> Section:
    style = "orchestration" if meaning is words.orchestration else "choreography"
    given = bound_arguments(body, call, style, ("by",) if style == "orchestration" else ()) or {}
    by = read_text(body, given.get("by"))
    return Section(place=place, position=position, style=style, body=inside(), by=by)


def _refused(
    flow: Flow, call: ast.expr, meaning: Any, name: ast.expr | None, node: ast.AsyncWith, numbers: Numbers
) -> None:
    """Refuse `async with` on something else, and read on inside it."""
    if meaning in (words.together, words.each, words.wait_for, words.sleep):
        flow.body.refuse("M004", call, f"{shown(call)} is no block", "await it")
    else:
        code, message, remedy = foreign.refusal_of(call, meaning)
        if code == "M004":
            message, remedy = f"{shown(call)} would be entered by nobody", "move it into an action"
        flow.body.refuse(code, call, message, remedy)
    is_group = isinstance(call, ast.Call) and shown(call.func).endswith("TaskGroup")
    is_parallel = is_group or meaning in (words.together, words.each)
    with flow.beside(shown(call)) if is_parallel else nullcontext():
        flow.read_on([] if name is None else [name], node.body, numbers)
