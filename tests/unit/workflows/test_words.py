from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from minuet.contracts.action import Rejection
from minuet.contracts.message import event
from minuet.contracts.service import Service, action
from minuet.contracts.step import CallSite, Promise, performing
from minuet.errors import DeclarationError, MisplacedCall
from minuet.workflows import words
from minuet.workflows.words import (
    AttemptBlock,
    ForEach,
    Sleeping,
    Together,
    WaitFor,
    at,
    attempt,
    choreography,
    deadline,
    each,
    orchestration,
    sleep,
    together,
    wait_for,
)


@event("orders.approved", version=1, key="order")
@dataclass(frozen=True)
class Approved:
    order: str


class SoldOut(Rejection): ...


class Orders(Service):
    @action
    async def open(self, order: str) -> str:
        return order


class Recorder:
    """Performs by telling what it was asked."""

    def __init__(self, *, swallows: bool = False) -> None:
        self.log: list[Any] = []
        self.swallows = swallows

    async def perform(self, promise: Promise[Any]) -> Any:
        self.log.append(promise)
        return "done"

    async def enter(self, block: Any) -> None:
        self.log.append(("enter", block.word))

    async def leave(self, block: Any, error: BaseException | None) -> bool:
        self.log.append(("leave", block.word, error))
        return self.swallows

    def decide(self, service: object, condition: object, site: CallSite) -> bool:
        self.log.append(("decide", service, site.line > 0))
        return bool(condition)


@pytest.mark.asyncio
async def test_outside_of_a_workflow_no_word_means_anything() -> None:
    orders = Orders()
    for promise in (
        together(orders.open("a"), orders.open("b")),
        each(["a"], orders.open, limit=1),
        wait_for(Approved, key="a"),
        sleep(5),
    ):
        with pytest.raises(MisplacedCall, match="dry_run"):
            await promise
    for block in (attempt(), deadline(5), orchestration(), choreography()):
        with pytest.raises(MisplacedCall):
            async with block:
                raise AssertionError
    with pytest.raises(MisplacedCall):
        at(orders, condition=True)


@pytest.mark.asyncio
async def test_inside_the_performer_gives_them_their_meaning() -> None:
    orders, performer = Orders(), Recorder()
    with performing(performer):
        await together(orders.open("a"), orders.open("b"))
        await each(["a"], orders.open, limit=1)
        await wait_for(Approved, key="a", timeout=5)
        await sleep(5)
        assert at(orders, condition=True)
        async with orchestration(by="desk"):
            pass
    assert [type(p) for p in performer.log[:4]] == [Together, ForEach, WaitFor, Sleeping]
    assert performer.log[4:] == [("decide", orders, True), ("enter", "a section"), ("leave", "a section", None)]


@pytest.mark.asyncio
async def test_a_block_swallows_what_its_performer_says() -> None:
    with performing(Recorder(swallows=True)):
        async with attempt(SoldOut) as tried:
            raise SoldOut
    assert tried.rejected is None
    with performing(Recorder()), pytest.raises(SoldOut):
        async with attempt(SoldOut):
            raise SoldOut


def test_an_attempt_knows_the_codes_that_it_takes() -> None:
    assert attempt(SoldOut).codes == frozenset({"sold-out"})
    assert attempt().codes is None
    assert isinstance(attempt(), AttemptBlock)


def test_a_wait_is_for_an_event() -> None:
    with pytest.raises(DeclarationError, match="no event"):
        wait_for(SoldOut, key="a")


def test_durations_are_checked_where_they_are_written() -> None:
    with pytest.raises(DeclarationError):
        wait_for(Approved, key="a", timeout=0)
    with pytest.raises(DeclarationError):
        deadline(-1)


def test_words_of_a_later_time_are_not_there() -> None:
    assert [w for w in ("child", "first", "continue_as", "reset") if hasattr(words, w)] == []
