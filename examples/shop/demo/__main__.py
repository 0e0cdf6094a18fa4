"""Run the shop, kill it, and look whether the books add up. Everything that is printed is read from the stores."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from examples.shop.demo.books import Books, Check, check, fate
from examples.shop.demo.crowd import Carrier, Customers, order_number, until_answered
from examples.shop.demo.screen import Progress, paint
from examples.shop.demo.story import tell
from examples.shop.demo.worker import STYLES, Worker
from minuet import Client
from minuet.runtime.view import RunView

PICK_UP_WITHIN_S = 2.0
RETURN_WINDOW_S = 1.0
PAGE = 200
GIVE_UP_S = 120.0


@dataclass(kw_only=True)
class Shift:
    """What is known when the shift is over."""

    orders: int
    acknowledged: list[str]
    runs: dict[str, RunView]
    checks: list[Check]
    story: RunView | None
    seconds_to_take: float
    seconds: float
    kills: int
    seconds_to_answer: list[float]
    picked_up: int
    exit_code: int
    fates: Counter[str] = field(default_factory=Counter)

    @property
    def adds_up(self) -> bool:
        """Say whether nothing is wrong."""
        return self.exit_code == 0 and not any(c.wrong for c in self.checks)


async def work(folder: Path, orders: int, kills: int, style: str = "hybrid", *, apart: bool = False) -> Shift:
    """Have the shop perform so many orders while its process is killed so many times."""
    worker = Worker(
        folder, style=style, apart=apart, pick_up_within_s=PICK_UP_WITHIN_S, return_window_s=RETURN_WINDOW_S
    )
    progress = Progress(orders)
    await worker.start()
    try:
        books = Books(worker.store)
        async with Client(worker.url) as client:
            customers = Customers(client, orders)
            carrier = Carrier(client, books, late_s=1.5 * PICK_UP_WITHIN_S)
            crowd = [asyncio.create_task(customers.order_all()), asyncio.create_task(carrier.work())]
            try:
                taken_s, seconds = await _watch(worker, books, customers, carrier, progress, crowd, orders, kills)
            finally:
                for task in crowd:
                    task.cancel()
                await asyncio.gather(*crowd, return_exceptions=True)
            runs = await _all_runs(client)
            story = await _longest(client, [r for r in runs.values() if fate(r) == "address-unknown"])
        code = worker.stop()
        asked = {order.id: order for order in map(order_number, range(orders))}
        checks = check(customers.acknowledged, asked, runs, books)
        books.close()
    finally:
        worker.stop()
    return Shift(
        orders=orders,
        acknowledged=customers.acknowledged,
        runs=runs,
        checks=checks,
        story=story,
        seconds_to_take=taken_s,
        seconds=seconds,
        kills=worker.kills,
        seconds_to_answer=worker.seconds_to_answer,
        picked_up=carrier.picked_up,
        exit_code=code,
        fates=Counter(map(fate, runs.values())),
    )


async def _watch(
    worker: Worker,
    books: Books,
    customers: Customers,
    carrier: Carrier,
    progress: Progress,
    crowd: Sequence[asyncio.Task[None]],
    orders: int,
    kills: int,
) -> tuple[float, float]:
    """Show how far it is, and kill the worker in between.

    Gives the seconds until all orders were taken, and until nothing was left to be done.
    """
    began, taken_s = monotonic(), 0.0
    kill_at = [orders * (n + 1) // (kills + 1) for n in range(kills)]
    while True:
        acknowledged, settled = len(customers.acknowledged), books.settled()
        taken_s = taken_s or (monotonic() - began if acknowledged == orders else 0.0)
        progress.show(settled, f"{acknowledged:,} acknowledged · {carrier.picked_up:,} picked up")
        if kill_at and acknowledged >= kill_at[0]:
            del kill_at[0]
            worker.kill()
            progress.note(
                f"  kill -9 of the worker: {len(customers.acknowledged):,} acknowledged, {books.settled():,} settled"
            )
            await worker.start()
            progress.note(f"  started again: it answers after {worker.seconds_to_answer[-1]:.2f} s")
        elif acknowledged == orders and settled + len(books.reminded() & carrier.never_found) == orders:
            return taken_s, monotonic() - began
        for task in crowd:
            if task.done() and task.exception() is not None:
                task.result()
        if monotonic() - began > GIVE_UP_S:
            progress.note(f"  it takes longer than {GIVE_UP_S:g} s; this is how far it has come")
            return taken_s, monotonic() - began
        await asyncio.sleep(0.05)


async def _longest(client: Client, runs: Sequence[RunView]) -> RunView | None:
    """Ask for the run that took longest: perhaps the process was killed in the middle of it."""
    took = {run.run: (run.ended_at_ms or 0) - run.started_at_ms for run in runs}
    return await client.control.show(max(took, key=lambda run: took[run])) if took else None


async def _all_runs(client: Client) -> dict[str, RunView]:
    """Ask the program for all its runs, page by page."""
    runs: dict[str, RunView] = {}
    before: str | None = None
    while True:
        page = await until_answered(lambda before=before: client.control.runs(before=before, limit=PAGE))  # type: ignore[misc]
        runs.update((run.key, run) for run in page)
        if len(page) < PAGE:
            return runs
        before = page[-1].run


def report(shift: Shift, store: Path) -> None:
    """Print the table, the checks, and a story."""
    print()
    if shift.story is not None:
        for line in tell(shift.story):
            print(line)
        print()
    said = {
        "delivered": "ended: charged, shipped, and kept past the return window",
        "backordered": "ended: sold out; charged, refunded, and waiting for new stock",
        "address-unknown": "compensated: charged and held, then refunded and released",
        "card-declined": "compensated: held, then released",
        "waiting": "waiting for the carrier, however long it takes",
    }
    for name, meaning in said.items():
        print(f"  {shift.fates[name]:>7,}  {name:<16} {paint(meaning, 'faint')}")
    for name in shift.fates.keys() - said.keys():
        print(f"  {shift.fates[name]:>7,}  {paint(name, 'bad')}")
    print(f"  {len(shift.runs):>7,}  {'together':<16} {paint(_pace(shift), 'faint')}\n")
    for c in shift.checks:
        print(f"  {paint('wrong', 'bad') if c.wrong else paint('   ok', 'good')}  {c.what}")
        for wrong in c.wrong[:5]:
            print(f"           {wrong}")
    if shift.exit_code:
        print(f"  {paint('wrong', 'bad')}  the worker ended with {shift.exit_code}")
    print(f"\n  Look for yourself: minuet runs --store {store}")


def _pace(shift: Shift) -> str:
    rate = shift.orders / shift.seconds_to_take if shift.seconds_to_take else 0.0
    return (
        f"taken at {rate:,.0f} runs a second over HTTP, and {shift.kills} × kill -9;"
        f" after {shift.seconds:.1f} s nothing was left to be done"
    )


def as_json(shift: Shift) -> str:
    """Give the counts as one line."""
    return json.dumps(
        {
            "format": 1,
            "orders": shift.orders,
            "acknowledged": len(shift.acknowledged),
            "runs": len(shift.runs),
            "fates": dict(sorted(shift.fates.items())),
            "seconds": round(shift.seconds, 3),
            "seconds_to_take": round(shift.seconds_to_take, 3),
            "runs_a_second": round(shift.orders / shift.seconds_to_take, 1) if shift.seconds_to_take else 0,
            "kills": shift.kills,
            "seconds_to_answer": round(statistics.median(shift.seconds_to_answer), 3),
            "wrong": {c.what: [len(c.wrong), *c.wrong[:5]] for c in shift.checks if c.wrong},
            "checks": len(shift.checks),
            "adds_up": shift.adds_up,
        }
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; 1 if anything does not add up."""
    parser = argparse.ArgumentParser(prog="python -m examples.shop.demo", description=__doc__)
    parser.add_argument("--orders", type=int, default=3_000, help="how many orders (3,000)")
    parser.add_argument("--style", choices=sorted(STYLES), default="hybrid", help="how it is performed (hybrid)")
    parser.add_argument(
        "--store-per-service",
        action="store_true",
        help="give each service a store of its own: they share only messages",
    )
    parser.add_argument("--kills", type=int, default=2, help="how often the worker is killed (2)")
    parser.add_argument(
        "--folder", type=Path, default=Path(".minuet/demo"), help="where the store is kept; emptied first"
    )
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of the report")
    told = parser.parse_args(argv)
    shutil.rmtree(told.folder, ignore_errors=True)
    told.folder.mkdir(parents=True)
    shift = asyncio.run(work(told.folder, told.orders, told.kills, told.style, apart=told.store_per_service))
    if told.json:
        print(as_json(shift))
    else:
        report(shift, told.folder / "shop.db")
    return 0 if shift.adds_up else 1


if __name__ == "__main__":
    sys.exit(main())
