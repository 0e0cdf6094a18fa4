"""What cannot be taken is kept with its reason, and found, taken or discarded by a person; nothing is dropped."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from minuet import App, Conflict, InvalidPayload, NotFound
from minuet.contracts.envelope import Envelope
from minuet.engine.broker import EVERYTHING
from minuet.ids import parse_run
from minuet.runtime.letters import LetterChoice
from minuet.runtime.view import FailedView
from tests.unit.runtime.apart import C, O, apart, entries, line, place, rows, shop, until, until_quiet

pytestmark = pytest.mark.asyncio


@dataclass
class Wire:
    """An open shop, and everything that was said in it so far."""

    app: App
    said: list[Envelope]

    async def say(self, envelope: Envelope) -> None:
        """Say something in somebody's name."""
        assert self.app.hosts.broker is not None
        await self.app.hosts.broker.publish([envelope])
        await until_quiet(self.app)

    def of(self, type_: str) -> Envelope:
        """Give what was said of this type."""
        return next(e for e in self.said if e.type == type_)

    async def kept(self) -> list[FailedView]:
        """Wait until a message is kept by whoever should have taken it; give all that are."""
        found: list[FailedView] = []

        async def something_is() -> bool:
            found[:] = await self.app.control.failed()
            return any(not f.id.startswith("shop-home-observer") for f in found)

        await until(something_is)
        return found


@asynccontextmanager
async def wire(folder: Path, style: str = C) -> AsyncIterator[Wire]:
    async with apart(folder, shop(), [line], styles={"line": style}) as app:
        assert app.hosts.broker is not None
        said: list[Envelope] = []
        ears: Any = await app.hosts.broker.subscribe(
            "ears", [EVERYTHING], lambda batch: said.extend(r.envelope for r in batch)
        )
        assert await app.run(line, "tea", key="o-1") == "paid #tea, 3 pieces"
        await until_quiet(app)
        yield Wire(app, said)
        await ears.close()


def altered(e: Envelope, **attributes: str | int | None) -> Envelope:
    """Give a message under another id, with other attributes (None: without)."""
    changed: dict[str, Any] = {**e.attributes, **attributes}
    return e._replace(id=f"{e.id}-altered", attributes={n: v for n, v in changed.items() if v is not None})


WRONG = [
    ({"minuetrun": None}, "cannot be read"),
    ({"minuetrun": "no-run"}, "cannot be read"),
    ({"minuetlabel": None}, "cannot be read"),
    ({"minuetlabel": 7}, "cannot be read"),
    ({"minuetposition": "99"}, "cannot be taken"),
    ({"minuetlabel": "rejected:unheard-of"}, "cannot be taken"),
    ({"minuetcarry": "{"}, "cannot be taken"),
]


@pytest.mark.parametrize(("change", "why"), WRONG)
async def test_a_message_with_a_wrong_attribute_is_kept_and_harms_nobody(
    tmp_path: Path, change: dict[str, Any], why: str
) -> None:
    async with wire(tmp_path) as w:
        await w.say(altered(w.of("payments.charge"), **change))
        (failed, *_) = await w.kept()
        assert (failed.kind, failed.key, failed.position) == ("message", "o-1", "payments.charge")
        assert why in failed.reason
        assert failed.id.startswith("inventory!")
        assert await w.app.run(line, "more", key="o-2") == "paid #more, 3 pieces", "the others go on"


async def test_a_fact_that_is_not_its_senders_to_say_is_kept_at_the_border(tmp_path: Path) -> None:
    async with wire(tmp_path) as w:
        fact = w.of("payments.charge")
        await w.say(fact._replace(source="/shipping"))
        failed = await w.kept()
        assert all(f.reason.startswith("border: /shipping says ok at 2") for f in failed)
        assert entries(tmp_path, "o-1")["inventory"] == ["reserved tea"]


async def test_a_command_of_somebody_who_does_not_command_is_kept_and_not_obeyed(tmp_path: Path) -> None:
    async with wire(tmp_path, O) as w:
        command = next(e for e in w.said if e.topic == "payments.commands" and "minuetdirection" in e.attributes)
        other = {**command.attributes, "minuetrun": _another(str(command.attributes["minuetrun"]))}
        await w.say(command._replace(id="forged", source="/shipping", attributes=other))
        (failed,) = await w.kept()
        assert failed.reason.startswith("border: /shipping says asked at 2")
        assert len(rows(tmp_path, "payments", "select what from entry")) == 1


async def test_a_fact_that_contradicts_what_is_known_is_kept_and_the_run_is_left_alone(tmp_path: Path) -> None:
    async with wire(tmp_path) as w:
        await w.app.hosts.stop("shipping")
        await w.app.control.start("line", b'"tea"', key="o-2")
        await until(lambda: _is(entries(tmp_path, "o-2")["inventory"], ["reserved tea"]))
        await until_quiet(w.app)
        fact = next(e for e in w.said if e.type == "inventory.reserve" and e.key == "o-2")
        lie = fact._replace(
            id="lie", attributes={**fact.attributes, "minuetlabel": "rejected:sold-out", "minuetto": "shipping"}
        )
        await w.say(lie)
        await w.app.hosts.start("shipping")
        run = (await w.app.control.find("o-2")).run
        assert (await w.app.control.wait(run, 10)).state == "completed"
        (failed,) = await w.kept()
        assert failed.id.startswith("shipping!")
        assert failed.reason.startswith("3  is ok here, and rejected:sold-out was heard")


async def test_a_fact_that_comes_after_a_run_was_terminated_is_known_and_nothing_follows(tmp_path: Path) -> None:
    async with wire(tmp_path) as w:
        await w.app.hosts.stop("inventory")
        view, _ = await w.app.control.start("line", b'"tea"', key="o-2")
        await until(lambda: _is(entries(tmp_path, "o-2")["payments"], ["charged #tea"]))
        await w.app.control.terminate(view.run)
        await until_quiet(w.app)
        fact = w.of("inventory.reserve")
        await w.say(fact._replace(id="late", key="o-2", attributes={**fact.attributes, "minuetrun": view.run}))
        assert entries(tmp_path, "o-2")["shipping"] == []
        labels = rows(
            tmp_path, "shipping", "select position, label from minuet_fact where run = ?", parse_run(view.run)
        )
        assert labels == [("3", "ok")]
        await w.app.hosts.stop("shipping")
        await w.app.hosts.start("shipping")
        await until_quiet(w.app)
        assert entries(tmp_path, "o-2")["shipping"] == []


async def test_a_fact_of_a_run_that_has_never_begun_at_its_own_home_is_kept(tmp_path: Path) -> None:
    async with wire(tmp_path) as w:
        fact = w.of("shipping.ship")
        unknown = {**fact.attributes, "minuetrun": _another(str(fact.attributes["minuetrun"]))}
        await w.say(fact._replace(id="ghost", attributes=unknown))
        assert any("has begun here" in f.reason and f.id.startswith("shop-home!") for f in await w.kept())
        assert len(await w.app.control.runs()) == 1


@pytest.mark.parametrize(
    ("attributes", "data"),
    [
        ({"minuetverb": "dance", "minuetto": "payments"}, b"{}"),
        ({"minuetverb": "plan", "minuetto": "payments", "minuethome": "shop-home"}, None),
        ({"minuetverb": "pause", "minuetto": "payments"}, b'{"run": 7}'),
        ({"minuetverb": "pause", "minuetto": "payments"}, b"[]"),
        ({"minuetverb": "retire", "minuetto": "payments"}, b"{}"),
        ({}, b"{}"),
    ],
)
async def test_a_message_that_asks_for_what_nobody_knows_is_kept_or_refused(
    tmp_path: Path, attributes: dict[str, str | int], data: bytes | None
) -> None:
    async with wire(tmp_path) as w:
        await w.say(Envelope("payments.commands", "odd", "/shop-home", "odd", "k", 0, attributes, data))
        if attributes.get("minuetverb") != "plan":  # which is answered with a refusal
            (failed,) = await w.kept()
            assert (failed.kind, failed.id.partition("!")[0]) == ("message", "payments")
        assert await w.app.run(line, "more", key="o-2") == "paid #more, 3 pieces"


async def test_a_kept_message_is_shown_tried_again_and_discarded_by_a_person(tmp_path: Path) -> None:
    async with wire(tmp_path) as w:
        letters = w.app.control.letters
        await w.say(altered(w.of("payments.charge"), minuetposition="99"))
        id_ = next(f.id for f in await w.kept() if f.id.startswith("inventory!"))
        shown = await letters.dead_letter(id_)
        assert (shown.event, shown.key, shown.state) == ("payments.charge", "o-1", "kept")
        assert "cannot be taken" in shown.error
        with pytest.raises(Conflict, match="still cannot be taken"):
            await letters.retry(LetterChoice(ids=(id_,)))
        assert id_ in [f.id for f in await w.app.control.failed()], "it is kept still"
        with pytest.raises(Conflict):
            await letters.edit(id_, b"{}", note="a try")
        with pytest.raises(Conflict):
            await letters.skip(LetterChoice(ids=(id_,)))
        with pytest.raises(InvalidPayload):
            await letters.discard(LetterChoice(ids=(id_,)), note=" ")
        for failed in await w.app.control.failed():
            assert (await letters.discard(LetterChoice(ids=(failed.id,)), note="a forgery")).outcome == "discard"
        assert await w.app.control.failed() == []
        with pytest.raises(NotFound):
            await letters.dead_letter(id_)
        audit = await w.app.hosts.services[2].store.audit(9)
        assert ("discard", id_, "a forgery") in [(a.verb, a.subject, a.note) for a in audit]


async def test_what_came_for_a_run_that_is_set_aside_is_taken_when_it_is_mended(tmp_path: Path) -> None:
    async with apart(tmp_path, shop(), [place], styles={"place": C}) as app:
        await app.hosts.stop("inventory")
        view, _ = await app.control.start("place", b'"tea"', key="o-1")
        await until(lambda: _is(entries(tmp_path, "o-1")["payments"], ["charged #tea"]))
        await until_quiet(app)
        await app.hosts.stop("shipping")
        number = parse_run(view.run)
        assert number is not None
        _set_aside(tmp_path, number)
        await app.hosts.start("shipping")
        await app.hosts.start("inventory")

        async def is_kept() -> bool:
            return any("its run is quarantined" in f.reason for f in await app.control.failed())

        await until(is_kept)
        assert {f.kind for f in await app.control.failed()} == {"run", "message"}
        shown = await app.control.show(view.run)
        assert (shown.state, shown.reason) == ("quarantined", "shipping: by hand")
        assert (await app.control.retry(view.run)).outcome == "asked"

        async def is_over() -> bool:
            return (await app.control.show(view.run)).state == "completed"

        await until(is_over)
        await until_quiet(app)
        assert await app.control.failed() == []


def _set_aside(folder: Path, run: int) -> None:
    connection = sqlite3.connect(folder / "shop.shipping.db")
    connection.execute(
        "update minuet_run set state = 'quarantined', load = 0, reason = 'by hand' where run = ?", (run,)
    )
    connection.commit()
    connection.close()


def _another(run: str) -> str:
    """Give the id of a run that there is not."""
    return run[:-1] + ("0" if run[-1] != "0" else "1")


async def _is(found: object, wanted: object) -> bool:
    return found == wanted
