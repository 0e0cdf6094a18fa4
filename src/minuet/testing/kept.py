"""`replay`: would a changed workflow take the same path as a run that was kept, given the same answers of the world?

The changed function is executed as a dry run. Its steps answer what the actions of the kept run answered, its waits see
what that run saw. No action is called. A run needs no such check to go on (it keeps the plan that it began with); this
tells what the change means for the next one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from minuet.contracts.action import CANCELLED, PLATFORM_CODES, ActionSpec, Rejection
from minuet.contracts.codec import codec_for
from minuet.contracts.message import event_spec
from minuet.contracts.service import Service, service_spec
from minuet.contracts.step import performing
from minuet.engine.port import RunFilter
from minuet.engine.program import Program
from minuet.engine.row import ENDED, RunRow, RunState
from minuet.errors import DeclarationError, InvalidPayload, NotFound
from minuet.ids import parse_round, parse_run
from minuet.plans.plan import load_plan
from minuet.runtime import describe
from minuet.runtime.view import FactView, RunView
from minuet.stores.sqlite.store import SqliteReader
from minuet.workflows.dry_run.actor import Actor
from minuet.workflows.dry_run.performer import Performer
from minuet.workflows.dry_run.script import Script
from minuet.workflows.dry_run.trace import Entry, Round
from minuet.workflows.workflow import Workflow

_WAIT = "wait "
_PART = re.compile(r"(\d+)([a-z]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of a replay. `difference`: the first one, in words; empty if it took the same path.

    `trace` has the facts of the changed workflow, as far as it came. It is true where there is no difference.
    """

    difference: str
    trace: list[Entry]

    def __bool__(self) -> bool:
        """Tell whether it took the same path."""
        return not self.difference


async def replay(
    kept: Mapping[str, Any] | RunView | str | bytes | Path,
    flow: Workflow[Any, Any, Any],
    *,
    run: str | None = None,
    input: Any = ...,
) -> Replayed:
    """Say whether a workflow, given the answers of a kept run, takes the path of that run.

    An unfinished run says how far it came: what lies beyond is no difference.

    Args:
        kept: a run, as `minuet show --json` gives it (data, or JSON text), or as `Run.show()` does; or the file of a
            store.
        flow: the workflow as it is now.
        run: with a store: the run's id, or its key; the newest run of the workflow by default.
        input: the input of the run; a store knows it.

    Raises:
        NotFound: there is no such store, or no such run in it.
        InvalidPayload: it is no run, or its input is not known and not given, or does not fit.
    """
    if isinstance(kept, Path):
        view, raw = await _stored(kept, flow.name, run)
    else:
        view, raw = _read(kept), None
    if input is not ...:
        raw = msgspec.json.encode(input) if isinstance(input, dict | list) else codec_for(flow.input_type).encode(input)
    arguments: tuple[Any, ...] = ()
    if flow.tree.input is not None:
        if raw is None:
            raise InvalidPayload("the input of the run is not known", remedy="Give it: replay(…, input=…)")
        arguments = (codec_for(flow.input_type).decode(raw),)
    world = _Answers(view, flow)
    performer = Performer(flow.tree, world, _Nobody(flow.name, view.key, {}))
    services = {name: object.__new__(cls) for name, cls in flow.services.items()}
    result, rejection = None, ""
    with performing(performer):
        try:
            returned = await performer.execute(flow.function, arguments, services)
            result = msgspec.json.decode(codec_for(flow.result_type).encode_checked(returned))
        except _Parted as e:
            return Replayed(difference=str(e) or _other_order(world), trace=performer.trace.entries)
        except Rejection as e:
            rejection = e.code
            await performer.undo_all()
    trace = performer.trace.entries
    return Replayed(difference=_first_difference(world, view, trace, result, rejection), trace=trace)


class _Parted(BaseException):
    """The paths part here, or (without words) what was kept ends here; no workflow can catch it."""


@dataclass(slots=True, eq=False)
class _Answer:
    """What the world has answered: an outcome of an action, an event that was seen, a wait that ran out."""

    fact: FactView
    round: Round
    at: str = ""  # where the changed workflow has taken it; empty: it has not

    @property
    def position(self) -> str:
        return self.fact.position.removesuffix("!")

    @property
    def name(self) -> str:
        return self.fact.what.removesuffix(", the verdict")


class _Answers(Script):
    """The script of a replay: each answer of the kept run is taken once, preferably where it was given."""

    def __init__(self, view: RunView, flow: Workflow[Any, Any, Any]) -> None:
        super().__init__(flow.tree, {}, {}, ())
        self.answers = _answers(view.facts)
        self.taken: list[_Answer] = []
        self._has_ended = view.state in ENDED
        self._rejections = _rejections(flow)
        self._results: dict[str, ActionSpec] = {
            f"{spec.name}.{a.name}": a
            for cls in flow.services.values()
            for spec in [service_spec(cls)]
            for a in spec.actions.values()
        }
        self._types = {_event_name(cls): cls for cls in flow.events.values()}

    def outcome(self, position: str, action: str) -> Any:
        """Give what this action has answered."""
        answer = self._take(position, action, lambda f: f.label == "ok" or f.label.startswith("rejected:"))
        if answer is None:
            raise self._parted(f"it runs {action} at {position}")
        label, value = answer.fact.label, answer.fact.value
        if label.startswith("rejected:"):
            return self._rejection(label, value)
        return codec_for(self._results[action].result).decode(msgspec.json.encode(value))

    def event(self, position: str, event: str, fits: Callable[[Any], bool]) -> Any:
        """Give what this wait has seen; None if it ran out."""
        answer = self._take(position, _WAIT + event, lambda f: f.label in ("ok", "fired"))
        if answer is None:
            raise self._parted(f"it waits for {event} at {position}")
        if answer.fact.label == "fired":
            return None
        return codec_for(self._types[event]).decode(msgspec.json.encode(answer.fact.value))

    def passes(self, position: str) -> bool:
        """Say no: what a deadline has rejected was answered so."""
        return False

    def left(self) -> list[_Answer]:
        """Give what was not taken."""
        return [a for a in self.answers if not a.at and (a.name in self._results or a.name.startswith(_WAIT))]

    def _take(self, position: str, name: str, is_one: Callable[[FactView], bool]) -> _Answer | None:
        free = [a for a in self.answers if not a.at and a.name == name and is_one(a.fact)]
        here = [a for a in free if a.position == position]
        if not free:
            return None
        found = min(here or free, key=lambda a: (a.round, a.fact.seq) if here else ((), a.fact.seq))
        found.at = position
        self.taken.append(found)
        return found

    def _parted(self, what: str) -> _Parted:
        left = self.left()
        if not self._has_ended and not left:
            return _Parted("")
        then = f"; the kept run did {_told(left[0])} instead" if left else ", and the kept run had come to its end"
        return _Parted(f"{what}{then}")

    def _rejection(self, label: str, value: Any) -> Rejection:
        code = label.removeprefix("rejected:").partition("@")[0]
        cls = self._rejections.get(code) or type("Rejection", (Rejection,), {}, code=code)
        told = value if isinstance(value, dict) else {}
        rejection: Rejection = Exception.__new__(cls)  # a subclass may want other arguments than a code carries
        details = told.get("details")
        Rejection.__init__(rejection, str(told.get("message", "")), **(details if isinstance(details, dict) else {}))
        return rejection


class _Nobody(Actor):
    """Runs nothing: what was done is known, and compensations have no answer but that they are done."""

    async def compensate(
        self, service: Service, spec: ActionSpec, position: str, round_: Round, arguments: bytes, result: bytes
    ) -> None:
        """Do nothing."""


def _first_difference(world: _Answers, view: RunView, trace: list[Entry], result: Any, rejection: str) -> str:
    if told := _other_order(world):
        return told
    if left := world.left():
        return f"it does not do what the kept run did: {_told(left[0])}"
    moved = {(a.position, a.fact.round): a.at for a in world.taken}
    was = {moved.get((f.position, f.round), f.position): f for f in view.facts if f.label == "compensated"}
    now = {e.position for e in trace if e.label == "compensated"}
    if view.state in ENDED:
        for position, f in was.items():
            if position not in now:
                return f"it does not compensate {position}; the kept run did: {_told(f)}"
    if more := sorted(now - was.keys()):
        return f"it compensates {more[0]}; the kept run did not"
    if view.state == RunState.COMPENSATED and view.rejection is not None and view.rejection.code != rejection:
        ended = f"is rejected with {rejection}" if rejection else f"returns {json.dumps(result)}"
        return f"it {ended}; the kept run was rejected with {view.rejection.code}"
    if view.state == RunState.COMPLETED and (rejection or result != view.result):
        ended = f"is rejected with {rejection}" if rejection else f"returns {json.dumps(result)}"
        return f"it {ended}; the kept run returned {json.dumps(view.result)}"
    return ""


def _other_order(world: _Answers) -> str:
    """Say what is done earlier than it was, where one of two has moved; branches beside each other have no order."""
    for i, earlier in enumerate(world.taken):
        for later in world.taken[i + 1 :]:
            has_moved = earlier.at != earlier.position or later.at != later.position
            if has_moved and later.fact.seq < earlier.fact.seq and not _beside(earlier, later):
                told = f"it does {earlier.name} at {earlier.at} before {later.name}"
                return f"{told}; the kept run did {_told(later)} first"
    return ""


def _answers(facts: list[FactView]) -> list[_Answer]:
    """Give what was answered; where a verdict was given on an outcome, that is what counts."""
    verdicts = {(f.position[:-1], f.round) for f in facts if f.position.endswith("!")}
    return [
        _Answer(f, parse_round(f.round))
        for f in facts
        if f.label in ("ok", "fired") or f.label.startswith("rejected:")
        if (f.position, f.round) not in verdicts
    ]


def _beside(a: _Answer, b: _Answer) -> bool:
    """Say whether two positions of the kept run stand in branches beside each other, or in rounds of one place."""
    if a.round != b.round:
        return True
    for x, y in zip(a.position.split("."), b.position.split("."), strict=False):
        if x != y:
            left, right = _PART.fullmatch(x), _PART.fullmatch(y)
            return bool(left and right and left[1] == right[1] and left[2] and right[2])
    return False


def _told(what: _Answer | FactView) -> str:
    f = what.fact if isinstance(what, _Answer) else what
    where = f.position.removesuffix("!") + (f"[{f.round}]" if f.round else "")
    return f"{f.what} at {where} ({f.label})"


def _rejections(flow: Workflow[Any, Any, Any]) -> dict[str, type[Rejection]]:
    found: dict[str, type[Rejection]] = {**PLATFORM_CODES, **flow.rejections}
    found[CANCELLED] = type("Cancelled", (Rejection,), {}, code=CANCELLED)
    for cls in flow.services.values():
        for a in service_spec(cls).actions.values():
            found.update((r.code, r) for r in a.rejects)
    return found


def _event_name(cls: type) -> str:
    spec = event_spec(cls)
    assert spec is not None
    return spec.name


def _read(kept: Mapping[str, Any] | RunView | str | bytes) -> RunView:
    if isinstance(kept, RunView):
        return kept
    try:
        data = msgspec.json.decode(kept) if isinstance(kept, str | bytes) else dict(kept)
        return msgspec.convert(data.get("run", data) if isinstance(data.get("run"), dict) else data, RunView)
    except (msgspec.MsgspecError, AttributeError) as e:
        raise InvalidPayload(f"this is no run: {e}", remedy="Give what this prints: minuet show RUN --json") from e


async def _newest(store: SqliteReader, workflow: str) -> RunRow | None:
    return next(iter(await store.list_runs(RunFilter(workflow=workflow, limit=1))), None)


async def _stored(file: Path, workflow: str, name: str | None) -> tuple[RunView, bytes | None]:
    store = SqliteReader(file)
    await store.open()
    try:
        number = parse_run(name) if name is not None else None
        stored = await store.load_run(number) if number is not None else None
        if stored is None:
            row = await store.find_run(workflow, name) if name is not None else await _newest(store, workflow)
            stored = await store.load_run(row.run) if row is not None else None
        if stored is None:
            which = f"run {name} of {workflow}" if name is not None else f"run of {workflow}"
            raise NotFound(f"there is no {which} in {file.name}", remedy="List them: minuet runs")
        plans = {row.digest: row for row in await store.plans()}
    finally:
        await store.close()
    plan = plans.get(stored.run.digest)
    if plan is None:
        raise DeclarationError(f"the plan of the run is not in {file.name}", remedy="Give the run as JSON")
    view = describe.stored(stored, Program(load_plan(plan.body)), None, stored.run.started_at_ms, facts=True)
    return view, None if stored.run.input is None else stored.run.input.encode()
