"""What an action raised or returned, as an answer: nothing that it does may harm whoever called it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from minuet.contracts.action import Rejection
from minuet.contracts.service import Service, action
from minuet.engine import bound
from minuet.engine.answer import Done, Failed, Rejected
from minuet.runtime.handler import Handler, Handlers


class No(Rejection): ...


class Desk(Service):
    @action(rejects=(No,))
    async def count(self) -> list[int]:
        return []


@pytest.fixture
def handler() -> Handler:
    found = Handlers([Desk()], {}).find("desk", "count")
    assert found is not None
    return found


def error(**attributes: Any) -> Exception:
    made: Exception = type("Odd", (Exception,), attributes)()
    return made


def test_a_rejection_keeps_its_message_and_details(handler: Handler) -> None:
    assert handler.raised(No("sold out", left=0)) == Rejected("no", "sold out", {"left": 0})
    assert handler.raised(No(7)) == Rejected("no", "7", None)  # type: ignore[arg-type]


@pytest.mark.parametrize("details", [object(), float, {1: object()}, "\ud800"])
def test_details_that_are_no_json_are_a_mistake_of_the_code(handler: Handler, details: object) -> None:
    answer = handler.raised(No("sold out", what=details))
    assert isinstance(answer, Failed)
    assert answer.final


def test_a_long_text_is_cut_and_one_that_cannot_be_told_is_left_out(handler: Handler) -> None:
    long = handler.raised(ValueError("x" * 1_000_000))
    assert isinstance(long, Failed)
    assert len(long.error) < bound.ERROR_CHARS + 100
    assert long.error.endswith("(1,000,000 characters)")
    assert handler.raised(error(__str__=lambda self: 1 / 0)) == Failed("Odd")
    assert handler.raised(ValueError("\ud800")) == Failed("ValueError: ?")


@pytest.mark.parametrize(
    ("said", "ms"),
    [
        (timedelta(seconds=2), 2_000),
        (0.5, 500),
        (0, 0),
        (-1, None),
        ("soon", None),
        (float("nan"), None),
        (float("inf"), 31_536_000_000),
        (property(lambda self: 1 / 0), None),
    ],
)
def test_an_error_may_say_when_to_come_back_and_nonsense_is_no_answer(
    handler: Handler, said: object, ms: int | None
) -> None:
    answer = handler.raised(error(retry_after=said))
    assert isinstance(answer, Failed)
    assert answer.retry_after_ms == ms


def test_a_value_without_an_end_is_not_what_was_declared(handler: Handler) -> None:
    itself: list[Any] = []
    itself.append(itself)
    answer = handler.done(itself)
    assert isinstance(answer, Failed)
    assert answer.final
    assert handler.done([1, 2]) == Done(b"[1,2]")
