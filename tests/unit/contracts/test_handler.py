from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from decimal import Decimal

import pytest

from minuet.contracts.handler import Context, collecting, injected, publish
from minuet.contracts.message import event
from minuet.errors import DeclarationError, InvalidPayload, MisplacedCall


@event("orders.placed", version=1)
@dataclass(frozen=True)
class Placed:
    order: str


@event("orders.shipped", version=1)
@dataclass(frozen=True)
class Shipped:
    order: str


@dataclass
class Charge:
    order: str
    amount: Decimal


def context(**more: object) -> Context:
    given: dict[str, object] = {"run": "r", "key": "k", "workflow": "w", "position": "1", "op_key": "r:1:0:forward:0"}
    return Context(**{**given, **more})  # type: ignore[arg-type]


def test_what_a_handler_publishes_is_collected_in_order() -> None:
    with collecting("orders.open", [Placed, Shipped]) as events:
        publish(Placed("a"))
        publish(Shipped("a"))
        publish(Placed("b"))
    assert events == [Placed("a"), Shipped("a"), Placed("b")]


def test_publishing_outside_of_a_handler_is_refused() -> None:
    with pytest.raises(MisplacedCall, match="outside"):
        publish(Placed("a"))


def test_only_declared_events_are_published() -> None:
    with collecting("orders.open", [Placed]) as events:
        with pytest.raises(DeclarationError, match="does not say so"):
            publish(Shipped("a"))
        with pytest.raises(DeclarationError, match="no event"):
            publish("a")
    assert events == []


def test_a_compensation_can_ask_for_the_arguments_of_its_action() -> None:
    given = context(input_bytes=b'{"order":"o","amount":"5.50","card":"4242"}')
    assert given.input(Charge) == Charge("o", Decimal("5.50"))
    with pytest.raises(InvalidPayload):
        context().input(Charge)


def test_progress_is_reported_between_zero_and_one() -> None:
    seen: list[tuple[float, str]] = []
    given = context(report=lambda fraction, note: seen.append((fraction, note)))
    given.progress(0.5, "half")
    given.progress(7)
    given.progress(-1)
    context().progress(0.5)  # nobody listens
    assert seen == [(0.5, "half"), (1.0, ""), (0.0, "")]


def test_a_parameter_that_nobody_filled_in_says_so() -> None:
    tx = injected()
    with pytest.raises(MisplacedCall, match="nobody has filled in"):
        tx.execute("select 1")
    assert repr(tx) == "injected()"
    assert not inspect.isawaitable(tx)
    copy.copy(tx)
