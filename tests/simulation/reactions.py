"""Events in simulated worlds: random publishers and subscribers, and what each event must have come to at each of them.

Events come from the steps of runs, some of which are taken back, from outside, now and then twice, and from reactions
to other events. Each names itself, also across attempts, and each reaction writes down whom it has applied: in its
transaction, or in the world outside. What each should have applied follows from what the others did.

    I10  ordered subscriptions have applied the events of a key in the order of their publication
    I11  what was acknowledged is there
    E1   a transactional reaction applies each event once; a plain one at least once, under one key
    E2   what is taken back is undone if it was applied, and never otherwise
    E3   dead letters are what cannot be applied, and nothing else; they hold up their key, or nothing
    E4   what a reaction publishes is there if, and only if, what it has written is
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from minuet import (
    App,
    Context,
    Rejection,
    Service,
    Transaction,
    action,
    compensation,
    event,
    injected,
    on,
    publish,
    workflow,
)
from minuet.contracts.action import RetryPolicy
from minuet.contracts.message import event_spec
from minuet.engine.dead_letter import Reason
from minuet.errors import MinuetError
from minuet.runtime.letters import LetterChoice
from minuet.runtime.settings import Settings
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.settled import unsettled
from minuet.testing.simulation.world import Layout, Verdict, World

SETTINGS = Settings(retry=RetryPolicy(attempts=1_000, first_ms=20, at_most_ms=1_000))
RETRY = RetryPolicy(attempts=40, first_ms=20, at_most_ms=500)  # more than faults can use up
ENDS_WITHIN_S = 1_800.0
LOOK_EVERY_S = 0.5
MENDING = ("leave", "retry", "skip", "discard")


class No(Rejection, code="no"):
    """Says no."""


@event("shop.placed", version=1, key="key")
@dataclass(frozen=True)
class Placed:
    """Of runs, and from outside."""

    id: str
    key: str


@event("billing.billed", version=1, key="key")
@dataclass(frozen=True)
class Billed:
    """Of the reaction to `Placed`."""

    id: str
    key: str


@event("stock.shipped", version=1, key="key")
@dataclass(frozen=True)
class Shipped:
    """Of the reaction to `Billed`."""

    id: str
    key: str


@dataclass(frozen=True)
class Order:
    """What a run is given: so many events of a key, which are taken back unless all goes well."""

    name: str
    key: str
    events: int
    goes_well: bool


class _Team(Service):
    def __init__(self, workload: ReactionWorkload) -> None:
        self.workload = workload


class Shop(_Team):
    """Publishes from the steps of a workflow."""

    @action(emits=(Placed,))
    async def place(self, order: Order) -> Order:
        """Publish the events of an order."""
        await self.workload.trouble("place", "")
        for n in range(order.events):
            publish(Placed(f"{order.name}.{n}", order.key))
        return order

    @compensation(place)
    async def call_off(self, order: Order) -> None:
        """Take `place` back, and with it what it has published."""

    @action(rejects=(No,))
    async def charge(self, order: Order) -> str:
        """Say whether all goes well."""
        await self.workload.trouble("charge", "")
        if not order.goes_well:
            raise No(order.name)
        return order.name


@workflow
async def sell(order: Order, *, shop: Shop) -> str:
    """Publish, then find out whether that was right."""
    placed = await shop.place(order)
    return await shop.charge(placed)


class Ordered(NamedTuple):
    """The policies of an ordered subscription."""

    poison: str = "block"
    on_gap: str = "park"
    on_late: str = "drop"
    buffer: int = 1_000
    buffer_age_ms: int = 300_000

    def said(self) -> dict[str, Any]:
        """Give it as `@on` takes it."""
        return {
            "order_key": "key",
            "poison": self.poison,
            "on_gap": self.on_gap,
            "on_late": self.on_late,
            "buffer": self.buffer,
            "buffer_age": timedelta(milliseconds=self.buffer_age_ms),
        }


# What each subscription hears, and what it publishes in turn.
HEARS = {
    "billing.bill": Placed,
    "stock.hold": Placed,
    "stock.ship": Billed,
    "books.enter": Placed,
    "mail.tell": Placed,
    "mail.thank": Shipped,
}
PUBLISHES = {"billing.bill": Billed, "stock.ship": Shipped}
ORDERED = ("billing.bill", "stock.ship", "books.enter", "mail.tell")
UNDOES = ("stock.hold", "books.enter")
PLAIN = ("mail.tell", "mail.thank")
FROM = {Placed: "", Billed: ">bill", Shipped: ">bill>ship"}  # what the names of events end with


@lru_cache(maxsize=64)
def teams(bills: Ordered, ships: Ordered, enters: Ordered, tells: Ordered, limit: int) -> tuple[type[_Team], ...]:
    """Declare the services under these policies."""

    class Billing(_Team):
        async def setup(self, tx: Transaction) -> None:
            await tx.execute(TABLE.format("billing"))

        @on(Placed, start="beginning", retry=RETRY, emits=(Billed,), **bills.said())
        async def bill(self, placed: Placed, *, tx: Transaction = injected()) -> None:
            await self.workload.write("billing.bill", placed, tx)
            publish(Billed(f"{placed.id}>bill", placed.key))

    class Stock(_Team):
        async def setup(self, tx: Transaction) -> None:
            await tx.execute(TABLE.format("stock"))

        @action
        async def give_back(self, placed: Placed, *, tx: Transaction = injected()) -> None:
            await self.workload.write("stock.hold", placed, tx, sign=-1)

        @on(Placed, start="beginning", retry=RETRY, limit=limit, on_compensated=give_back)
        async def hold(self, placed: Placed, *, tx: Transaction = injected()) -> None:
            await self.workload.write("stock.hold", placed, tx)

        @on(Billed, start="beginning", retry=RETRY, emits=(Shipped,), **ships.said())
        async def ship(self, billed: Billed, *, tx: Transaction = injected()) -> None:
            await self.workload.write("stock.ship", billed, tx)
            publish(Shipped(f"{billed.id}>ship", billed.key))

    class Books(_Team):
        async def setup(self, tx: Transaction) -> None:
            await tx.execute(TABLE.format("books"))

        @action
        async def strike(self, placed: Placed, *, tx: Transaction = injected()) -> None:
            await self.workload.write("books.enter", placed, tx, sign=-1)

        @on(Placed, start="beginning", retry=RETRY, on_compensated=strike, **enters.said())
        async def enter(self, placed: Placed, *, tx: Transaction = injected()) -> None:
            await self.workload.write("books.enter", placed, tx)

    class Mail(_Team):
        @on(Placed, start="beginning", retry=RETRY, **tells.said())
        async def tell(self, placed: Placed, *, context: Context = injected()) -> None:
            await self.workload.post("mail.tell", placed, context)

        @on(Shipped, start="beginning", retry=RETRY, limit=limit)
        async def thank(self, shipped: Shipped, *, context: Context = injected()) -> None:
            await self.workload.post("mail.thank", shipped, context)

    return Shop, Billing, Stock, Books, Mail


TABLE = (
    "create table if not exists applied_{} "
    "(number integer primary key, subscription text, id text, key text, sign integer)"
)


class Published(NamedTuple):
    """An event where it was published. `at`: its place among those of its store."""

    id: str
    type: str
    stream: tuple[str, str]  # whose order is kept: source and key
    key: str
    at: int


class ReactionWorkload:
    """The events of one world."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        r = self._random = random.Random(f"reactions {seed}")
        self.is_apart = r.random() < 0.5
        self.workers = r.choice((1, 2)) if self.is_apart else r.choice((1, 2, 3))
        self.style = r.choice(("orchestration", "choreography"))
        self.keys = [f"key{n}" for n in range(r.choice((1, 2, 3)))]
        self.policies = {name: self._policy(r) for name in ORDERED}
        self.limit = r.choice((1, 2, 8))
        self.orders = [
            Order(f"run{n}", r.choice(self.keys), r.choice((1, 1, 2, 3)), r.random() < 0.6)
            for n in range(r.choice((0, 2, 4)))
        ]
        self.sent = [Placed(f"out{n}", r.choice(self.keys)) for n in range(r.choice((4, 8, 16)))]
        self.poisoned: str | None = None  # the subscription that cannot apply the event `poison`
        self.poison, self.mending = "", "leave"
        if r.random() < 0.5:
            self.poisoned = r.choice([name for name in HEARS if name != "books.enter"])
            self.poison = r.choice(self.sent).id + FROM[HEARS[self.poisoned]]
            self.mending = r.choice(MENDING)
        self.lasts_s = r.choice((4, 4, 4, 30))  # the long ones see leases run out
        self.is_refused = r.random() < 0.3  # the poison: at once, and not after all attempts
        self.is_mended = False
        self._world: World | None = None

    @property
    def _reason(self) -> Reason:
        """Why the poison is a dead letter."""
        return Reason.REFUSED if self.is_refused else Reason.EXHAUSTED

    def _policy(self, r: random.Random) -> Ordered:
        poison = r.choice(("block", "block", "skip"))
        if not self.is_apart or r.random() < 0.5:
            return Ordered(poison)
        on_gap, on_late = r.choice(("park", "wait", "skip", "latest")), r.choice(("drop", "park", "apply"))
        return Ordered(poison, on_gap, on_late, r.choice((2, 5, 1_000)), r.choice((200, 2_000, 300_000)))

    @property
    def layout(self) -> Layout:
        """Lay it out: in one store that some workers share, or each service with one of its own."""
        return Layout(styles={"sell": self.style}, is_apart=self.is_apart, workers=self.workers)

    def build(self, world: World) -> App:
        """Make the app of one process."""
        self._world = world
        made = teams(*(self.policies[name] for name in ORDERED), self.limit)
        return App("reactions", services=[team(self) for team in made], workflows=[sell])

    # The services

    async def trouble(self, who: str, id_: str) -> None:
        """Take a while, and fail now and then; with the poison each time, until it is mended."""
        world = self._world
        assert world is not None
        await asyncio.sleep(world.chance.pick(f"act {who}", (0.0, 0.0, 0.01, 0.2)))
        if who == self.poisoned and id_ == self.poison and not self.is_mended:
            raise No("poison") if self.is_refused else RuntimeError("poison")
        self.fail()

    def fail(self) -> None:
        """Fail now and then."""
        assert self._world is not None
        if self._world.chance.strikes("failure", self._world.faults.failure):
            raise RuntimeError("down")

    async def write(self, who: str, heard: Any, tx: Transaction, *, sign: int = 1) -> None:
        """Apply an event, or undo it, in the transaction of a reaction."""
        await self.trouble(who, heard.id)
        await tx.execute(
            f"insert into applied_{who.partition('.')[0]} (subscription, id, key, sign) values (?, ?, ?, ?)",
            *(who, heard.id, heard.key, sign),
        )
        self.fail()

    async def post(self, who: str, heard: Any, context: Context) -> None:
        """Apply an event in the world outside."""
        await self.trouble(who, heard.id)
        assert self._world is not None
        await self._world.outside("post").call(f"{who} {heard.id}", context.op_key)
        self.fail()

    # The scenario

    async def perform(self, world: World) -> None:
        """Publish all, let everything come to its end, then see to the poison."""
        world.checks.append(self.check)
        await self._all_there(world)
        doing = [asyncio.ensure_future(self._sell(world, order)) for order in self.orders]
        doing += [asyncio.ensure_future(self._send(world, placed)) for placed in self.sent]
        for one in doing:
            await one
        await asyncio.sleep(world.chance.between("scenario", 0, 8))
        await world.nemesis.end()
        await self._settle(world)
        if self.poisoned is not None:
            world.violations += self._letters(world)
            if self.mending != "leave":
                await self._mend(world)
                await self._settle(world)

    async def _all_there(self, world: World) -> None:
        """Wait until each participant has been up, and its subscriptions are entered: before, they hear nothing."""
        missing = {*world.databases, *HEARS}
        while missing:
            missing -= {m.address for m in world.members if m.is_up}
            for database in world.databases.values():
                missing -= {name for (name,) in database.query("select name from minuet_subscription")}
            await asyncio.sleep(0.05)
        if self.is_apart and world.faults.clock_jump:
            # Who listens since a moment tells by clocks what was published before; here they differ by a tenth.
            await asyncio.sleep(20)

    async def _sell(self, world: World, order: Order) -> None:
        await asyncio.sleep(world.chance.between("scenario", 0, self.lasts_s))
        await world.client.start(sell, order, key=order.name)

    async def _send(self, world: World, placed: Placed) -> None:
        await asyncio.sleep(world.chance.between("scenario", 0, self.lasts_s))
        for _ in range(world.chance.pick("scenario", (1, 1, 1, 2))):
            receipt = await world.client.send(placed, id=placed.id)
            world.always(receipt.id == placed.id, f"{placed.id} was sent, and {receipt.id} is acknowledged")

    async def _settle(self, world: World) -> None:
        until = world.now_s + ENDS_WITHIN_S
        while (left := [*unsettled(world), *self._waiting(world)]) and world.now_s < until:
            await asyncio.sleep(LOOK_EVERY_S)
        world.violations += [f"does not end: {what}" for what in left]

    def _waiting(self, world: World) -> Iterator[str]:
        """Give what waits for another one, of a key that nothing holds up."""
        for name, database in world.databases.items():
            skipping = [who for who, policy in self.policies.items() if policy.poison == "skip"]
            for row in database.query(_WAITING, ",".join(skipping)):
                yield f"{name}: {'/'.join(map(str, row))}, and no dead letter is before it"

    async def _mend(self, world: World) -> None:
        self.is_mended = True
        assert self.poisoned is not None
        where = self.poisoned.partition(".")[0] if self.is_apart else "home"
        until = world.now_s + ENDS_WITHIN_S
        while world.now_s < until:
            for member in (m for m in world.members if m.address == where and m.control is not None):
                assert member.process is not None
                assert member.control is not None
                letters = member.control.letters
                choice = LetterChoice(subscription=self.poisoned, reason=self._reason)  # what is late or a gap stays
                if self.mending == "retry":
                    asked = letters.retry(choice)
                else:
                    asked = (letters.skip if self.mending == "skip" else letters.discard)(choice, note="so be it")
                task = member.process.spawn(asked)
                await asyncio.wait([task])
                if not isinstance(task.exception(), MinuetError):  # else another one performs it
                    task.result()
                    return
            await asyncio.sleep(LOOK_EVERY_S)
        world.violations.append("nobody could see to the dead letter")

    # What must have come of it

    def check(self, world: World) -> list[str]:
        """Say what did not come to what it should."""
        published, twice = _published(world, self.is_apart)
        applied = _applied(world)
        wrong = [f"E4: {id_} is published twice" for id_ in twice]
        wrong += self._there(published)
        for name, what in HEARS.items():
            type_ = _name_of(what)
            wrong += self._subscription(world, name, {p.id: p for p in published.values() if p.type == type_}, applied)
        for name, what in PUBLISHES.items():
            there = {p.id for p in published.values() if p.type == _name_of(what)}
            follows = {f"{id_}>{name.partition('.')[2]}" for id_, _ in applied[name]}
            wrong += [f"E4: {name} has published {id_}, and has not written it" for id_ in sorted(there - follows)]
            wrong += [f"E4: {name} has written {id_}, and has not published it" for id_ in sorted(follows - there)]
        wrong += [f"E3: {letter}" for letter in self._letters(world)]
        effects = Counter(kind for kind, _ in {(e.kind, e.key) for e in world.outside("post").effects})
        wrong += [f"E1: {kind} took effect {n} times" for kind, n in effects.items() if n > 1]
        return wrong

    def _there(self, published: dict[str, Published]) -> Iterator[str]:
        told = {placed.id for placed in self.sent}
        told |= {f"{order.name}.{n}" for order in self.orders for n in range(order.events)}
        placed = {p.id for p in published.values() if p.type == _name_of(Placed)}
        yield from (f"I11: {id_} was acknowledged, and is not there" for id_ in sorted(told - placed))
        yield from (f"I11: {id_} is there, and nobody has published it" for id_ in sorted(placed - told))

    def _subscription(
        self, world: World, name: str, heard: dict[str, Published], all_applied: dict[str, list[tuple[str, int]]]
    ) -> Iterator[str]:
        applied = all_applied[name]
        done = Counter(id_ for id_, sign in applied if sign > 0)
        undone = Counter(id_ for id_, sign in applied if sign < 0)
        yield from (f"E1: {name} has applied {id_} {n} times" for id_, n in done.items() if n > 1)
        yield from (f"E1: {name} has applied {id_}, which nobody has published" for id_ in done.keys() - heard.keys())
        yield from (f"E2: {name} has undone {id_} {n} times" for id_, n in undone.items() if n > 1)
        yield from (f"E2: {name} has undone {id_}, and not applied it" for id_ in undone.keys() - done.keys())
        taken_back = {f"{o.name}.{n}" for o in self.orders if not o.goes_well for n in range(o.events)}
        yield from (f"E2: {name} has undone {id_}, which stands" for id_ in undone.keys() - taken_back)
        may_lack = self._may_lack(name, heard)
        if not self._is_lossy(name):
            if name in UNDOES:
                left = (taken_back & done.keys()) - undone.keys()
                yield from (f"E2: {name} has not undone {id_}" for id_ in sorted(left))
                may_lack = may_lack | taken_back
            lacking = heard.keys() - done.keys() - may_lack
            yield from (f"E1: {name} has not applied {id_}" for id_ in sorted(lacking))
        yield from self._in_order(name, heard, [id_ for id_, sign in applied if sign > 0])
        if self._holds_up(name) and self.poison in heard and self.policies[name].on_gap in ("park", "wait"):
            before = heard[self.poison]
            for id_ in done.keys() & heard.keys():
                if heard[id_].stream == before.stream and heard[id_].at > before.at:
                    yield f"E3: {name} has applied {id_}, and {self.poison} should have held it up"

    def _in_order(self, name: str, heard: dict[str, Published], done: list[str]) -> Iterator[str]:
        """I10: say what was applied after something newer."""
        if name not in ORDERED or self.policies[name].on_late == "apply":
            return
        newest = dict[tuple[str, str], Published]()
        for id_ in done:
            if (p := heard.get(id_)) is None or (id_ == self.poison and self.policies[name].poison == "skip"):
                continue
            if (last := newest.get(p.stream)) is not None and last.at > p.at:
                yield f"I10: {name} has applied {id_} after {last.id}, which was published after it"
            else:
                newest[p.stream] = p

    def _is_lossy(self, name: str) -> bool:
        """Say whether a subscription may leave something out."""
        policy = self.policies.get(name)
        return policy is not None and (
            policy.on_gap == "latest" or (policy.on_gap == "skip" and policy.on_late != "apply")
        )

    def _holds_up(self, name: str) -> bool:
        """Say whether the poison holds up its key, for good."""
        return (
            name == self.poisoned
            and name in ORDERED
            and self.policies[name].poison == "block"
            and self.mending == "leave"
        )

    def _may_lack(self, name: str, heard: dict[str, Published]) -> set[str]:
        """Give what a subscription need not have applied: the poison, and what it holds up."""
        if name != self.poisoned or self.poison not in heard or self.mending == "retry":
            return set()
        if not self._holds_up(name):
            return {self.poison}
        before = heard[self.poison]
        return {
            p.id for p in heard.values() if p.key == before.key and (p.stream != before.stream or p.at >= before.at)
        }

    def _letters(self, world: World) -> Iterator[str]:
        """Say which dead letters should not be there, and which should."""
        found = [row for database in world.databases.values() for row in database.query(_LETTERS)]
        is_mended = self.is_mended and self.mending in ("retry", "discard")
        expected = set[tuple[str, str, str, str]]()
        if self.poisoned is not None and not is_mended:
            state = "skipped" if self.is_mended else "dead"
            expected.add((self.poisoned, self.poison, state, self._reason))
        for row in found:
            policy = self.policies.get(row[0])
            is_late = row[3] == Reason.LATE and policy is not None and policy.on_late == "park"
            if row not in expected and not (is_late and policy is not None and policy.on_gap in ("skip", "latest")):
                is_held_up = row[0] == self.poisoned and not self.is_mended  # then gaps behind it do not close
                if row[3] != Reason.GAP or not is_held_up:
                    yield f"{'/'.join(map(str, row))} is a dead letter, and should not be"
        for row in expected - set(found):
            upstream = [name for name in self._before(row[0]) if self._is_lossy(name)]
            if not upstream:
                yield f"{'/'.join(row)} should be a dead letter, and is not"

    def _before(self, name: str) -> list[str]:
        """Give a subscription and those that what it hears comes from."""
        from_ = next((who for who, what in PUBLISHES.items() if what is HEARS[name]), None)
        return [name, *(self._before(from_) if from_ is not None else ())]


_WAITING = """
    select s.name, d.entry, d.state from minuet_delivery d join minuet_subscription s using (subscription)
    where (d.state in ('held', 'early') or d.reason = 'gap') and not exists (
        select 1 from minuet_delivery b
        where b.subscription = d.subscription and b.key = d.key and b.state = 'dead'
            and b.reason <> 'gap' and instr(?, s.name) = 0
    )
    limit 5
"""
_LETTERS = """
    select s.name, json_extract(o.body, '$.id'), d.state, d.reason
    from minuet_delivery d join minuet_subscription s using (subscription) join minuet_outbox o using (entry)
    where d.state in ('dead', 'skipped')
"""
_OWN = """
    select json_extract(body, '$.id'), event, source, key, entry from minuet_outbox
    where sequence is null and event not like '%.taken-back' order by entry
"""


def _name_of(cls: type) -> str:
    spec = event_spec(cls)
    assert spec is not None
    return spec.name


def _published(world: World, is_apart: bool) -> tuple[dict[str, Published], list[str]]:
    """Give all events, and the names of those that were published more than once."""
    found, twice = dict[str, Published](), []
    for database in world.databases.values():
        for id_, type_, source, key, at in database.query(_OWN):
            if id_ in found:
                twice.append(id_)
            found[id_] = Published(id_, type_, (source if is_apart else "", key), key, at)
    return found, twice


def _applied(world: World) -> dict[str, list[tuple[str, int]]]:
    """Give what each subscription has applied (1) and undone (-1), in its order."""
    found: dict[str, list[tuple[str, int]]] = {name: [] for name in HEARS}
    for database in world.databases.values():
        for service in ("billing", "stock", "books"):
            if database.query("select 1 from sqlite_schema where name = ?", f"applied_{service}"):
                for name, id_, sign in database.query(
                    f"select subscription, id, sign from applied_{service} order by number"
                ):
                    found[name].append((id_, sign))
    seen = set[str]()
    for effect in world.outside("post").effects:
        if effect.kind not in seen:
            seen.add(effect.kind)
            name, id_ = effect.kind.split(" ")
            found[name].append((id_, 1))
    return found


def perform(seed: int, faults: Faults | None = None, only: Iterable[str] | None = None) -> tuple[Verdict, World]:
    """Perform one world."""
    workload = ReactionWorkload(seed)
    world = World(
        workload.build,
        seed=seed,
        layout=workload.layout,
        faults=Faults.all() if faults is None else faults,
        only=None if only is None else set(only),
        settings=SETTINGS,
    )
    try:
        return world.run(workload.perform), world
    finally:
        world.close()


def main() -> int:
    """Perform many worlds, and say what was wrong in which."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--faults", default="all")
    parser.add_argument("--story", action="store_true", help="tell it")
    given = parser.parse_args()
    bad, began, counts = list[int](), time.process_time(), Counter[str]()
    for seed in range(given.first, given.first + given.seeds):
        verdict, _ = perform(seed, Faults.parse(given.faults))
        counts.update(verdict.counts)
        if given.story:
            for at, where, what in verdict.story:
                print(f"{at:10.4f}  {where:20}  {what}")
        if verdict.violations:
            bad.append(seed)
            print(f"seed {seed} ({verdict.layout}):", *verdict.violations[:6], sep="\n    ", flush=True)
    took = time.process_time() - began
    print(f"{given.seeds} seeds, {len(bad)} wrong: {bad}; {given.seeds / took:.1f} seeds/s")
    print(", ".join(f"{what} {n}" for what, n in sorted(counts.items())))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
