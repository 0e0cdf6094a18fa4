"""Several workers share a store: what comes for a run of another owner is left for him, and what he says comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from minuet import Service, Transaction, action, compensation, event, injected, wait_for, workflow
from minuet.engine.row import Decision, InboxTaken
from minuet.errors import Conflict, NotFound, StoreUnavailable
from minuet.ids import parse_run
from tests.unit.runtime.sharing import LEASE_S, Cluster, Worker, cluster, play, until


@event("shop.paid", version=1, key="order")
@dataclass
class Paid:
    order: str
    amount: int


class Shop(Service):
    async def setup(self, tx: Transaction) -> None:
        await tx.execute("create table if not exists entry (id integer primary key, what text)")

    @action
    async def pack(self, order: str, *, tx: Transaction = injected()) -> str:
        await tx.execute("insert into entry (what) values (?)", f"packed {order}")
        return order

    @compensation(pack)
    async def unpack(self, order: str, *, tx: Transaction = injected()) -> None:
        await tx.execute("insert into entry (what) values (?)", f"unpacked {order}")

    @action(retry=1)
    async def label(self, order: str) -> str:
        raise RuntimeError("the printer is out of paper")


@workflow
async def order(number: str, *, shop: Shop) -> int:
    await shop.pack(number)
    paid = await wait_for(Paid, key=number)
    return paid.amount


@workflow
async def labelled(number: str, *, shop: Shop) -> str:
    return await shop.label(number)


def made(**more: Any) -> Any:
    def build(_: Worker) -> Sequence[Service]:
        return [Shop()]

    return cluster(build, [order, labelled], **more)


async def armed(c: Cluster, runs: int) -> None:
    await until(lambda: c.rows("select count(*) from minuet_wait") == [(runs,)])


def entries(c: Cluster) -> list[str]:
    return [what for (what,) in c.rows("select what from entry order by id")]


# Events


@pytest.mark.parametrize("is_first", [False, True])
def test_an_event_that_comes_to_another_worker_is_found_by_the_owner_of_the_wait(is_first: bool) -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        if is_first:
            await b.send(Paid("7", 12))
        run = await a.begin(order, "7")
        if not is_first:
            await armed(c, 1)
            await b.send(Paid("7", 12))
        assert (await b.wait(run)).result == 12
        assert c.writers(run) == ["a"]

    with made() as c:
        play(c, script(c))


def test_an_event_is_found_also_where_the_hint_is_lost() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        a.host.store.on_news(None)
        run = await a.begin(order, "7")
        await armed(c, 1)
        await b.send(Paid("7", 12))
        before = c.loop.time()
        assert (await a.wait(run)).result == 12
        assert 0.1 < c.loop.time() - before < 1.2

    with made() as c:
        play(c, script(c))


@pytest.mark.parametrize("seed", range(6))
def test_one_event_fills_one_of_two_waits_at_two_owners(seed: int) -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        runs = [await w.begin(order, "7") for w in (a, b)]
        await armed(c, 2)
        await b.send(Paid("7", 12))
        await until(lambda: sorted(map(c.state, runs)) == ["completed", "running"])
        await asyncio.sleep(5)
        assert sorted(map(c.state, runs)) == ["completed", "running"]
        await a.send(Paid("7", 13))
        assert sorted([(await a.wait(run)).result for run in runs]) == [12, 13]
        assert c.rows("select count(*) from minuet_inbox where state = 'taken'") == [(2,)]

    with made(seed=seed) as c:
        play(c, script(c))


def test_a_run_whose_event_somebody_else_took_is_read_anew_and_not_set_aside() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(order, "7")
        await armed(c, 1)
        c.databases["home"].partition(a.process)  # so that only we take it
        await b.send(Paid("7", 12), id_="e")
        (kept,) = await b.do(b.host.store.kept_events("shop.paid", "7"))
        taking = Decision()
        taking.inbox_taken = [InboxTaken("taken", 1, "1", "", kept.source, kept.message)]
        await b.do(b.host.participant.record(taking))
        c.databases["home"].heal(a.process)
        (wait,) = await b.do(b.host.store.waits_for("shop.paid", "7"))
        assert await a.do(a.host.participant.event_came(wait, kept)) is False
        await b.send(Paid("7", 13))
        assert (await b.wait(run)).result == 13

    with made() as c:
        play(c, script(c))


def test_events_without_an_id_get_different_ones_at_every_worker() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        await asyncio.gather(*(w.send(Paid(f"{n}", n)) for n in range(10) for w in (a, b)))
        assert c.rows("select count(*) from minuet_inbox") == [(20,)]

    with made() as c:
        play(c, script(c))


# Verbs


def test_each_verb_about_a_run_of_another_owner_is_performed_by_him() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(order, "7")
        await armed(c, 1)
        assert (await b.ask("pause", run, who="eve", note="a moment")).outcome == "paused"
        assert (await b.do(b.control.show(run))).paused
        assert (await b.ask("resume", run)).outcome == "resumed"
        assert (await b.ask("cancel", run)).outcome == "asked"
        assert (await b.wait(run)).state == "compensated"
        assert entries(c) == ["packed 7", "unpacked 7"]
        other = await a.begin(order, "8")
        await armed(c, 1)
        assert (await b.ask("terminate", other)).outcome == "terminated"
        assert (await b.wait(other)).state == "terminated"
        assert c.writers(run) == ["a"]
        audit = c.rows(
            "select who, verb, subject, outcome, note from minuet_audit where subject = ? order by rowid", run
        )
        assert audit[0] == ("eve", "pause", run, "paused", "a moment")
        assert [verb for _, verb, *_ in audit] == ["pause", "resume", "cancel"]
        await until(lambda: c.rows("select count(*) from minuet_passed") == [(0,)], 5)

    with made() as c:
        play(c, script(c))


def test_what_is_parked_at_another_owner_is_tried_again_and_resolved_from_here() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(labelled, "7")
        assert (await b.wait(run)).state == "stuck"
        assert (await b.ask("retry", run)).outcome == "due"
        await until(lambda: c.state(run) == "stuck")
        assert (await b.ask("resolve", run, "1", result=b'"by hand"')).outcome == "resolved"
        assert (await b.wait(run)).result == "by hand"

    with made() as c:
        play(c, script(c))


def test_a_refusal_of_the_owner_is_raised_where_it_was_asked() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(order, "7")
        await armed(c, 1)
        with pytest.raises(Conflict, match="waits to be tried again"):
            await b.ask("retry", run)
        with pytest.raises(NotFound):
            await b.ask("pause", "0000000000001")
        await b.send(Paid("7", 12))
        await b.wait(run)
        with pytest.raises(Conflict, match="has ended"):
            await b.ask("pause", run)

    with made() as c:
        play(c, script(c))


def test_a_verb_waits_for_whoever_takes_the_run_over() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(order, "7")
        await armed(c, 1)
        a.process.crash()
        before = c.loop.time()
        assert (await b.ask("cancel", run)).outcome == "asked"
        assert c.loop.time() - before < LEASE_S + 2
        assert (await b.wait(run)).state == "compensated"

    with made() as c:
        play(c, script(c))


def test_an_owner_that_never_answers_is_named_and_what_was_asked_is_not_said_to_be_undone() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(order, "7")
        await armed(c, 1)
        a.host.passing.perform = None
        with pytest.raises(StoreUnavailable, match="has not answered"):
            await b.ask("cancel", run)

    with made() as c:
        play(c, script(c))


def test_an_answer_that_nobody_fetches_does_not_stay_for_ever() -> None:
    async def script(c: Cluster) -> None:
        a, b = await c.started("a", "b")
        run = await a.begin(order, "7")
        await armed(c, 1)
        asking = b.process.spawn(b.control.pause(run))
        await until(lambda: c.rows("select count(*) from minuet_passed") == [(1,)])
        b.process.crash()
        assert not asking.done()
        await until(lambda: bool(c.rows("select paused from minuet_run where paused = 1")))
        await until(lambda: c.rows("select count(*) from minuet_passed") == [(0,)], 600)

    with made() as c:
        play(c, script(c))


# Messages


def apart(c: Cluster, name: str, address: str) -> Worker:
    offers = frozenset[str]() if address == "home" else frozenset({address})
    return c.worker(name, address=address, offers=offers, has_broker=True)


async def open_apart(c: Cluster) -> tuple[list[Worker], list[Worker]]:
    """Open two workers of home, and two of the shop, which share a store each and nothing with the others."""
    shops = [apart(c, f"shop {n}", "shop") for n in range(2)]
    homes = [apart(c, f"home {n}", "home") for n in range(2)]
    await asyncio.gather(*(w.start() for w in (*homes, *shops)))
    await until(lambda: all(len(w.shards) == 4 for w in (*homes, *shops)))
    digests = [plan.digest for plan in homes[0].app.plans(c.settings).values()]
    await until(lambda: not any(h.host.activation.missing(d) for h in homes for d in digests))
    return homes, shops


@pytest.mark.parametrize("style", ["orchestration", "choreography"])
def test_messages_reach_the_owner_of_their_run_whichever_worker_they_are_delivered_to(style: str) -> None:
    async def script(c: Cluster) -> None:
        homes, shops = await open_apart(c)
        runs = [await homes[n % 2].begin(order, f"{n}") for n in range(12)]
        await until(lambda: len(c.database("shop").query("select what from entry")) == 12)
        for n in range(12):
            await homes[(n + 1) % 2].send(Paid(f"{n}", n))
        assert [(await homes[0].wait(run)).result for run in runs] == list(range(12))
        assert sum(w.host.passing.left for w in (*homes, *shops)) > 0
        await until(lambda: not any(d.query("select 1 from minuet_passed") for d in c.databases.values()))
        for run in runs:
            home = {w for w in c.writers(run) if w.startswith("home")}
            assert len(home) == 1
            assert len(c.writers(run)) <= 2 + len(home) + 1

    with made(styles={"order": style}, store_per_service=True) as c:
        play(c, script(c))


def test_messages_that_were_left_for_a_crashed_owner_are_taken_by_the_next() -> None:
    async def script(c: Cluster) -> None:
        homes, shops = await open_apart(c)
        shops[0].process.pause()  # what comes for it is left by the other one
        runs = [await homes[0].begin(order, f"{n}") for n in range(16)]
        await asyncio.sleep(3)
        shops[0].process.crash()
        await until(lambda: len(c.database("shop").query("select what from entry")) == 16)
        for run in runs:
            assert (await homes[1].ask("cancel", run)).outcome == "asked"
        for run in runs:
            assert (await homes[1].wait(run)).state == "compensated"
        assert len(c.database("shop").query("select what from entry")) == 32

    with made(store_per_service=True) as c:
        play(c, script(c))


def test_messages_that_a_crashed_worker_has_not_sent_are_sent_by_whoever_takes_over() -> None:
    async def script(c: Cluster) -> None:
        homes, _ = await open_apart(c)
        c.broker.partition(homes[0].process)
        await homes[0].begin(order, "7")
        homes[0].process.crash()
        crashed = c.loop.time()
        await until(lambda: bool(c.database("shop").query("select 1 from entry")))
        assert c.loop.time() - crashed < LEASE_S + 3

    with made(store_per_service=True) as c:
        play(c, script(c))


def test_a_verb_about_a_step_of_another_participant_reaches_the_owner_there() -> None:
    async def script(c: Cluster) -> None:
        homes, _ = await open_apart(c)
        runs = [await homes[0].begin(labelled, f"{n}") for n in range(6)]
        shop = c.database("shop")
        await until(lambda: len(shop.query("select 1 from minuet_attempt where state = 'parked'")) == 6)
        for run in runs:
            assert (await homes[1].ask("resolve", run, "1", result=b'"by hand"')).outcome == "asked"
        assert [(await homes[0].wait(run)).result for run in runs] == ["by hand"] * 6

    with made(store_per_service=True) as c:
        play(c, script(c))


def test_nothing_but_what_was_left_is_passed_on_where_a_store_is_held_by_one() -> None:
    async def script(c: Cluster) -> None:
        home, shop = apart(c, "home", "home"), apart(c, "shop", "shop")
        await asyncio.gather(home.start(), shop.start())
        digests = [plan.digest for plan in home.app.plans(c.settings).values()]
        await until(lambda: not any(home.host.activation.missing(d) for d in digests))
        run = await home.begin(order, "7")
        assert (await home.ask("cancel", run)).outcome == "asked"
        assert (await home.wait(run)).state == "compensated"
        assert home.host.passing.left == shop.host.passing.left == 0
        assert parse_run(run) is not None

    with made(shards=None, store_per_service=True) as c:
        play(c, script(c))
