"""What tests assert of runs: that two took the same path, that something was published, that something comes to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from minuet.contracts.codec import Codec, codec_for
from minuet.contracts.message import event_spec
from minuet.engine.program import CANCEL, START_POSITION
from minuet.engine.row import ASKED, ASKED_BACK
from minuet.errors import NotFound
from minuet.ids import round_text
from minuet.runtime.settings import duration_ms
from minuet.runtime.view import FactView, RunView
from minuet.testing.looking import Published
from minuet.workflows.dry_run import DryRun, Entry

LOOK_S = 0.05
# What depends on who evaluates which rule, and belongs to no trace: questions, marks, verdicts on them.
_MARKS = frozenset({"open", "back", "gone", ASKED, ASKED_BACK})


class Step(NamedTuple):
    """A fact as it is compared: where, in which round, what became of it, and its value as JSON."""

    position: str
    round: str
    label: str
    value: str = ""

    def __str__(self) -> str:
        """Give it as a line: `3.1[0] ok "hold-1"`."""
        where = f"{self.position}[{self.round}]" if self.round else self.position
        return f"{where} {self.label}{' ' + self.value if self.value else ''}"


class Shown(Protocol):
    """A run that can be looked at."""

    async def show(self) -> RunView:
        """Give everything that is known of it."""
        ...


class Publisher(Protocol):
    """What can say what was published."""

    def published(self, event: type | None = None) -> list[Published]:
        """Give the events of a type."""
        ...


async def assert_same_trace(a: Shown | DryRun[Any], b: Shown | DryRun[Any]) -> None:
    """Assert that two runs came to the same end by the same facts, whoever evaluated the rules, in whichever order.

    Facts of branches that go on beside each other may come in any order; a fact never comes before what caused it, and
    that the simulator sees to. A dry run may stand for one of them, or for both.
    """
    left, right = await _told(a), await _told(b)
    only_left = [f"- {step}" for step in left if step not in set(right)]
    only_right = [f"+ {step}" for step in right if step not in set(left)]
    if only_left or only_right:
        raise AssertionError("\n".join(["the traces differ (-: the first, +: the second)", *only_left, *only_right]))


def normal_form(facts: Iterable[FactView]) -> list[Step]:
    """Give the facts of a run that belong to its trace, in their order, each as it is compared."""
    steps = [Step(f.position, f.round, f.label, _value(f.label, f.value)) for f in facts if _is_told(f)]
    return _without_late_effects(steps)


def assert_published(by: Publisher, event: type | object, **fields: Any) -> None:
    """Assert that an event was published: this one, or one of this type with these fields."""
    cls = event if isinstance(event, type) else type(event)
    if event_spec(cls) is None:
        raise NotFound(f"{cls.__qualname__} is no event", remedy="Declare it: @event(…) above the class")
    codec: Codec[Any] = codec_for(cls)
    wanted = msgspec.to_builtins(fields) if isinstance(event, type) else msgspec.json.decode(codec.encode(event))
    found = [p.data for p in by.published(cls)]
    if not any(_has(data, wanted) for data in found):
        shown = "\n".join(f"  {msgspec.json.encode(data).decode()}" for data in found) or "  none"
        raise AssertionError(
            f"no {cls.__qualname__} with {msgspec.json.encode(wanted).decode()} was published; there were:\n{shown}"
        )


async def eventually(condition: Callable[[], object], within: str | float = "1h") -> None:
    """Wait until something holds, in the time of the loop that is running. Raises AssertionError if it does not."""
    loop = asyncio.get_running_loop()
    until = loop.time() + duration_ms(within) / 1_000
    while not condition():
        if loop.time() >= until:
            raise AssertionError(f"it does not hold within {within}")
        await asyncio.sleep(LOOK_S)


async def _told(run: Shown | DryRun[Any]) -> list[Step]:
    if isinstance(run, DryRun):
        steps = _without_late_effects([_entry(e) for e in run.trace])
        rejection = run.rejection
        return [*steps, Step("end", "", "rejected" if rejection else "returned", rejection or _json(run.result))]
    view = await run.show()
    code = view.rejection.code if view.rejection is not None else ""
    ends = {"completed": "returned", "compensated": "rejected"}
    end = Step("end", "", ends.get(view.state, view.state), code or _json(view.result))
    return [*normal_form(view.facts), end]


def _entry(e: Entry) -> Step:
    value = None if e.value is None else msgspec.json.decode(codec_for(type(e.value)).encode(e.value))
    return Step(e.position, round_text(e.round), e.label, _value(e.label, value))


def _is_told(f: FactView) -> bool:
    return (
        f.label not in _MARKS
        and not f.label.startswith(("failed:", "done"))
        and f.position not in (CANCEL, START_POSITION)
    )


def _without_late_effects(steps: list[Step]) -> list[Step]:
    """Leave out that an abandoned step ran after all, and was taken back: that depends on how long it took."""
    given_up = {(s.position[:-1], s.round) for s in steps if s.position.endswith("!") and s.label == "rejected:timeout"}
    return [s for s in steps if (s.position, s.round) not in given_up or s.label not in ("ok", "compensated")]


def _value(label: str, value: Any) -> str:
    """Give a value as JSON; of a rejection the code says enough, whose details may name times."""
    return "" if label.startswith("rejected:") or value is None else _json(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


def _has(data: Any, wanted: Mapping[str, Any]) -> bool:
    return isinstance(data, dict) and all(name in data and data[name] == value for name, value in wanted.items())
