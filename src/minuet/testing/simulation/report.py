"""What exploring has shown: what was tried, how runs ended, and each failure with the line that repeats it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from minuet.observe.picture import entities
from minuet.observe.text import cut
from minuet.testing.simulation.faults import FAULTS, Faults
from minuet.testing.simulation.trial import only_text
from minuet.testing.simulation.world import Layout, Verdict

Event = tuple[float, str, str]  # simulated seconds, where, what

STORY_MAX: Final = 60  # events that are shown of a story
WIDTH: Final = 120
_VIOLATIONS_MAX: Final = 10
# What is counted beside the faults, in the order in which it is shown; and how faults are called in the plural.
_SHOWN: Final = {
    "crash": "crashes",
    "restarts": "restarts",
    "pause": "pauses",
    "clock_jump": "clock jumps",
    "clock_skew": "clocks that were wrong",
    "partition": "partitions",
    "database_restart": "database restarts",
    "broker_crash": "broker crashes",
    "forgotten_tail": "forgotten tails",
    "commits": "commits",
    "unknown_applied": "unknown commits, applied",
    "unknown_lost": "unknown commits, not applied",
    "busy": "commits refused: busy",
    "full": "commits refused: full",
    "read_error": "failed reads",
    "stale_owner": "stale owners refused",
    "publish_lost": "messages lost before the confirm",
    "confirm_lost": "confirms lost",
    "acknowledgement_lost": "acknowledgements lost",
    "duplicate": "duplicates",
    "delay": "delays",
    "reorder": "reorderings",
    "redelivered": "redeliveries",
    "call_lost": "calls lost",
    "reply_lost": "replies lost",
    "failure": "failed attempts",
    "facts": "facts",
    "compensations": "compensations",
    "tombstones": "tombstones",
    "dead_letters": "dead letters",
}


@dataclass(kw_only=True)
class Failure:
    """A world in which something was wrong. `only`: what has to go wrong for it, None where it was not made small.

    `tried`: in how many worlds that was found out. `verdict`: of the smallest one.
    """

    seed: int
    layout: Layout
    faults: Faults
    violations: list[str]
    only: tuple[str, ...] | None
    tried: int
    verdict: Verdict

    @classmethod
    def of(cls, verdict: Verdict, faults: Faults, *, only: tuple[str, ...] | None = None, tried: int = 0) -> Self:
        """Tell of a world that failed."""
        return cls(
            seed=verdict.seed,
            layout=verdict.layout,
            faults=faults,
            violations=verdict.violations,
            only=only,
            tried=tried,
            verdict=verdict,
        )

    def repeats(self, prefix: str = "make sim") -> str:
        """Give the line that repeats it: `make sim SEED=17 ONLY=crash#2`."""
        only = "" if self.only is None else f" ONLY={shlex.quote(only_text(self.only))}"
        return f"{prefix} SEED={self.seed}{only}"


@dataclass(kw_only=True)
class Report:
    """What was tried, and what came of it. `took_ms`: of real time; `simulated_s`: of all worlds together."""

    name: str = ""
    worlds: int = 0
    repeated: int = 0  # performed twice, to see whether they are the same
    first_seed: int | None = None
    last_seed: int | None = None
    steps: int = 0
    simulated_s: float = 0.0
    took_ms: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    layouts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    is_interrupted: bool = False

    def add(self, verdict: Verdict, *, is_repeated: bool = False) -> None:
        """Count a world."""
        self.worlds += 1
        self.repeated += is_repeated
        self.first_seed = verdict.seed if self.first_seed is None else min(self.first_seed, verdict.seed)
        self.last_seed = verdict.seed if self.last_seed is None else max(self.last_seed, verdict.seed)
        self.steps += verdict.steps
        self.simulated_s += verdict.seconds
        self.counts.update(verdict.counts)
        self.states.update(verdict.states)
        self.layouts[str(verdict.layout)] += 1

    @property
    def is_clean(self) -> bool:
        """Whether nothing was wrong."""
        return not self.failures

    @property
    def seeds_a_second(self) -> float:
        """How many worlds were performed in a real second."""
        return 1000 * self.worlds / self.took_ms if self.took_ms else 0.0

    @property
    def smallest(self) -> Failure | None:
        """The failure with the shortest story; None where nothing was wrong."""
        return min(self.failures, key=lambda f: len(f.verdict.story), default=None)


def zero_faults(report: Report, faults: Faults) -> list[str]:
    """Give the faults that were to happen, and did not happen once: they were not tried."""
    return [name for name in FAULTS if getattr(faults, name) > 0 and not report.counts[name]]


# For people


def report_text(
    report: Report, *, repeats: Callable[[Failure], str] = Failure.repeats, faults: Faults | None = None
) -> str:
    """Give the whole report as text; with `faults`, also which of them did not happen."""
    rows = [
        ("seeds", f"{report.first_seed} to {report.last_seed}" if report.worlds else "none"),
        ("worlds", f"{report.worlds:,} ({report.repeated} of them twice)"),
        ("runs", _runs(report)),
        ("steps", f"{report.steps:,}"),
        ("simulated", f"{report.simulated_s / 3600:,.1f} hours"),
        ("took", f"{report.took_ms / 1000:.1f} s, {report.seeds_a_second:.1f} seeds/s"),
    ]
    shown = [*_SHOWN, *sorted(report.counts.keys() - _SHOWN.keys())]
    rows += [
        (_SHOWN.get(name, name.replace("_", " ")), f"{report.counts[name]:,}")
        for name in shown
        if name in report.counts or (name in FAULTS and faults is not None and getattr(faults, name) > 0)
    ]
    parts = [_table(rows)]
    if report.is_interrupted:
        parts.append("Interrupted: what follows is what there was.")
    if faults is not None and report.worlds and (missing := zero_faults(report, faults)):
        names = ", ".join(_SHOWN.get(name, name.replace("_", " ")) for name in missing)
        parts.append(f"Did not happen once, and so was not tried: {names}.")
    parts += [failure_text(failure, repeats(failure)) for failure in report.failures]
    if (smallest := report.smallest) is not None:
        parts.append(f"The shortest story, of seed {smallest.seed}:\n\n{story_text(smallest.verdict.story)}")
    else:
        parts.append("No violation.")
    return "\n\n".join(parts) + "\n"


def failure_text(failure: Failure, line: str) -> str:
    """Say what was wrong in a world, what has to go wrong for it, and how to repeat it."""
    lines = [f"Seed {failure.seed} ({failure.layout}):"]
    shown = failure.violations[:_VIOLATIONS_MAX]
    lines += [f"  {violation}" for violation in shown]
    if (more := len(failure.violations) - len(shown)) > 0:
        lines.append(f"  and {more} more")
    if failure.only is not None:
        needed = ", ".join(failure.only) or "nothing: it fails without any fault, and in the plainest order"
        lines.append(f"It takes (found in {failure.tried} worlds): {needed}")
    return "\n".join([*lines, f"Again: {line}"])


def story_text(story: Sequence[Event], width: int = WIDTH) -> str:
    """Give a story as a table: when, where, what; what is long is folded in its middle."""
    shown, left_out = _folded(story)
    wide = max((len(where) for _, where, _ in shown), default=0)
    lines = [cut(f"{at_s:>11.6f} s  {where:<{wide}}  {what}", width) for at_s, where, what in shown]
    if left_out:
        lines.insert(len(lines) // 2, f"             … {left_out} more …")
    return "\n".join(lines)


def story_mermaid(story: Sequence[Event]) -> str:
    """Give a story as a Mermaid sequence diagram between processes.

    An arrow leads from where a fact was recorded first to each participant that has recorded it after that.
    """
    shown, left_out = _folded(story)
    names: dict[str, str] = {}
    for _, where, _ in shown:
        names.setdefault(_process(where), f"p{len(names)}")
    lines = ["sequenceDiagram", *(f"    participant {short} as {entities(name)}" for name, short in names.items())]
    recorded: dict[tuple[str, str], str] = {}  # (run, fact) -> where first
    for n, (at_s, where, what) in enumerate(shown):
        here = _process(where)
        if left_out and n == len(shown) // 2:
            lines.append(f"    Note over {names[here]}: {left_out} more are not drawn")
        run, facts, rest = _parts(what)
        for fact in facts:
            first = recorded.setdefault((run, fact), here)
            if _participant(first) != _participant(here):
                lines.append(f"    {names[first]}->>{names[here]}: {entities(fact)}")
            else:
                rest.append(fact)
        if rest:
            lines.append(f"    Note over {names[here]}: {at_s:.3f} s {entities(', '.join(rest))}")
    return "\n".join(lines) + "\n"


def report_json(report: Report, *, repeats: Callable[[Failure], str] = Failure.repeats) -> dict[str, Any]:
    """Give the report as plain data."""
    smallest = report.smallest
    return {
        "name": report.name,
        "seeds": [report.first_seed, report.last_seed],
        "worlds": report.worlds,
        "repeated": report.repeated,
        "steps": report.steps,
        "simulated_s": round(report.simulated_s, 3),
        "took_ms": report.took_ms,
        "is_interrupted": report.is_interrupted,
        "counts": dict(sorted(report.counts.items())),
        "states": dict(sorted(report.states.items())),
        "layouts": dict(sorted(report.layouts.items())),
        "failures": [
            {
                "seed": f.seed,
                "layout": asdict(f.layout),
                "faults": {name: rate for name, rate in asdict(f.faults).items() if rate},
                "violations": f.violations,
                "only": None if f.only is None else list(f.only),
                "tried": f.tried,
                "again": repeats(f),
                "story": [list(event) for event in f.verdict.story] if f is smallest else [],
            }
            for f in report.failures
        ],
        "mermaid": None if smallest is None else story_mermaid(smallest.verdict.story),
    }


def _runs(report: Report) -> str:
    states = ", ".join(f"{n:,} {state}" for state, n in sorted(report.states.items()))
    return f"{report.states.total():,}{f': {states}' if states else ''}"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    rows = list(rows)
    wide = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{wide}}  {value}" for name, value in rows)


def _folded(story: Sequence[Event]) -> tuple[list[Event], int]:
    if len(story) <= STORY_MAX:
        return list(story), 0
    return [*story[: STORY_MAX // 2], *story[-(STORY_MAX // 2) :]], len(story) - STORY_MAX


def _process(where: str) -> str:
    """Give the process without the number of its life: `home/0` for `home/0.3`."""
    return where.partition(".")[0]


def _participant(process: str) -> str:
    return process.partition("/")[0]


def _parts(what: str) -> tuple[str, list[str], list[str]]:
    """Take apart what was recorded: the run, its facts, and what else there is."""
    run, colon, told = what.partition(": ")
    if not colon or not run.startswith("run "):
        return "", [], [what]
    parts = told.split(", ")
    facts = [part for part in parts if part != "begun" and not part.startswith("-> ")]
    return run, facts, [part for part in parts if part not in facts]
