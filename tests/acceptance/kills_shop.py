"""A shop as a program that is killed: services that share nothing but messages, each with a store of its own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from minuet import Client
from tests.acceptance.apart import Nudged, patient
from tests.acceptance.kills_counts import Counts
from tests.acceptance.kills_victim import Eyes, Load, Victim
from tests.acceptance.process import Process
from tests.unit.runtime.apart import line, line_led, place

APP = "tests.acceptance.apart:app"
FLOWS: list[Any] = [place, line, line_led, patient]
HOME = ""
SERVICES = ("orders", "payments", "inventory", "shipping", "desk")
UNDER_WAY = ("minuet_sending", "minuet_early", "minuet_timer", "minuet_wait")

WRONG = ("lost", "twice", "missing", "unexpected", "unended", "stuck", "wrong_end", "left_over", "damaged", "exit_code")
SEEN = ("acknowledged", "events_acknowledged", "completed", "compensated", "answers_lost", "facts")


class OrderLoad(Load):
    """Clients who place orders, in every style."""

    def __init__(self, client: Client, dice: random.Random) -> None:
        super().__init__(client, dice, clients=4, open_at_most=60)
        self.orders: dict[str, tuple[str, str]] = {}  # key -> workflow, order; acknowledged
        self.nudged = 0
        self._count = 0

    async def begin(self) -> None:
        """Place an order; some are for what is sold out."""
        self._count += 1
        key = f"o-{self._count:05}"
        flow = self.dice.choice(FLOWS)
        order = f"{'none' if self.dice.random() < 0.3 else 'tea'}-{key}"
        if flow is patient:
            await self.until_answered(lambda: self.client.send(Nudged(order), id=f"n-{order}"))
            self.nudged += 1
        await self.until_answered(lambda: self.client.start(flow, order, key=key))
        self.orders[key] = flow.name, order


class Shop(Victim):
    """A program of a shop in a folder, started with `--store-per-service`."""

    name = "shop"
    at_least = 60

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self._dice = dice
        self.process = Process(APP, folder / "shop.db", "--store-per-service", MINUET_LOG_LEVEL="warning")
        self.counts = Counts(WRONG, SEEN)
        store = self.process.store
        self._eyes = {s: Eyes(store.with_name(f"shop.{s}.db") if s else store) for s in (HOME, *SERVICES)}

    def close(self) -> None:
        """Read its files no more."""
        for eyes in self._eyes.values():
            eyes.close()

    def load(self, client: Client) -> Load:
        """Give who places orders."""
        self._load = OrderLoad(client, self._dice)
        return self._load

    def openings(self) -> int:
        """Count how often its stores were opened, all together."""
        return sum(eyes.openings() for eyes in self._eyes.values())

    def done(self) -> int:
        """Count the entries on all books."""
        return sum(self._eyes[s].one("select coalesce(max(id), 0) from entry") for s in SERVICES)

    def ended(self) -> int:
        """Count the runs that have ended."""
        return self._eyes[HOME].ended()

    def left(self) -> int:
        """Count the orders that have not ended, and what somebody has still to say or to hear."""
        rows = sum(e.one(f"select count(*) from {table}") for e in self._eyes.values() for table in UNDER_WAY)
        return len(self._load.orders) - self.ended() + int(rows)

    def glance(self) -> None:
        """See how many answers were lost."""
        self.counts.seen["answers_lost"] = self._load.answers_lost

    def compare(self) -> None:
        """Compare each order with what must be on the books of each service."""
        self.glance()
        load, home, counts = self._load, self._eyes[HOME], self.counts
        runs = dict(home.all("select key, state from minuet_run"))
        books: dict[tuple[str, str], list[str]] = {}
        for service in SERVICES:
            for key, what in self._eyes[service].all("select run, what from entry order by id"):
                books.setdefault((key, service), []).append(what)
        for key, (workflow, order) in load.orders.items():
            state = runs.get(key)
            end = "compensated" if order.startswith("none") else "completed"
            for service, wanted in entries(workflow, order).items():
                found = books.pop((key, service), [])
                counts.wrong.update(
                    twice=len(found) > len(set(found)),
                    missing=len(set(wanted) - set(found)),
                    unexpected=len(set(found) - set(wanted)) or (set(found) == set(wanted) and found != wanted),
                )
            counts.wrong.update(lost=state is None, unended=state not in (None, "completed", "compensated"))
            counts.wrong.update(wrong_end=state not in (None, end), stuck=state in ("stuck", "quarantined"))
            counts.seen.update(completed=state == "completed", compensated=state == "compensated")
        counts.wrong["unexpected"] += len(books) + len(runs.keys() - load.orders.keys())
        counts.wrong["left_over"] = self.left()
        counts.wrong["damaged"] = sum(not eyes.is_whole() for eyes in self._eyes.values())
        counts.seen["acknowledged"], counts.seen["events_acknowledged"] = len(load.orders), load.nudged
        counts.seen["facts"] = sum(e.one("select count(*) from minuet_fact") for e in self._eyes.values())


def entries(workflow: str, order: str) -> dict[str, list[str]]:
    """Give what must be on the books of each service when an order has ended."""
    is_out = order.startswith("none")
    found: dict[str, list[str]] = {s: [] for s in SERVICES}
    found["orders"] = ["opened", f"closed #{order}"] if is_out else ["opened"]
    if workflow == "patient":
        found["inventory"], found["desk"] = ([], []) if is_out else ([f"reserved {order}"], ["nudged"])
        return found
    found["payments"] = [f"charged #{order}", f"refunded paid #{order}"] if is_out else [f"charged #{order}"]
    found["inventory"], found["shipping"] = ([], []) if is_out else ([f"reserved {order}"], ["shipped 3"])
    return found
