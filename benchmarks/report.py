"""Says what was measured: as a table, or as JSON, one object a line."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.contest import Bar, Figure, Work
from benchmarks.driver import Result

KEYS = ("per_s", "cpu_s_per_1000", "p50_ms", "p99_ms", "secs", "memory_mb")


def versions() -> dict[str, Any]:
    """Give the versions of what is measured and of what it stands on, and the number of processors."""
    found = {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version, "cores": os.cpu_count()}
    for name in ("minuet", "dbos"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def result_json(result: Result, about: dict[str, Any]) -> str:
    """Give a result as one line: medians by name, their minima and maxima beside them."""
    median = result.median
    common = {name: _rounded(median[name]) for name in KEYS if name in median}
    own = {name: _rounded(value) for name, value in median.items() if name not in KEYS}
    return json.dumps(
        {
            "work": result.work,
            "system": result.entry.system,
            "what": result.entry.what,
            "durability": result.entry.durability,
            "size": result.size,
            "sizes": result.sizes,
            "rounds": len(result.rounds),
            **common,
            **own,
            "min": {name: _rounded(value) for name, value in result.least.items()},
            "max": {name: _rounded(value) for name, value in result.most.items()},
            "versions": about,
        }
    )


def bar_json(work: Work, bar: Bar, value: float, about: dict[str, Any]) -> str:
    """Give what came out for a bar as one line; without a bound it is only told."""
    bounds = {"at_least": bar.at_least, "at_most": bar.at_most}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    met = {"is_met": bar.is_met(value)} if given else {}
    return json.dumps({"work": work.name, "bar": bar.what, "value": _rounded(value), **given, **met, "versions": about})


def bars(works: Sequence[Work], figure: Figure) -> list[tuple[Work, Bar, float]]:
    """Give the bars whose figures were measured."""
    found = [(work, bar, bar.value(figure)) for work in works for bar in work.bars]
    return [(work, bar, value) for work, bar, value in found if value is not None]


def result_lines(work: Work, results: Iterable[Result]) -> list[str]:
    """Give the results of a work for people: one line a figure set, medians with (minimum–maximum)."""
    lines = ["", f"{work.name}  {work.title}"]
    for result in results:
        median, least, most = result.median, result.least, result.most
        shown = [
            f"{_NAMES.get(name, name)} {_short(median[name])} ({_short(least[name])}–{_short(most[name])})"
            for name in sorted(median, key=_place)
        ]
        lines.append(f"  {result.entry.system:<10} {result.entry.what:<28} {result.size:>9,}  " + "  ".join(shown))
    return lines


def bar_line(work: Work, bar: Bar, value: float) -> str:
    """Give a bar for people."""
    if bar.at_least is None and bar.at_most is None:
        return f"  {'':<7} {work.name}  {bar.what}: {_short(value)}"
    demanded = f"at least {bar.at_least:g}" if bar.at_least is not None else f"at most {bar.at_most:g}"
    return f"  {'met' if bar.is_met(value) else 'MISSED':<7} {work.name}  {bar.what}: {_short(value)} ({demanded})"


_NAMES = {
    "per_s": "/s",
    "cpu_s_per_1000": "CPU s/1000",
    "secs": "s",
    "memory_mb": "MB",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}


def _place(name: str) -> int:
    return KEYS.index(name) if name in KEYS else len(KEYS)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}") if abs(value) < 1000 else round(value)


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
