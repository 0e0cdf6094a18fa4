"""Explores many seeds: each is a world, and what fails in it is made small and told with how to repeat it.

One world in a hundred is performed twice. If the two differ, something has escaped the simulation (time, chance, the
order of a set), and no failure could be repeated: that is a violation, too.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from minuet.runtime.clock import SystemClock
from minuet.runtime.settings import Settings
from minuet.testing.simulation.cases import Case
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.report import Failure, Report
from minuet.testing.simulation.shrink import shrink
from minuet.testing.simulation.trial import InTurn, Trials
from minuet.testing.simulation.world import ENDS_WITHIN_S, Build, Layout, Scenario, Verdict

TWICE_EACH: Final = 100  # worlds, one of them is performed twice
AHEAD: Final = 4  # worlds that each process is given at a time, so that none waits
DIFFERS: Final = "not repeatable"


def explore(
    scenario: Scenario,
    build: Build,
    *,
    seeds: Sequence[int],
    layouts: Sequence[Layout],
    faults: Faults,
    settings: Settings | None = None,
    ends_within_s: float = ENDS_WITHIN_S,
    jobs: int = 1,
    max_failures: int = 3,
    on_progress: Callable[[Report], None] | None = None,
    keep: Path | None = None,
    name: str = "",
) -> Report:
    """Try a scenario in the worlds of these seeds, each in the next of the layouts; see `explore_trials`."""
    trials = InTurn(
        scenario=scenario,
        build=build,
        layouts=layouts,
        faults=faults,
        settings=settings,
        ends_within_s=ends_within_s,
    )
    name = name or getattr(scenario, "__name__", "")
    return explore_trials(
        trials, seeds=seeds, jobs=jobs, max_failures=max_failures, on_progress=on_progress, keep=keep, name=name
    )


def explore_trials(
    trials: Trials,
    *,
    seeds: Sequence[int],
    jobs: int = 1,
    max_failures: int = 3,
    on_progress: Callable[[Report], None] | None = None,
    keep: Path | None = None,
    name: str = "",
) -> Report:
    """Try what `trials` gives for each seed, in `jobs` processes; tell what was tried, and what was wrong.

    It ends after so many failures; what is told does not depend on `jobs`. `on_progress` is called after each world,
    with the report so far. Failures are kept as files in the folder `keep`. Ctrl-C gives what there is.
    """
    clock = SystemClock()
    began_ms = clock.monotonic_ms()
    report = Report(name=name)
    worlds = _Worlds(trials, seeds, jobs)
    try:
        for verdict, *again in worlds:
            if again and again[0].trace != verdict.trace:
                verdict.violations.append(f"{DIFFERS}: {_parting(verdict, again[0])}")
            report.add(verdict, is_repeated=bool(again))
            if verdict.violations:
                report.failures.append(Failure.of(verdict, trials(verdict.seed).faults))
            report.took_ms = clock.monotonic_ms() - began_ms
            if on_progress is not None:
                on_progress(report)
            if len(report.failures) >= max_failures:
                break
        for n, failure in enumerate(report.failures):
            report.failures[n] = _made_small(trials, failure)
    except KeyboardInterrupt:
        report.is_interrupted = True
    finally:
        worlds.close()
    if keep is not None:
        for failure in report.failures:
            _case(name, failure).save(keep)
    return report


def _parting(first: Verdict, second: Verdict) -> str:
    """Say where two stories of one world part."""
    for n, (a, b) in enumerate(zip(first.story, second.story, strict=False), 1):
        if a != b:
            return f"performed twice, the worlds part at event {n}: {_told(a)}, and then {_told(b)}"
    shorter, longer = sorted((first.story, second.story), key=len)
    return f"performed twice, one world ends after {len(shorter)} events; then there is {_told(longer[len(shorter)])}"


def _told(event: tuple[float, str, str]) -> str:
    return f"{event[0]:.6f} s {event[1]}: {event[2]}"


def _made_small(trials: Trials, failure: Failure) -> Failure:
    if failure.violations[0].startswith(DIFFERS):
        return failure  # it would fail otherwise each time
    small = shrink(partial(trials, failure.seed), failure.verdict)
    return Failure.of(small.verdict, failure.faults, only=small.only, tried=small.tried)


def _case(name: str, failure: Failure) -> Case:
    return Case(
        scenario=name,
        seed=failure.seed,
        layout=failure.layout,
        faults=failure.faults,
        only=failure.only,
        what=failure.violations[0],
    )


# In several processes

_inherited: list[Trials] = []  # in a process that was made for them


class _Worlds:
    """What became of the worlds of seeds, in their order, whichever process performs them; of some of them, twice."""

    def __init__(self, trials: Trials, seeds: Sequence[int], jobs: int) -> None:
        self._trials, self._seeds, self._jobs = trials, seeds, jobs
        self._executor = _executor(trials, jobs) if jobs > 1 and len(seeds) > 1 else None

    def __iter__(self) -> Iterator[list[Verdict]]:
        todo = deque((seed, 2 if n % TWICE_EACH == 0 else 1) for n, seed in enumerate(self._seeds))
        if self._executor is None:
            for seed, times in todo:
                yield [_perform(self._trials, seed, keeps_story=times > 1) for _ in range(times)]
            return
        under_way = deque[list[Future[Verdict]]]()
        while todo or under_way:
            while todo and len(under_way) < AHEAD * self._jobs:
                seed, times = todo.popleft()
                submit = partial(self._executor.submit, _perform_here, seed, keeps_story=times > 1)
                under_way.append([submit() for _ in range(times)])
            yield [future.result() for future in under_way.popleft()]

    def close(self) -> None:
        """End the processes, when they have done what they are at."""
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=True)


def _perform(trials: Trials, seed: int, *, keeps_story: bool) -> Verdict:
    """Perform the world of a seed; where all went well its story is kept only if it is asked for."""
    verdict = trials(seed).perform()
    return verdict if keeps_story or verdict.violations else replace(verdict, story=[])


def _perform_here(seed: int, *, keeps_story: bool) -> Verdict:
    return _perform(_inherited[-1], seed, keeps_story=keeps_story)


def _inherit(trials: Trials) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asked for the worlds
    _inherited.append(trials)


def _executor(trials: Trials, jobs: int) -> Executor | None:
    """Give processes that know the trials: new ones where they can be imported there, else copies of this one.

    New ones have another order of sets: whatever depends on it shows where a world is performed twice.
    """
    method = "spawn"
    if not _is_importable(trials):
        if "fork" not in multiprocessing.get_all_start_methods() or threading.active_count() > 1:
            return None  # a copy of a process with threads may stand still
        method = "fork"
    return ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context(method), initializer=_inherit, initargs=(trials,)
    )


def _is_importable(what: object) -> bool:
    """Say whether another process finds this by its name, and all that it holds."""
    name = getattr(what, "__qualname__", "")
    if name:
        return "<" not in name and getattr(what, "__self__", None) is None
    if is_dataclass(what):
        return _is_importable(type(what)) and all(_is_importable(getattr(what, f.name)) for f in fields(what))
    if isinstance(what, Mapping):
        return all(_is_importable(x) for pair in what.items() for x in pair)
    if isinstance(what, list | tuple):
        return all(map(_is_importable, what))
    return what is None or isinstance(what, str | int | float)
