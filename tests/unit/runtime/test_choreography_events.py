"""What is published by one and heard by another, where each service has a store of its own; and events from outside."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from minuet import NotFound, RetryPolicy, Service, Transaction, action, event, injected, on, publish, wait_for, workflow
from minuet.runtime.letters import LetterChoice
from tests.unit.runtime.apart import C, O, apart, rows, until, until_quiet

pytestmark = pytest.mark.asyncio


@event("paper.written", version=1, key="title")
@dataclass(frozen=True)
class Written:
    title: str


@event("paper.printed", version=2, key="title")
@dataclass(frozen=True)
class Printed:
    title: str
    pages: int


@event("reader.asked", version=1, key="title", external=True)
@dataclass(frozen=True)
class Asked:
    title: str


class Author(Service):
    @action(emits=(Written,))
    async def write(self, title: str) -> str:
        publish(Written(title))
        return title


class Press(Service):
    def __init__(self) -> None:
        self.fails = False

    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists page (title text)")

    @on(Written, emits=(Printed,))
    async def set_type(self, written: Written, *, tx: Transaction = injected()) -> None:
        if self.fails:
            raise RuntimeError("no ink")
        await tx.execute("insert into page (title) values (?)", written.title)
        publish(Printed(written.title, 7))

    @on(Asked)
    async def answer(self, asked: Asked, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into page (title) values (?)", f"asked for {asked.title}")


class Shelf(Service):
    @action
    async def put(self, title: str, pages: int) -> str:
        return f"{title}, {pages} pages"


@workflow
async def make(title: str, *, author: Author, shelf: Shelf) -> str:
    written = await author.write(title)
    printed = await wait_for(Printed, key=written, by=shelf)
    return await shelf.put(printed.title, printed.pages)


@pytest.mark.parametrize("style", [O, C])
async def test_an_event_goes_from_an_action_to_a_reaction_and_from_there_to_a_wait(tmp_path: Path, style: str) -> None:
    services = [Author(), Press(), Shelf()]
    async with apart(tmp_path, services, [make], styles={"make": style}) as app:
        async with asyncio.timeout(60):
            assert await app.run(make, "tea") == "tea, 7 pages"
        assert rows(tmp_path, "press", "select title from page") == [("tea",)]


async def test_an_event_waits_for_whoever_is_stopped_and_is_heard_once(tmp_path: Path) -> None:
    async with apart(tmp_path, [Author(), Press(), Shelf()], [make], styles={"make": C}) as app:
        await app.hosts.stop("press")
        await app.control.start("make", b'"tea"', key="o-1")
        await until_quiet(app)
        await app.hosts.start("press")
        run = (await app.control.find("o-1")).run
        assert (await app.control.wait(run, 10)).state == "completed"
        for host in app.hosts.all():  # what was acknowledged, and not yet recorded by the broker, comes again
            if host.address != "shop-home":
                await app.hosts.stop(host.address)
                await app.hosts.start(host.address)
        await until_quiet(app)
        assert rows(tmp_path, "press", "select title from page") == [("tea",)]


async def test_an_event_from_outside_reaches_the_service_that_waits_for_it(tmp_path: Path) -> None:
    async with apart(tmp_path, [Author(), Press(), Shelf()], [make], styles={"make": C}) as app:
        receipt = await app.control.send("reader.asked", "tea", b'{"title": "tea"}', id_="a-1")
        assert receipt.outcome == "accepted"
        assert (await app.control.send("reader.asked", "tea", b'{"title": "tea"}', id_="a-1")).outcome == "duplicate"

        async def is_answered() -> bool:
            return rows(tmp_path, "press", "select title from page") == [("asked for tea",)]

        await until(is_answered)
        with pytest.raises(NotFound):
            await app.control.send("reader.slept", "tea", b"{}")


async def test_an_early_event_from_outside_is_kept_where_it_is_waited_for(tmp_path: Path) -> None:
    async with apart(tmp_path, [Author(), Press(), Shelf()], [make], styles={"make": C}, events=[Printed]) as app:
        await app.hosts.stop("press")
        early = await app.control.send("paper.printed", "tea", b'{"title": "tea", "pages": 3}', id_="p-1")
        assert early.waiting == 0
        async with asyncio.timeout(60):
            assert await app.run(make, "tea") == "tea, 3 pages"


async def test_a_dead_letter_of_a_service_is_found_and_mended_where_it_is(tmp_path: Path) -> None:
    press = Press()
    press.fails = True
    retry = {"retry": RetryPolicy(attempts=1)}
    async with apart(tmp_path, [Author(), press, Shelf()], [make], styles={"make": C}, settings=retry) as app:
        await app.control.start("make", b'"tea"', key="o-1")

        async def is_dead() -> bool:
            return bool(await app.control.letters.dead_letters())

        await until(is_dead)
        (letter,) = await app.control.letters.dead_letters()
        assert letter.subscription == "press.set_type"
        assert [(f.kind, f.id) for f in await app.control.failed()] == [("dead-letter", letter.id)]
        assert (await app.control.letters.dead_letter(letter.id)).event == "paper.written"
        assert {s.name for s in await app.control.letters.subscriptions()} == {"press.set_type", "press.answer"}
        press.fails = False
        said = await app.control.letters.retry(LetterChoice(ids=(letter.id,)))
        assert said.message.startswith("1 dead letter")
        run = (await app.control.find("o-1")).run
        assert (await app.control.wait(run, 10)).state == "completed"
        with pytest.raises(NotFound):
            await app.control.letters.dead_letter("press.set_type:999")
