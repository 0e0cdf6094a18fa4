"""Measures works: each measurement in a fresh process, all who take part in turn (A B A B …), round after round."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
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


def measure(
    works: Sequence[Work], *, rounds: int, quick: bool, parent: Path | None, say: Callable[[str], None]
) -> list[Result]:
    """Measure works, all in each round, so that what else goes on in a machine hits them alike.

    The results stand in the order of the works, their entries, and their sizes.
    """
    turns = [(work, e, size) for work in works for e in work.entries for size in (e.quick if quick else e.sizes)]
    found: list[list[Figures]] = [[] for _ in turns]
    with ExitStack() as stack:
        shared = {work.name: Path(stack.enter_context(_folder(parent))) for work in works}
        for number in range(rounds):
            for i, (work, entry, size) in enumerate(turns):
                done = number * len(turns) + i + 1
                about = f"{work.name} {entry.system}, {entry.what}, {size:,}"
                say(f"[{done}/{rounds * len(turns)}] {about} · round {number + 1} of {rounds}")
                with _folder(parent) as folder:
                    found[i].append(_measured(entry, size, Path(folder), shared[work.name], quick=quick))
    return [
        Result(work=work.name, entry=e, size=size, sizes=e.quick if quick else e.sizes, rounds=tuple(figures))
        for (work, e, size), figures in zip(turns, found, strict=True)
    ]


def _folder(parent: Path | None) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="minuet-bench-", dir=parent)


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
