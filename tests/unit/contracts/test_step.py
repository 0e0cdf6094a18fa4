from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from minuet.contracts.action import RetryPolicy
from minuet.contracts.service import Service, action, compensation
from minuet.contracts.step import Action, Bound, CallSite, Promise, Step, performing
from minuet.errors import DeclarationError, MisplacedCall


class Orders(Service):
    @action
    async def open(self, order: str, times: int = 1) -> str:
        """Open an order."""
        return order * times

    @compensation(open)
    async def cancel(self, order: str) -> None: ...


class Recorder:
    """Performs by telling what it was asked."""

    async def perform(self, promise: Promise[Any]) -> Any:
        return promise

    async def enter(self, block: Any) -> None: ...

    async def leave(self, block: Any, error: BaseException | None) -> bool:
        return False

    def decide(self, service: object, condition: object, site: CallSite) -> bool:
        return bool(condition)


def test_an_action_is_a_descriptor_with_its_function() -> None:
    assert isinstance(Orders.open, Action)
    assert Orders.open.__doc__ == "Open an order."
    assert Orders.cancel.compensates is Orders.open
    assert repr(Orders.open) == "<action Orders.open>"


@pytest.mark.asyncio
async def test_a_unit_test_may_call_the_function_itself() -> None:
    assert await Orders.open.function(Orders(), "o", times=2) == "oo"


def test_calling_a_bound_action_gives_a_step_with_its_place() -> None:
    orders = Orders()
    step = orders.open("o", times=2)
    line = test_calling_a_bound_action_gives_a_step_with_its_place.__code__.co_firstlineno + 2
    assert isinstance(orders.open, Bound)
    assert isinstance(step, Step)
    assert (step.arguments, step.keywords) == (("o",), {"times": 2})
    assert step.site == CallSite(line, 12)


def test_the_place_of_a_call_tells_two_on_one_line_apart() -> None:
    orders = Orders()
    both = (orders.open("a"), orders.open("b"))
    assert [s.site.column for s in both] == [13, 31]


def test_the_place_of_a_call_counts_characters() -> None:
    orders = Orders()
    both = ("é", orders.open("a"))
    assert both[1].site.column == 18


def test_a_step_is_told_how_it_is_to_be_done_in_any_order() -> None:
    orders = Orders()
    step = orders.open("o").timeout(30, then="abandon").retry(5, first=0.5, at_most=60).compensate(orders.cancel)
    assert (step.timeout_ms, step.timeout_then) == (30_000, "abandon")
    assert step.retry_policy == RetryPolicy(attempts=5, first_ms=500, at_most_ms=60_000)
    assert step.compensation is not None
    assert step.compensation.action is Orders.cancel
    assert orders.open("o").keep().kept


@pytest.mark.parametrize(
    "wrong",
    [lambda s: s.timeout(0), lambda s: s.retry(-1), lambda s: s.retry(2, factor=0), lambda s: s.retry(2, first=-1)],
)
def test_what_cannot_work_is_refused(wrong: Callable[[Any], Any]) -> None:
    with pytest.raises(DeclarationError):
        wrong(Orders().open("o"))


@pytest.mark.asyncio
async def test_awaiting_a_step_asks_the_performer_at_hand() -> None:
    step = Orders().open("o")
    with pytest.raises(MisplacedCall, match=r"the step Orders\.open"):
        await step
    with performing(Recorder()):
        assert await step is step  # type: ignore[comparison-overlap]
        with performing(None), pytest.raises(MisplacedCall):
            await step
    with pytest.raises(MisplacedCall):
        await step
