"""The command line: `python -m benchmarks W1 W2 … [--peer dbos] [--json] [--check] [--quick]`."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import (
    report,
    w1_sequence,
    w2_saga,
    w3_fan_out,
    w4_chain,
    w5_long,
    w6_crash,
    w7_start,
    w8_limit,
    w9_growth,
    w10_styles,
    w11_simulation,
)
from benchmarks.contest import Figure, Work
from benchmarks.driver import MeasurementFailed, Result, measure, medians

PEERS = ("dbos",)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is asked for; 1 if a bar is missed and `--check` is given, 2 if it cannot be measured."""
    asked = _parser().parse_args(arguments)
    known = {work.name: work for work in _works(large=asked.large)}
    if unknown := [name for name in asked.works if name not in known]:
        print(f"There is no work {', '.join(unknown)}; there are {', '.join(known)}.", file=sys.stderr)
        return 2
    if asked.peer and importlib.util.find_spec(asked.peer) is None:
        print(f"{asked.peer} is not installed here; `make bench` does that.", file=sys.stderr)
        return 2
    works = [_with_peers(known[name], asked.peer) for name in dict.fromkeys(asked.works or known)]
    try:
        results = _measured(works, asked)
    except MeasurementFailed as failed:
        print(failed, file=sys.stderr)
        return 1
    figure = Figure(medians(results))
    about = report.versions()
    missed = 0
    if not asked.json:
        print()
    for work, bar, value in [] if asked.quick else report.bars(works, figure):  # tiny sizes say nothing about bars
        missed += not bar.is_met(value)
        print(report.bar_json(work, bar, value, about) if asked.json else report.bar_line(work, bar, value))
    return 1 if asked.check and missed else 0


def _measured(works: Sequence[Work], asked: argparse.Namespace) -> list[Result]:
    rounds = asked.rounds or (1 if asked.quick else 3)
    progress = _Progress()
    results = measure(works, rounds=rounds, quick=asked.quick, parent=asked.folder, say=progress.say)
    progress.clear()
    about = report.versions()
    if asked.json:
        print(*(report.result_json(result, about) for result in results), sep="\n", flush=True)
        return results
    print(", ".join(f"{name} {value}" for name, value in about.items()), f"median of {rounds} (min–max)", sep="; ")
    for work in works:
        print(*report.result_lines(work, [r for r in results if r.work == work.name]), sep="\n")
    return results


def _works(*, large: bool) -> list[Work]:
    return [
        w1_sequence.WORK,
        w2_saga.WORK,
        w3_fan_out.WORK,
        w4_chain.WORK,
        w5_long.WORK,
        w6_crash.WORK,
        w7_start.WORK,
        w8_limit.WORK,
        w9_growth.work(large=large),
        w10_styles.WORK,
        w11_simulation.WORK,
    ]


def _with_peers(work: Work, peer: str | None) -> Work:
    """Leave out the peers that nobody asked for."""
    taken = [e for e in work.entries if peer or e.system in ("minuet", "machine")]
    return replace(work, entries=tuple(taken))


class _Progress:
    """One line on stderr that says what is being measured."""

    def __init__(self) -> None:
        self._is_live = sys.stderr.isatty()

    def say(self, text: str) -> None:
        before, after = ("\r\x1b[K", "") if self._is_live else ("", "\n")
        print(before + text, end=after, file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._is_live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure Minuet, and a peer beside it.")
    parser.add_argument("works", nargs="*", metavar="WORK", help="W1 W2 W3 W4 W5 W6 W7 W8 W9 W10; all if none is given")
    parser.add_argument("--peer", choices=PEERS, help="measure this peer in turn with Minuet, on SQLite")
    parser.add_argument("--json", action="store_true", help="print one object a line")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: does it work at all?")
    parser.add_argument("--rounds", type=int, help="how often each is measured (3)")
    parser.add_argument("--large", action="store_true", help="W9 also with 10 million ended runs")
    parser.add_argument("--folder", type=Path, help="where stores are made (the system's folder for temporary files)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
