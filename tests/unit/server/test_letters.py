"""Dead letters and subscriptions over HTTP, as a client asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import pytest

from minuet.errors import InvalidPayload, NotFound
from minuet.runtime.http_client import HttpControl
from minuet.runtime.letters import EVERYTHING, LetterChoice, Letters
from minuet.server.app import make_server
from tests.fake_control import FakeControl, make_letter

T = TypeVar("T")


@pytest.fixture
def control() -> FakeControl:
    control = FakeControl()
    control.letters.known = {f"mail.tell:{n}": make_letter(f"mail.tell:{n}") for n in (1, 2)}
    return control


def ask(control: FakeControl, question: Callable[[Letters], Awaitable[T]]) -> T:
    async def asking() -> T:
        transport = httpx.ASGITransport(make_server(control))
        async with HttpControl("http://127.0.0.1:8640", transport=transport) as client:
            return await question(client.letters)

    return asyncio.run(asking())


def post(control: FakeControl, path: str, body: str) -> httpx.Response:
    async def asking() -> httpx.Response:
        transport = httpx.ASGITransport(make_server(control))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8640") as client:
            return await client.post(path, content=body, headers={"Content-Type": "application/json"})

    return asyncio.run(asking())


def test_letters_come_as_they_are(control: FakeControl) -> None:
    known = list(control.letters.known.values())
    assert ask(control, lambda x: x.dead_letters()) == known
    assert ask(control, lambda x: x.dead_letter("mail.tell:2")) == known[1]
    assert ask(control, lambda x: x.dead_letters(LetterChoice(ids=("mail.tell:2",)))) == known[1:]
    assert ask(control, lambda x: x.dead_letters(LetterChoice(fingerprint="other"))) == []
    ask(control, lambda x: x.dead_letters(LetterChoice(reason="exhausted"), after="mail.tell:1", limit=5))
    assert control.letters.asked[-1] == ("dead_letters", LetterChoice(reason="exhausted"), "mail.tell:1", 5)


def test_one_letter_is_mended(control: FakeControl) -> None:
    one = LetterChoice(ids=("mail.tell:1",))
    ask(control, lambda x: x.retry(one, who="ada"))
    ask(control, lambda x: x.skip(one, who="ada", note="later"))
    ask(control, lambda x: x.discard(one, who="ada", note="never"))
    ask(control, lambda x: x.edit("mail.tell:1", b'{"isbn":"979"}', who="ada", note="a wrong number"))
    assert control.letters.asked == [
        ("retry", one, "ada", None),
        ("skip", one, "ada", "later"),
        ("discard", one, "ada", "never"),
        ("edit", one, b'{"isbn":"979"}', "ada", "a wrong number"),
    ]
    with pytest.raises(NotFound, match="no dead letter"):
        ask(control, lambda x: x.retry(LetterChoice(ids=("mail.tell:9",))))


def test_many_letters_are_mended_at_once(control: FakeControl) -> None:
    both, cause = LetterChoice(ids=("mail.tell:1", "mail.tell:2")), LetterChoice(fingerprint="2bafded7")
    ask(control, lambda x: x.retry(both))
    ask(control, lambda x: x.discard(cause, who="ada", note="one cause"))
    assert control.letters.asked == [("retry", both, "", None), ("discard", cause, "ada", "one cause")]


def test_all_of_them_are_meant_only_where_that_is_said(control: FakeControl) -> None:
    with pytest.raises(InvalidPayload, match="no dead letter is named"):
        ask(control, lambda x: x.retry(LetterChoice()))
    answer = post(control, "/api/v1/dead-letters/retry", '{"everything": true}')
    assert answer.status_code == 200
    ask(control, lambda x: x.skip(EVERYTHING))
    assert control.letters.asked == [("retry", EVERYTHING, "", None), ("skip", EVERYTHING, "", None)]


def test_subscriptions_are_listed_and_told_once_more(control: FakeControl) -> None:
    (found,) = ask(control, lambda x: x.subscriptions())
    assert (found.name, found.position, found.newest) == ("mail.tell", 3, 5)
    said = ask(control, lambda x: x.replay("mail.tell", since_ms=7, who="ada"))
    assert said.message == "2 events are applied once more"
    assert control.letters.asked == [("replay", "mail.tell", 7, None, "ada", None)]
