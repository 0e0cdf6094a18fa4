from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx
import msgspec
import pytest

from minuet.errors import (
    Busy,
    Conflict,
    InvalidPayload,
    KeyConflict,
    MinuetError,
    NotFound,
    NotRunning,
    StoreUnavailable,
)
from minuet.runtime.control import Control
from minuet.runtime.http_client import HttpControl
from minuet.server.app import make_server
from tests.fake_control import FakeControl

T = TypeVar("T")


@asynccontextmanager
async def connected(control: FakeControl) -> AsyncIterator[Control]:
    transport = httpx.ASGITransport(make_server(control))
    async with HttpControl("http://127.0.0.1:8640/", transport=transport) as client:
        yield client


def ask(control: FakeControl, question: Callable[[Control], Awaitable[T]]) -> T:
    async def asking() -> T:
        async with connected(control) as client:
            return await question(client)

    return asyncio.run(asking())


def started(control: FakeControl, key: str = "o-1") -> str:
    return ask(control, lambda c: c.start("greet", b'"you"', key=key))[0].run


def test_a_start_tells_whether_the_run_is_new() -> None:
    control = FakeControl()
    view, is_new = ask(control, lambda c: c.start("greet", b'"you"', key="o-1"))
    again, is_new_again = ask(control, lambda c: c.start("greet", b'"you"', key="o-1"))
    assert (is_new, is_new_again, view.run == again.run) == (True, False, True)
    assert control.inputs[view.run] == b'"you"'


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        (lambda c: c.start("gret", b'"x"'), NotFound),
        (lambda c: c.start("greet", b"{}"), InvalidPayload),
        (lambda c: c.start("greet", b"NaN"), InvalidPayload),
        (lambda c: c.start("greet", b'"other"', key="o-1"), KeyConflict),
        (lambda c: c.show("NOSUCHRUN"), NotFound),
        (lambda c: c.show("../../healthz"), NotFound),
        (lambda c: c.runs(states=("unhappy",)), InvalidPayload),
        (lambda c: c.find("nobody"), NotFound),
        (lambda c: c.plan("nothing"), NotFound),
        (lambda c: c.send("nothing", "k", b"{}"), NotFound),
        (lambda c: c.send("greetings.returned", "k", b"[]"), InvalidPayload),
    ],
)
def test_an_error_comes_back_as_what_it_was(question: Callable[[Control], Any], kind: type[MinuetError]) -> None:
    control = FakeControl()
    started(control)
    with pytest.raises(kind) as raised:
        ask(control, question)
    assert type(raised.value) is kind
    assert raised.value.message


def test_an_error_keeps_its_remedy_and_what_it_is_about() -> None:
    with pytest.raises(NotFound) as raised:
        ask(FakeControl(), lambda c: c.start("gret", b'"x"'))
    assert raised.value.remedy == "Known are: greet"
    assert raised.value.subject == {"workflow": "gret"}


def test_no_room_is_busy_and_says_when_to_come_again() -> None:
    with pytest.raises(Busy) as raised:
        ask(FakeControl(room=0), lambda c: c.start("greet", b'"x"', wait_for_room=False))
    assert raised.value.retry_after_s == 1.0


def test_whoever_waits_for_room_gets_it_once_there_is_some(monkeypatch: pytest.MonkeyPatch) -> None:
    control = FakeControl(room=0)

    async def passing(_: float) -> None:
        control.room = 1

    monkeypatch.setattr("minuet.runtime.http_client.asyncio.sleep", passing)
    assert ask(control, lambda c: c.start("greet", b'"x"'))[1] is True


def test_a_key_finds_the_newest_run_with_its_facts() -> None:
    control = FakeControl()
    run = started(control, "o 1/&?")
    found = ask(control, lambda c: c.find("o 1/&?", "greet"))
    assert (found.run, found.facts[0].what) == (run, "greeter.greet")


def test_waiting_ends_when_the_run_has_ended_or_the_time_is_over() -> None:
    control = FakeControl()
    run = started(control)
    assert ask(control, lambda c: c.wait(run, 0)).state == "running"
    control.change(run, state="stuck")
    assert ask(control, lambda c: c.wait(run, None)).state == "stuck"
    control.change(run, state="completed")
    assert ask(control, lambda c: c.wait(run, 30)).state == "completed"


def test_each_verb_arrives_with_all_that_it_was_told() -> None:
    control = FakeControl()
    run = started(control)
    for verb in ("cancel", "terminate", "pause"):
        answer = ask(control, lambda c, verb=verb: getattr(c, verb)(run, who="ada", note="n"))  # type: ignore[misc]
        assert answer.message == f"{verb} is recorded"
        assert control.asked[-1] == (verb, run, "ada", "n")
    ask(control, lambda c: c.retry(run, "2a", who="ada"))
    assert control.asked[-1] == ("retry", run, "2a", "ada", None)
    ask(control, lambda c: c.resolve(run, "2a", result=b'{"id":1}', note="n"))
    assert control.asked[-1] == ("resolve", run, "2a", b'{"id":1}', None, "", "n")
    ask(control, lambda c: c.skip(run, "2a", note="n"))
    assert control.asked[-1] == ("skip", run, "2a", "", "n")
    with pytest.raises(Conflict):
        ask(control, lambda c: c.resume(run))


def test_events_plans_failures_and_health_come_back_as_they_are() -> None:
    control = FakeControl(plan_texts={"7c1e03d591ab77c0": b'{"format":1}'})
    assert ask(control, lambda c: c.send("greetings.returned", "k", b'{"a":1}', id_="e-1")).outcome == "accepted"
    assert ask(control, lambda c: c.send("greetings.returned", "k", b'{"a":1}', id_="e-1")).outcome == "duplicate"
    assert ask(control, lambda c: c.plans())[0].digest == "7c1e03d591ab77c0"
    assert ask(control, lambda c: c.plan("greet")) == b'{"format":1}'
    assert ask(control, lambda c: c.failed()) == []
    assert ask(control, lambda c: c.health()) == control.health_now


def over(answer: Callable[[httpx.Request], httpx.Response]) -> HttpControl:
    return HttpControl("http://127.0.0.1:1", transport=httpx.MockTransport(answer))


def failing(client: HttpControl, question: Callable[[Control], Awaitable[Any]]) -> MinuetError:
    async def asking() -> MinuetError:
        async with client:
            with pytest.raises(MinuetError) as raised:
                await question(client)
            return raised.value

    return asyncio.run(asking())


def test_nobody_there_is_not_running() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    error = failing(over(refuse), lambda c: c.health())
    assert isinstance(error, NotRunning)
    assert error.subject["url"] == "http://127.0.0.1:1"


def test_a_lost_answer_leaves_unknown_what_was_done() -> None:
    def lose(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("timed out")

    error = failing(over(lose), lambda c: c.start("greet", b'"x"'))
    assert isinstance(error, StoreUnavailable)
    assert "unknown what was done" in error.message
    assert "unknown" not in failing(over(lose), lambda c: c.health()).message


@pytest.mark.parametrize("content", [b"<html>", b"{}", b"", b'{"ready": "yes"}'])
@pytest.mark.parametrize("status", [200, 404, 502])
def test_something_else_that_answers_is_named(content: bytes, status: int) -> None:
    error = failing(over(lambda _: httpx.Response(status, content=content)), lambda c: c.health())
    assert isinstance(error, NotRunning)
    assert "is not Minuet" in error.message


def test_no_room_for_another_connection_is_busy() -> None:
    error = failing(over(lambda _: httpx.Response(503, text="Service Unavailable")), lambda c: c.health())
    assert isinstance(error, Busy)


def test_a_code_of_a_later_release_is_still_an_error_of_ours() -> None:
    said = {"code": "brand-new", "detail": "something new", "subject": {"message": 1, "remedy": 2, "x": 3}}
    answer = httpx.Response(409, content=msgspec.json.encode(said))
    error = failing(over(lambda _: answer), lambda c: c.health())
    assert (type(error), error.message, error.subject) == (MinuetError, "something new", {"x": 3})
