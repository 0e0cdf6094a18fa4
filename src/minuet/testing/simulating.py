"""`@simulate`: a test that is performed in many simulated worlds, in which goes wrong what can.

The test makes services and starts runs, as it would with a real app. Meanwhile processes crash, commits are lost,
messages come late, twice and in another order; when the test is over the faults stop, and everything has to come to its
end. The invariants of the engine are looked at in every world. What the test itself expects it states once, as
conditions; those that only hold somewhere are counted over all worlds.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import inspect
import logging
import shlex
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from minuet.contracts.service import Service
from minuet.errors import DeclarationError
from minuet.ids import parse_run
from minuet.runtime.app import App
from minuet.runtime.client import Run
from minuet.runtime.view import EventReceipt
from minuet.testing.conditions import Condition, Conditions
from minuet.testing.looking import Published, published, stored_run
from minuet.testing.outcomes import Outcomes, Tapes, actions_of
from minuet.testing.simulated import KEEPING
from minuet.testing.simulation.explore import explore
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.outside import Outside
from minuet.testing.simulation.report import Failure, Report, failure_text, story_text
from minuet.testing.simulation.world import Layout, Verdict, World
from minuet.testing.stage import Stage
from minuet.testing.variants import Variant
from minuet.workflows.workflow import Workflow

R = TypeVar("R")
Services = Iterable[Service] | Callable[[], Iterable[Service]]
Body = Callable[["Simulation"], Coroutine[Any, Any, None]]

STYLES: Final = ("orchestration", "choreography")
FAULTS_AT_MOST_S: Final = 20.0  # for how long faults go on after the test's body, while its runs have not ended
LOOK_EVERY_S: Final = 0.25
CANCELS_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a command line says: one seed (and with which faults only), or how many; and how the test is named there."""

    seed: int | None = None
    seeds: int | None = None
    only: tuple[str, ...] | None = None
    test: str = ""


def simulate(
    *what: Workflow[Any, Any, Any] | App,
    seeds: int = 100,
    styles: Sequence[str] = STYLES,
    faults: str | Faults = "all",
    first_seed: int = 0,
    max_failures: int = 1,
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Perform an async test in many worlds, one for each seed: `async def test_x(sim: Simulation)`.

    What was found is made small: as few faults as it takes. It is told with the line that repeats it.

    Args:
        what: the workflows that the test starts, or an app, whose services are copied for each process.
        seeds: how many worlds; `--minuet-seeds` has another number, and `--minuet-seed` repeats one.
        styles: styles (`orchestration`, `choreography`, `hybrid`), each tried in one store, in one store that two
            processes share, and with a store for each service; or variants as in `@styles`, tried as they are.
        faults: `all`, `none`, names with commas (`crash,duplicate=0.5`), or rates.
        first_seed: where to begin.
        max_failures: how many to look for.

    Raises:
        AssertionError: something does not hold in some world, or what `sometimes` says held in none.
    """
    app, flows = _given(what)
    rates = Faults.parse(faults) if isinstance(faults, str) else faults
    layouts = layouts_of(flows, styles)

    def decorate(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        parameters = list(inspect.signature(test).parameters.values())
        is_method = bool(parameters) and parameters[0].name == "self"

        @functools.wraps(test)
        def tried(*args: Any, minuet_options: Options | None = None, **given: Any) -> None:
            __tracebackhide__ = True
            options = minuet_options or Options()
            search = Search(flows, app, lambda sim: test(*args, sim, **given), layouts, rates)
            search.name = options.test or test.__qualname__
            if options.seed is not None:
                search.repeat(options.seed, options.only)
            else:
                count = seeds if options.seeds is None else options.seeds
                search.explore(range(first_seed, first_seed + count), max_failures)

        wanted = parameters[:1] + parameters[2:] if is_method else parameters[1:]
        options = inspect.Parameter("minuet_options", inspect.Parameter.KEYWORD_ONLY)
        tried.__signature__ = inspect.Signature([*wanted, options])  # type: ignore[attr-defined] # what pytest asks for
        tried.minuet_simulated = True  # type: ignore[attr-defined] # for the plugin
        return tried

    return decorate


class Search:
    """Looks for a world in which something is wrong with a test.

    `body` makes the coroutine of the test; `layouts` are tried in turn.
    """

    def __init__(
        self,
        flows: Sequence[Workflow[Any, Any, Any]],
        app: App | None,
        body: Body,
        layouts: Sequence[Layout],
        faults: Faults,
        *,
        name: str = "",
    ) -> None:
        self.name = name
        self.reached: dict[str, bool] = {}
        self._flows, self._app, self._body = flows, app, body
        self._layouts, self.faults = layouts, faults
        self._simulation: Simulation | None = None

    def explore(self, seeds: range, max_failures: int = 1) -> None:
        """Try many seeds. Raises AssertionError with the report."""
        __tracebackhide__ = True
        report = self.report(seeds, max_failures)
        if report.is_interrupted:
            raise KeyboardInterrupt
        if not report.is_clean:
            told = [failure_text(f, self.repeats(f)) for f in report.failures]
            assert report.smallest is not None
            story = story_text(report.smallest.verdict.story)
            raise AssertionError("\n\n".join([*told, f"What happened (seed {report.smallest.seed}):\n\n{story}"]))
        if missing := sorted(label for label, held in self.reached.items() if not held):
            raise AssertionError(f"never in {len(seeds)} worlds, so it is not tested: {', '.join(missing)}")

    def report(
        self,
        seeds: Sequence[int],
        max_failures: int = 1,
        *,
        on_progress: Callable[[Report], None] | None = None,
        keep: Path | None = None,
    ) -> Report:
        """Try many seeds, and tell what was found; failures are kept as files in the folder `keep`."""
        with _silent():
            return explore(
                self._scenario,
                self._build,
                seeds=seeds,
                layouts=self._layouts,
                faults=self.faults,
                settings=KEEPING,
                keep=keep,
                max_failures=max_failures,
                on_progress=on_progress,
                name=self.name,
            )

    def repeat(self, seed: int, only: Sequence[str] | None = None) -> None:
        """Try one seed, with some faults only if they are given. Raises AssertionError with what is wrong."""
        __tracebackhide__ = True
        verdict = self.verdict(seed, only)
        if verdict.violations:
            failure = Failure.of(verdict, self.faults, only=None if only is None else tuple(only), tried=1)
            told = failure_text(failure, self.repeats(failure))
            raise AssertionError(f"{told}\n\nWhat happened:\n\n{story_text(verdict.story)}")

    def verdict(self, seed: int, only: Sequence[str] | None = None) -> Verdict:
        """Perform the world of a seed, with some faults only if they are given."""
        layout = self._layouts[seed % len(self._layouts)]  # as `explore` takes them in turn
        world = World(self._build, seed=seed, layout=layout, faults=self.faults, only=only, settings=KEEPING)
        try:
            return world.run(self._scenario)
        finally:
            world.close()

    def repeats(self, failure: Failure) -> str:
        """Give the line that repeats a failure."""
        only = "" if failure.only is None else f" --minuet-only {','.join(failure.only) or 'none'}"
        return f"pytest {shlex.quote(self.name)} --minuet-seed {failure.seed}{only}"

    def _build(self, world: World) -> App:
        if self._simulation is None or self._simulation.world is not world:
            self._simulation = Simulation(world, self._flows, self._app)
            self._simulation.begin(self._body)
        return self._simulation.build()

    async def _scenario(self, world: World) -> None:
        simulation = self._simulation
        assert simulation is not None
        assert simulation.world is world
        world.checks.append(lambda _: self._count(simulation))
        await simulation.perform()

    def _count(self, simulation: Simulation) -> list[str]:
        """Take what a world has reached."""
        for label, held in simulation.reached.items():
            self.reached[label] = self.reached.get(label, False) or held
        return []


class Simulation:
    """One world, as a test sees it."""

    def __init__(self, world: World, flows: Sequence[Workflow[Any, Any, Any]], app: App | None) -> None:
        self.world = world
        self._flows = flows
        self._app = app
        self._services: Callable[[], Iterable[Service]] | None = None
        self._stages: list[Stage] = []
        self._tapes = Tapes(None, ())
        self._conditions = Conditions()
        self._tasks: list[asyncio.Task[None]] = []
        self._runs: list[str] = []

    # Before anything is started

    def outside(self, name: str, *, idempotent: bool = True, lose_reply: float | None = None) -> Outside:
        """Give somebody else's service, with its ledger: `await bank.call("charge", key, amount, op_key=…)`.

        With `idempotent` it knows a repeated call by its key; else each call takes effect, and what took effect twice
        is a violation. `lose_reply`: the share of calls that take effect, and are not answered.
        """
        return self.world.outside(name, idempotent=idempotent, lose_reply=lose_reply)

    def open(self, services: Services, *, outcomes: Outcomes | None = None) -> _Opening:
        """Give the services of the app, to be awaited before anything else is: instances, or what makes them.

        Instances outlive a crash, with what they hold in memory, as the world outside does. What makes them is called
        at each start of a process.
        """
        if self._services is not None or self._app is not None:
            raise DeclarationError("the services are given already", remedy="Give them once, with the first start")
        if callable(services):
            self._services = services
        else:
            kept = list(services)
            self._services = lambda: kept
        self._tapes = Tapes(outcomes, actions_of(list(self._services())))
        return _Opening()

    async def start(
        self,
        flow: Workflow[Any, Any, R],
        input: Any = None,
        *,
        services: Services | None = None,
        outcomes: Outcomes | None = None,
        key: str | None = None,
    ) -> Run[R]:
        """Start a run; the first one says with which services, see `open`."""
        if services is not None:
            await self.open(services, outcomes=outcomes)
        run = await self.world.client.start(flow, input, key=key)
        self._runs.append(run.id)
        return run

    # What happens

    async def send(self, event: object, *, key: str | None = None) -> EventReceipt:
        """Send an event from outside."""
        return await self.world.client.send(event, key=key)

    def cancel_somewhere(self, run: Run[Any]) -> None:
        """Cancel a run, at another moment in each world, and in some of them never."""
        r = self.world.chance.stream("cancel somewhere")
        after_s = CANCELS_WITHIN_S * 10 ** (-4 * r.random())  # in a millisecond as likely as in some seconds
        if r.random() < 0.8:
            self._tasks.append(asyncio.ensure_future(self._cancelled(run, after_s)))

    async def _cancelled(self, run: Run[Any], after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.world.note("test", f"cancels {run.key}")
        await run.cancel()

    @property
    def now_s(self) -> float:
        """Give the simulated seconds since the beginning."""
        return self.world.now_s

    def published(self) -> list[Published]:
        """Give all events that were published so far."""
        return published(self.world)

    def state(self, run: Run[Any]) -> str:
        """Give what is recorded as the state of a run at this instant."""
        stored = stored_run(self.world, _number(run.id))
        return "" if stored is None else stored.run.state

    def query(self, service: str, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Read from the store that a service has (its own, or the one that all share), at once."""
        databases = self.world.databases
        return databases.get(service, databases["home"]).query(sql, *arguments)

    # What is to be

    def always(self, condition: Condition, label: str = "") -> None:
        """Say what holds at any time; it is looked at whenever something was recorded."""
        self._conditions.always(condition, label)

    def eventually(self, condition: Condition, within: str | float = "1h", label: str = "") -> None:
        """Say what holds when everything has come to its end, which is to be at most so long after the last fault."""
        self._conditions.eventually(condition, within, label)

    def sometimes(self, condition: Condition | bool, label: str) -> None:  # noqa: FBT001 - reads as a sentence
        """Say what is to hold at least once in at least one of the worlds."""
        self._conditions.sometimes(condition, label)

    @property
    def reached(self) -> dict[str, bool]:
        """Which labels of `sometimes` have held here."""
        return self._conditions.reached

    # For whoever performs it

    def build(self) -> App:
        """Give the app of one process."""
        if not self._stages:
            self._stages.append(Stage(self.world, self._tapes, self._conditions))
        if self._app is not None:
            return self._stages[0].app(self._app, _copied(self._app.services))
        assert self._services is not None
        services = list(self._services())
        return self._stages[0].app(App("test", services=services, workflows=self._flows), services)

    def begin(self, body: Body) -> None:
        """Perform the test until its services are known.

        Raises:
            DeclarationError: it waits for something before that, or gives none.
        """
        self._rest = body(self)
        if self._app is not None:
            return
        try:
            asked = self._rest.send(None)
        except StopIteration:
            asked = None
        except RuntimeError as e:
            if "no running event loop" not in str(e):
                raise
            asked = None
        if not isinstance(asked, _Opening):
            self._rest.close()
            raise DeclarationError(
                "the test waits for something, or ends, before it has given any services",
                remedy="Give them first: await sim.start(flow, input, services=[…]), or await sim.open([…])",
            )

    async def perform(self) -> None:
        """Perform what is left of the test, with faults; give its runs some time, with faults as well."""
        self._stages[0].begin()
        self.world.checks.insert(0, self._check)
        await self._deployed()
        await _Going(self._rest)
        for task in self._tasks:
            await task
        until = self.now_s + FAULTS_AT_MOST_S * self.world.chance.stream("faults end").random()
        while self.now_s < until and any(not self._has_ended(run) for run in self._runs):  # noqa: ASYNC110 - of rows
            await asyncio.sleep(LOOK_EVERY_S)
        self._calm_s = self.now_s

    async def _deployed(self) -> None:
        """Wait until every process has been up once: what nobody has ever subscribed to, nobody keeps for him."""
        away = list(self.world.members)
        while away := [member for member in away if not member.is_up]:  # noqa: ASYNC110 - it looks from outside
            await asyncio.sleep(LOOK_EVERY_S / 10)

    def _has_ended(self, run: str) -> bool:
        rows = self.world.databases["home"].query("select load from minuet_run where run = ?", _number(run))
        return bool(rows) and rows[0][0] is None

    def _check(self, world: World) -> list[str]:
        return [*self._conditions.at_the_end(self.now_s - self._calm_s), *dict.fromkeys(self._stages[0].escaped)]


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Say nothing of all that goes wrong, as it is meant to."""
    log = logging.getLogger("minuet")
    was, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was


def _given(what: Sequence[Workflow[Any, Any, Any] | App]) -> tuple[App | None, list[Workflow[Any, Any, Any]]]:
    """Give the app, if there is one, and the workflows."""
    apps = [x for x in what if isinstance(x, App)]
    flows = [x for x in what if isinstance(x, Workflow)]
    if len(apps) + len(flows) != len(what) or not what or (apps and len(what) > 1):
        raise DeclarationError(
            "@simulate is given neither workflows nor one app", remedy="Write @simulate(place_order, seeds=100)"
        )
    return (apps[0], list(apps[0].workflows.values())) if apps else (None, flows)


def layouts_of(flows: Sequence[Workflow[Any, Any, Any]], styles: Sequence[str]) -> list[Layout]:
    """Give the layouts that are tried in turn."""
    found: list[Layout] = []
    for n, style in enumerate(styles):
        variant = Variant.parse(style)
        if "," in style:
            found.append(variant.layout(flows, seed=n))
            continue
        one = variant.layout(flows, seed=n)
        found += [one, replace(one, workers=2), replace(one, is_apart=True)]
    return found


def _copied(services: Sequence[Service]) -> list[Service]:
    """Give services as they were before anything was done: what one process keeps in memory no other one has."""
    try:
        return copy.deepcopy(list(services))
    except Exception as e:
        raise DeclarationError(
            f"the services of the app cannot be copied for each simulated process: {type(e).__name__}: {e}",
            remedy="Give workflows instead of the app, and what makes services: sim.start(…, services=make)",
        ) from e


def _number(run: str) -> int:
    number = parse_run(run)
    assert number is not None
    return number


class _Opening:
    """Awaited where services are given: the test goes on when the world has been built with them."""

    def __await__(self) -> Generator[Any, Any, None]:
        yield self


class _Going:
    """A coroutine that was begun elsewhere, to be awaited to its end."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Generator[Any, Any, None]:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                asked = self._coroutine.send(value) if error is None else self._coroutine.throw(error)
            except StopIteration:
                return
            value = error = None
            try:
                value = yield asked
            except BaseException as e:  # noqa: BLE001 - it is handed on
                error = e
