"""Measures works: each measurement in a fresh process, all who take part in turn (A B A B …), round after round."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contest import Entry, Figures, Work

ROOT = Path(__file__).resolve().parent.parent


class MeasurementFailed(Exception):
    """A program ended without figures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What all rounds of one entry at one size gave."""

    work: str
    entry: Entry
    size: int
    sizes: tuple[int, ...]
    rounds: tuple[Figures, ...]

    @property
    def median(self) -> Figures:
        """Give the median of each figure."""
        return {name: statistics.median(of) for name, of in self._by_name().items()}

    @property
    def least(self) -> Figures:
        """Give the minimum of each figure."""
        return {name: min(of) for name, of in self._by_name().items()}

    @property
    def most(self) -> Figures:
        """Give the maximum of each figure."""
        return {name: max(of) for name, of in self._by_name().items()}

    def _by_name(self) -> dict[str, list[float]]:
        return {name: [figures[name] for figures in self.rounds] for name in self.rounds[0]}


def measure(work: Work, *, rounds: int, quick: bool, parent: Path | None, say: Callable[[str], None]) -> list[Result]:
    """Measure one work; the results stand in the order of its entries and sizes."""
    turns = [(entry, size) for entry in work.entries for size in (entry.quick if quick else entry.sizes)]
    found: list[list[Figures]] = [[] for _ in turns]
    with tempfile.TemporaryDirectory(prefix="minuet-bench-", dir=parent) as shared:
        for number in range(rounds):
            for i, (entry, size) in enumerate(turns):
                about = f"{entry.system}, {entry.what}, {size:,}".replace(", ,", ",")
                say(f"{work.name} {about} · round {number + 1} of {rounds}, {i + 1} of {len(turns)}")
                with tempfile.TemporaryDirectory(prefix="minuet-bench-", dir=parent) as folder:
                    found[i].append(_measured(entry, size, Path(folder), Path(shared), quick=quick))
    return [
        Result(work=work.name, entry=e, size=s, sizes=e.quick if quick else e.sizes, rounds=tuple(figures))
        for (e, s), figures in zip(turns, found, strict=True)
    ]


def _measured(entry: Entry, size: int, folder: Path, shared: Path, *, quick: bool) -> Figures:
    options = {**entry.options, **entry.quick_options} if quick else entry.options
    arguments = {"folder": str(folder), "shared": str(shared), "size": size, **options}
    command = [sys.executable, "-m", "benchmarks.one", entry.program, json.dumps(arguments)]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, check=False, timeout=entry.timeout_s
    )
    if done.returncode:
        raise MeasurementFailed(f"{entry.system}, {entry.what}, {size}: exit code {done.returncode}\n{done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def environment() -> dict[str, str]:
    """Give the environment of a measured process: as an installed program has it, with its bytecode kept."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MINUET_", "DBOS_")) and k not in _LEFT_OUT}
    bytecode = Path(tempfile.gettempdir()) / f"minuet-bench-bytecode-{os.getuid()}"
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "PYTHONPYCACHEPREFIX": str(bytecode)}


_LEFT_OUT = frozenset({"PYTHONDONTWRITEBYTECODE", "PYTHONDEVMODE", "PYTHONWARNINGS", "PYTHONASYNCIODEBUG"})


def spawn(program: str, arguments: dict[str, object]) -> subprocess.Popen[str]:
    """Start a process of one's own inside a measurement; the last line that it prints is its figures."""
    command = [sys.executable, "-m", "benchmarks.one", program, json.dumps(arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def medians(results: Iterable[Result]) -> dict[tuple[str, str, str, int], Figures]:
    """Give the medians by work, system, variant and size."""
    return {(r.work, r.entry.system, r.entry.what, r.size): r.median for r in results}


def total(works: Sequence[Work], *, rounds: int, quick: bool) -> int:
    """Give how many measurements there will be."""
    return rounds * sum(len(e.quick if quick else e.sizes) for w in works for e in w.entries)
