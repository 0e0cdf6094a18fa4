"""Waits: `wait_for` an event from outside, and `sleep` until time has passed."""

from __future__ import annotations

import ast

from minuet.contracts.message import event_spec
from minuet.contracts.schema import schema_of
from minuet.workflows.expression import Expression
from minuet.workflows.reader.argument import bound_arguments, read_duration, read_owner
from minuet.workflows.reader.body import Body, nothing
from minuet.workflows.reader.pure import operation
from minuet.workflows.reader.pure.syntax import read_pure
from minuet.workflows.reader.pure.typed import python_value
from minuet.workflows.reader.pure.valuetype import (
    DATETIME,
    NULL,
    STR,
    UNKNOWN,
    OptionalType,
    ValueType,
    describe,
    type_of,
    unwrapped,
)
from minuet.workflows.refusal import shown
from minuet.workflows.tree import Node, Sleep, Wait


def read_wait(body: Body, node: ast.Call, position: str, out: str) -> tuple[Node, ValueType]:
    """Read `wait_for(PickedUp, key=…)`; its value may be None where it has a timeout."""
    given = bound_arguments(body, node, "wait_for", ("event", "key", "by", "timeout"))
    if given is None:
        return nothing(body, node)
    if "event" not in given or "key" not in given:
        body.refuse(
            "M004", node, f"wait_for(…) lacks {'its event' if 'event' not in given else 'key='}",
            "write wait_for(PickedUp, key=…)",
        )  # fmt: skip
        return nothing(body, node)
    cls = body.source.resolve(given["event"])
    spec = event_spec(cls)
    if spec is None:
        body.refuse(
            "M004", given["event"], f"{shown(given['event'])} is no event that one could wait for",
            "declare it: @event(…) above the class",
        )  # fmt: skip
        return nothing(body, node)
    if body.events.setdefault(spec.name, cls) is not cls:
        body.refuse(
            "M004", given["event"], f"{spec.name} is awaited as two types", "wait for one of them, in one version"
        )
    key = read_pure(body, given["key"])
    if operation.plain(key.type) not in (STR, UNKNOWN):
        body.refuse(
            "M004",
            given["key"],
            f"the key is of type {describe(key.type)}",
            "a key is text: use str(…) or an f-string",
        )
    timeout = given.get("timeout")
    if isinstance(timeout, ast.Constant) and timeout.value is None:
        timeout = None
    wait = Wait(
        place=body.place(node),
        position=position,
        event=spec.name,
        version=spec.version,
        key=key.expression,
        out=out,
        by=read_owner(body, given.get("by")),
        timeout=None if timeout is None else read_duration(body, timeout),
    )
    body.schemas[position] = schema_of(cls)
    return wait, type_of(cls) if timeout is None else OptionalType(type_of(cls))


def read_sleep(body: Body, node: ast.Call, position: str, out: str) -> tuple[Node, ValueType]:
    """Read `sleep(duration)` or `sleep(until=instant)`."""
    given = bound_arguments(body, node, "sleep", ("duration", "until", "by"))
    if given is None:
        return nothing(body, node)
    if ("duration" in given) == ("until" in given):
        body.refuse("M004", node, "sleep(…) takes a duration or until=, one of them", "write sleep(timedelta(…))")
        return nothing(body, node)
    until: Expression | None = None
    if "until" in given:
        typed = read_pure(body, given["until"])
        until = python_value(typed)
        if unwrapped(typed.type) not in (DATETIME, UNKNOWN):
            body.refuse("M004", given["until"], f"until= is of type {describe(typed.type)}", "give a datetime")
    sleep = Sleep(
        place=body.place(node),
        position=position,
        duration=read_duration(body, given["duration"]) if "duration" in given else None,
        until=until,
        by=read_owner(body, given.get("by")),
        out=out,
    )
    return sleep, NULL
