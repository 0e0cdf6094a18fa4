"""What `make soak` runs: each proof at length, one after the other, with a table at the end.

`python -m tests.soak` (`--quick`: a tenth of everything; `--only kills images`: these). A part is a module that takes
how much it is to do, tells its progress on stderr, and ends with one line of JSON on stdout. The exit code is 1 if a
part failed, took far longer than its share, or if something that it names never happened.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PATIENCE = 4  # a part may take so many times its share: the machine may have other things to do


class Part(NamedTuple):
    """One part: `python -m COMMAND`, where `{n}` is its amount.

    `minutes`: its share, on two cores that have nothing else to do. `seen`: counts of its line of JSON that must be
    there and above zero.
    """

    name: str
    command: str
    amount: int
    minutes: float
    seen: tuple[str, ...]


class Found(NamedTuple):
    """What came of a part: `fell_short` says why it failed, in words."""

    part: Part
    amount: int
    seconds: float
    seen: dict[str, int]
    fell_short: list[str]


PARTS = (
    Part("kills", "tests.acceptance.kills --kills {n}", 500, 10, ("kills", "pauses", "second_refused", "acknowledged")),
    Part("images", "tests.powercut.many --images {n}", 20_000, 5, ("images", "recovered")),
    Part("simulation", "tests.simulation.many --seeds {n}", 10_000, 150, ("worlds", "crash", "stale_owner", "delay")),
    Part("crash points", "tests.simulation.crashpoints --every {n}", 1, 30, ("crash points",)),
    Part("equality", "tests.property.many --performances {n} --workflows {n}", 20_000, 15, ("hosted performances",)),
)


def perform(part: Part, amount: int, minutes: float) -> Found:
    """Run a part in a process of its own, and judge it."""
    began = monotonic()
    command = [sys.executable, "-m", *part.command.format(n=amount).split()]
    # A session of its own: what it has started ends with it, whatever happens.
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            said, _ = process.communicate(timeout=minutes * 60)
            is_in_time = True
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said, _ = process.communicate()
            is_in_time = False
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    print(said, end="", flush=True)
    seen, fell_short = judge(part, process.returncode, said)
    if not is_in_time:
        fell_short = [f"it was given up after {minutes:.0f} min"]
    return Found(part, amount, monotonic() - began, seen, fell_short)


def judge(part: Part, code: int, said: str) -> tuple[dict[str, int], list[str]]:
    """Give what a part has seen, and why it fell short, from its exit code and what it said."""
    fell_short = [f"its exit code is {code}"] if code else []
    try:
        counts = json.loads((said.splitlines() or [""])[-1])
    except ValueError:
        counts = None
    if not isinstance(counts, dict):
        return {}, [*fell_short, "it said nothing of what it has seen"]
    seen = {what: int(counts.get(what) or 0) for what in part.seen}
    return seen, [*fell_short, *(f"{what} is 0: it was not tested" for what, many in seen.items() if not many)]


def table(found: Sequence[Found]) -> str:
    """Draw what came of the parts, a line for each, and why it fell short below it."""
    lines = [f"{'part':12}{'amount':>10}{'minutes':>9}{'share':>7}  {'':6}  seen"]
    for part, amount, seconds, seen, fell_short in found:
        share = part.minutes * amount / part.amount
        counts = ", ".join(f"{what.replace('_', ' ')} {many:,}" for what, many in seen.items())
        verdict = "FAILED" if fell_short else "ok"
        lines.append(f"{part.name:12}{amount:>10,}{seconds / 60:>9.1f}{share:>7.1f}  {verdict:6}  {counts}")
        lines += [f"{'':12}{what}" for what in fell_short]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the parts; 1 if one of them fell short."""
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--quick", action="store_true", help="a tenth of everything")
    cli.add_argument("--only", nargs="+", metavar="PART", choices=[part.name for part in PARTS])
    given = cli.parse_args(argv)
    divisor = 10 if given.quick else 1
    found = []
    for part in PARTS:
        if given.only is None or part.name in given.only:
            amount, share = max(1, part.amount // divisor), part.minutes / divisor
            print(f"--- {part.name}: {amount:,}, about {share:g} min", file=sys.stderr, flush=True)
            found.append(perform(part, amount, PATIENCE * max(share, 1)))
    print(f"\n{table(found)}")
    return 1 if any(f.fell_short for f in found) else 0


if __name__ == "__main__":
    sys.exit(main())
