"""A workflow as ordinary Python: the same function, with real breakpoints, and neither store nor broker.

What is awaited is done at once, one thing after the other: branches in the order of the text, each to its end. That is
one of the orders in which a participant might do it, and all of them give the same facts. Compensation is as in a
run: what a block, a branch or the workflow has done is undone last first, by the contract's compensation or the
step's own; a failed branch undoes itself at once, its siblings when all have ended.

**Positions.** The reader has given every step, wait and block a position, and the place in the file where it
stands; the place of a call that is being executed is in the interpreter's own table (`code.co_positions`). The two
are matched in the text at hand: that of the workflow, or of the one that it has called, which has the same lines but
the positions of its call.

**Rounds.** Inside a called or looping text the round is counted where it begins: `each` counts its elements, and
`range` is replaced, for the time of a dry run, by one that tells which round of which loop it hands out. The function
is the user's own code object, with a copy of its module's globals. So what a module's globals become *during* a dry
run is not seen by a workflow that loops.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar

from minuet.contracts.action import CANCELLED, ActionSpec, DeadlinePassed, InvalidValue, Rejection, TooMany
from minuet.contracts.codec import codec_for
from minuet.contracts.handler import Context, Row, Transaction, collecting
from minuet.contracts.message import event_spec
from minuet.contracts.service import Service, service_spec
from minuet.contracts.step import CallSite, Promise, Step, call_site, performing
from minuet.errors import DeclarationError, InvalidPayload, MisplacedCall, NotFound
from minuet.workflows import tree
from minuet.workflows.words import AttemptBlock, Block, Called, DeadlineBlock, ForEach, Sleeping, Together, WaitFor

if TYPE_CHECKING:
    from minuet.workflows.workflow import Workflow

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")
N = TypeVar("N", bound=tree.Node)

Round = tuple[int, ...]


class Entry(NamedTuple):
    """A fact of a trace: where, in which round, what became of it, and its value."""

    position: str
    round: Round
    label: str
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun(Generic[R]):
    """What became of a dry run.

    `result` is None and `rejection` a code when it was rejected; `raised` is the rejection itself. `trace` has the
    facts in the order in which they came about, `published` the events that handlers sent, and `statements` what
    they would have written, as (text, arguments).
    """

    result: R | None
    rejection: str | None
    raised: Rejection | None
    trace: list[Entry]
    published: list[Any]
    statements: list[tuple[str, tuple[Any, ...]]]


async def dry_run(
    flow: Workflow[A, P, R],
    input: A,
    /,
    *,
    outcomes: Mapping[str, Sequence[Any]] | None = None,
    events: Mapping[str, Sequence[Any]] | None = None,
    deadlines: Collection[str] = (),
    provide: Mapping[type, Any] | None = None,
    key: str = "dry-run",
    **services: Service,
) -> DryRun[R]:
    """Execute a workflow as ordinary Python, and tell what became of it.

    What an action raises, other than a declared rejection, reaches the caller: nothing is tried again. Sleeps take
    no time. A transaction takes statements and keeps them for `DryRun.statements`; each counts as one changed row,
    and a query is refused, since there is nothing to query: provide a transaction of your own where one is needed.

    Args:
        flow: the workflow.
        input: its input; None where it takes none.
        outcomes: what steps answer instead of running, in the order in which they are reached: by
            `"service.action"` or by position, a list of results and rejections. `...` in it lets the action run, and
            so does the end of the list.
        events: what waits see, in the same way: by the name of the event's type or by position, a list of events.
            None in it is a wait that runs out, and so is the end of the list.
        deadlines: positions of deadlines that pass, as soon as they are set.
        provide: what is injected into actions, by type.
        key: the business key of the run.
        **services: the services, under the names of the workflow's parameters.

    Raises:
        NotFound: a wait without a timeout has no event, or a name above is none of the workflow's.
    """
    performer = _Performer(flow, outcomes or {}, events or {}, deadlines, provide or {}, key)
    arguments: tuple[Any, ...] = ()
    if flow.tree.input is not None:
        arguments = (_as_it_arrives(input, flow.input_type),)
    with performing(performer):
        return await performer.whole(arguments, services)


class _Text:
    """The text that is being executed: finds the node of a call, and the loops around it."""

    def __init__(self, name: str, body: tree.Node, around: tuple[str, ...]) -> None:
        self.name = name
        self.nodes = sorted(_nodes(body, around), key=lambda found: (found[0].place.line, found[0].place.column))
        self.has_loops = any(isinstance(node, tree.Loop) for node, _ in self.nodes)

    def find(
        self, kind: type[N], site: CallSite, accept: Callable[[N], bool] = lambda _: True
    ) -> tuple[N, tuple[str, ...]]:
        """Give the node of a kind that stands at a place, and the positions of the loops around it.

        A node's place may begin a little before the call (at `await`, `for` or `async with`), and Python gives a
        method call over several lines the place of its last name: so it is the last one that is not behind.
        """
        best = None
        for node, around in self.nodes:
            if isinstance(node, kind) and accept(node):
                place = (node.place.line, node.place.column)
                if place == site:
                    return node, around
                if place[0] < site.line or (place[0] == site.line and (place[1] < site.column or not site.column)):
                    best = node, around
        if best is None:
            raise MisplacedCall(
                f"line {site.line} of {self.name} does something that its plan does not know",
                remedy="Await it in the workflow's own text, not in a function that it calls",
            )
        return best


def _nodes(node: tree.Node, around: tuple[str, ...]) -> Iterator[tuple[tree.Node, tuple[str, ...]]]:
    """Give every node of a text with the positions of the loops around it; called workflows are other texts."""
    yield node, around
    match node:
        case tree.Seq():
            parts = [(part, around) for part in node.parts]
        case tree.Par():
            parts = [(branch, around) for branch in node.branches]
        case tree.Choice():
            parts = [(node.then, around), (node.otherwise, around)]
        case tree.Loop():
            parts = [(node.body, (*around, node.position)), (node.otherwise, around)]
        case tree.Each():
            parts = [(node.body, (*around, node.position))]
        case tree.Attempt() | tree.Deadline() | tree.Section():
            parts = [(node.body, around)]
        case _:
            parts = []
    for part, outside in parts:
        yield from _nodes(part, outside)


@dataclass(frozen=True, slots=True)
class _Undo:
    """What it takes to take one step back."""

    position: str
    round: Round
    service: Service
    spec: ActionSpec
    arguments: bytes
    result: bytes


@dataclass(slots=True)
class _Deadline:
    """A deadline whose block is being executed."""

    position: str
    passes: bool


@dataclass(slots=True)
class _Script:
    """What steps answer and waits see, as the caller has set it: by position or by name, each list in order."""

    rows: dict[str, list[Any]] = field(default_factory=dict)

    def next(self, *names: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
        """Take the next entry under one of these names that fits; `...` if there is none."""
        for name in names:
            for i, entry in enumerate(self.rows.get(name, ())):
                if fits(entry):
                    return self.rows[name].pop(i)
        return ...


class _Performer:
    """Gives the words of a workflow their meaning: does what is awaited, and keeps what must be undone."""

    def __init__(
        self,
        flow: Workflow[Any, ..., Any],
        outcomes: Mapping[str, Sequence[Any]],
        events: Mapping[str, Sequence[Any]],
        deadlines: Collection[str],
        provide: Mapping[type, Any],
        key: str,
    ) -> None:
        self.flow = flow
        self.key = key
        self.texts = [_Text(flow.name, flow.tree.body, ())]
        self.outcomes = _Script({name: list(row) for name, row in outcomes.items()})
        self.events = _Script({name: list(row) for name, row in events.items()})
        self.passing = frozenset(deadlines)
        self.provide = {Transaction: _Recorder(self), **provide}
        self.rounds: dict[str, int] = {}
        self.scopes: list[list[_Undo]] = [[]]
        self.deadlines: list[_Deadline] = []
        self.cut: list[tuple[Rejection, _Deadline | None]] = []
        self.trace: list[Entry] = []
        self.published: list[Any] = []
        self.statements: list[tuple[str, tuple[Any, ...]]] = []
        _check_names(flow.tree, self.outcomes.rows, self.events.rows, self.passing)

    # The whole, and what is awaited.

    async def whole(self, arguments: tuple[Any, ...], services: Mapping[str, Any]) -> DryRun[Any]:
        """Perform the workflow itself; a rejection that reaches its end undoes everything."""
        result, raised = None, None
        try:
            returned = await self.function(self.flow.function)(*arguments, **services)
            result = _as_it_arrives(returned, self.flow.result_type)
        except Rejection as rejection:
            raised = rejection
            await self.undo(self.scopes[0])
        return DryRun(
            result=result,
            rejection=None if raised is None else raised.code,
            raised=raised,
            trace=self.trace,
            published=self.published,
            statements=self.statements,
        )

    async def perform(self, promise: Promise[Any]) -> Any:
        """Do what is awaited, and give its value."""
        match promise:
            case Step():
                return await self.step(promise)
            case Together():
                return await self.together(promise)
            case ForEach():
                return await self.each(promise)
            case WaitFor():
                return self.wait(promise)
            case Sleeping():
                return self.sleep(promise)
            case Called():
                return await self.call(promise)
        raise MisplacedCall(f"{promise} cannot be awaited here", remedy="Await a step, or a word of minuet")

    async def step(self, step: Step[Any]) -> Any:
        """Run an action, or take its answer from the script; what may have to be undone is kept."""
        service, action = step.bound.service, step.bound.action
        node, around = self.text.find(tree.Step, step.site, lambda n: n.action == action.name)
        round_ = self.round(around)
        self.check_deadlines(node.position, round_)
        spec = service_spec(type(service)).actions[action.name]  # type: ignore[arg-type]
        where = f"{node.service}.{action.name}"
        given = _bound_arguments(where, spec, step)
        arguments = codec_for(spec.input).encode(spec.input(**given))
        answer = self.outcomes.next(node.position, where)
        try:
            if answer is ...:
                answer = await self.run(service, spec, where, arguments, self.context(node.position, round_, arguments))
            elif isinstance(answer, BaseException):
                if isinstance(answer, DeadlinePassed) and self.deadlines:
                    self.cut.append((answer, self.deadlines[-1]))
                raise answer
        except Rejection as rejection:
            self.outcome(node, round_, f"rejected:{rejection.code}", _details(rejection))
            raise
        result = codec_for(spec.result).encode_checked(answer)
        value = codec_for(spec.result).decode(result)  # what a run would see, not what the action holds
        self.outcome(node, round_, "ok", value)
        by = self.compensation_of(step, spec)
        if by is not None:
            self.scopes[-1].append(_Undo(node.position, round_, *by, arguments, result))
        return value

    async def together(self, promise: Together[Any]) -> tuple[Any, ...]:
        """Run every branch to its end; if one is rejected, undo the others, and let the first rejection go on."""
        values, done, rejected = list[Any](), list[list[_Undo]](), list[Rejection]()
        for branch in promise.branches:
            await self.branch(branch, values, done, rejected)
        await self.join(done, rejected)
        return tuple(values)

    async def each(self, promise: ForEach[Any]) -> list[Any]:
        """Run the body for every element; as `together`."""
        node, around = self.text.find(tree.Each, promise.site)
        round_ = self.round(around)
        if len(promise.items) > promise.limit:
            raise TooMany(f"{len(promise.items)} elements, and at most {promise.limit} are allowed")
        values, done, rejected = list[Any](), list[list[_Undo]](), list[Rejection]()
        for index, item in enumerate(promise.items):
            self.rounds[node.position] = index
            await self.branch(promise.body(item), values, done, rejected)
        await self.join(done, rejected)
        self.record(node.position, round_, "ok", values)
        return values

    async def branch(
        self, promise: Promise[Any], values: list[Any], done: list[list[_Undo]], rejected: list[Rejection]
    ) -> None:
        """Run one branch to its end; rejected, it undoes itself at once."""
        self.scopes.append([])
        try:
            values.append(await promise)
        except Rejection as rejection:
            rejected.append(rejection)
            await self.undo(self.scopes.pop())
        except BaseException:
            self.scopes.pop()
            raise
        else:
            done.append(self.scopes.pop())

    async def join(self, done: list[list[_Undo]], rejected: list[Rejection]) -> None:
        """Go on after all branches: keep what they did, or undo it and let the first rejection go on."""
        if rejected:
            for scope in done:
                await self.undo(scope)
            raise rejected[0]
        for scope in done:
            self.scopes[-1].extend(scope)

    def wait(self, promise: WaitFor[Any]) -> Any:
        """Take the event from the script."""
        spec = event_spec(promise.event)
        assert spec is not None
        node, around = self.text.find(tree.Wait, promise.site, lambda n: n.event == spec.name)
        round_ = self.round(around)
        self.check_deadlines(node.position, round_)

        def fits(event: Any) -> bool:
            if event is None or spec.key is None:
                return True
            return isinstance(event, promise.event) and str(getattr(event, spec.key)) == str(promise.key)

        seen = self.events.next(node.position, spec.name, fits=fits)
        if seen is not None and seen is not ...:
            return self.record(node.position, round_, "ok", seen)
        if promise.timeout_ms is None:
            raise NotFound(
                f"the wait at {node.position} would last for ever: there is no {spec.name} with key {promise.key!r}",
                remedy=f'Give it: events={{"{spec.name}": [{promise.event.__name__}(…)]}}',
            )
        return self.record(node.position, round_, "fired")

    def sleep(self, promise: Sleeping) -> None:
        """Let any time pass at once."""
        node, around = self.text.find(tree.Sleep, promise.site)
        round_ = self.round(around)
        self.check_deadlines(node.position, round_)
        self.record(node.position, round_, "fired")

    async def call(self, promise: Called[Any]) -> Any:
        """Perform another workflow inside this one: its steps belong to this run."""
        name = promise.workflow.name
        node, around = self.text.find(tree.Call, promise.site, lambda n: n.workflow == name)
        self.texts.append(_Text(name, node.body, around))
        try:
            return await self.function(promise.workflow.function)(*promise.arguments, **promise.keywords)
        finally:
            self.texts.pop()

    # Blocks and decisions.

    async def enter(self, block: Block[Any]) -> None:
        """Begin a block."""
        match block:
            case AttemptBlock():
                self.scopes.append([])
            case DeadlineBlock():
                node, around = self.text.find(tree.Deadline, block.site)
                passes = node.position in self.passing
                if passes:
                    self.record(node.position, self.round(around), "fired")
                self.deadlines.append(_Deadline(node.position, passes))

    async def leave(self, block: Block[Any], error: BaseException | None) -> bool:
        """End a block; an attempt swallows a rejection that it lists, after undoing what the block did."""
        match block:
            case DeadlineBlock():
                self.deadlines.pop()
            case AttemptBlock():
                scope = self.scopes.pop()
                if isinstance(error, Rejection) and self.is_caught(block, error):
                    await self.undo(scope)
                    block.given.rejected = error
                    return True
                self.scopes[-1].extend(scope)
        return False

    def decide(self, service: object, condition: object, site: CallSite) -> bool:
        """Record the decision of a service."""
        node, around = self.text.find(tree.Choice, site, lambda n: n.at is not None)
        decision = bool(condition)
        self.record(node.position, self.round(around), "chosen:then" if decision else "chosen:else", decision)
        return decision

    def is_caught(self, block: AttemptBlock, rejection: Rejection) -> bool:
        """Tell whether an attempt takes a rejection; a deadline around it, or a person's cancellation, it does not."""
        cut_by = next((deadline for cut, deadline in self.cut if cut is rejection), None)
        if rejection.code == CANCELLED or any(deadline is cut_by for deadline in self.deadlines):
            return False
        return block.codes is None or rejection.code in block.codes

    def check_deadlines(self, position: str, round_: Round) -> None:
        """Reject a position inside a block whose deadline has passed."""
        passed = next((d for d in self.deadlines if d.passes), None)
        if passed is not None:
            rejection = DeadlinePassed(f"the deadline {passed.position} has passed")
            self.cut.append((rejection, passed))
            self.record(position, round_, f"rejected:{rejection.code}", _details(rejection))
            raise rejection

    # Compensation.

    def compensation_of(self, step: Step[Any], spec: ActionSpec) -> tuple[Service, ActionSpec] | None:
        """Give what undoes a step: what the workflow says, else what the contract says."""
        service: Any = step.bound.service
        if step.kept:
            return None
        if step.compensation is not None:
            service, name = step.compensation.service, step.compensation.action.name
        elif spec.compensation is not None:
            name = spec.compensation
        else:
            return None
        return service, service_spec(type(service)).actions[name]

    async def undo(self, scope: list[_Undo]) -> None:
        """Compensate what was done in a scope, last first."""
        for done in reversed(scope):
            parameter = done.spec.parameters[0]
            result = codec_for(parameter.type).decode(done.result)
            context = self.context(done.position, done.round, done.arguments, direction="compensation")
            where = f"{service_spec(type(done.service)).name}.{done.spec.name}"
            await self.invoke(done.service, done.spec, where, {parameter.name: result}, context)
            self.record(done.position, done.round, "compensated")

    # Running actions.

    async def run(self, service: Any, spec: ActionSpec, where: str, arguments: bytes, context: Context) -> Any:
        """Run an action with the arguments as they would arrive there."""
        try:
            record = codec_for(spec.input).decode(arguments)
        except InvalidPayload as error:
            raise InvalidValue(str(error)) from error
        try:
            return await self.invoke(
                service, spec, where, {p.name: getattr(record, p.name) for p in spec.parameters}, context
            )
        except Rejection as rejection:
            if rejection.code not in {r.code for r in spec.rejects}:
                raise DeclarationError(
                    f'{where} rejected with "{rejection.code}", which it does not declare',
                    remedy=f"Declare it: @action(rejects=({type(rejection).__name__},))",
                ) from rejection
            raise

    async def invoke(
        self, service: Any, spec: ActionSpec, where: str, arguments: dict[str, Any], context: Context
    ) -> Any:
        """Call an action's function, with what it wants injected; it is not part of the workflow's text."""
        assert spec.function is not None
        injected = {name: self.injected(where, wanted, context) for name, wanted in spec.injected.items()}
        with performing(None), collecting(where, spec.emits) as published:
            value = spec.function(service, **arguments, **injected)
            value = await value if inspect.isawaitable(value) else value
        self.published.extend(published)
        return value

    def injected(self, where: str, wanted: Any, context: Context) -> Any:
        """Give what a parameter marked as injected asks for."""
        if wanted is Context:
            return context
        if wanted in self.provide:
            return self.provide[wanted]
        name = getattr(wanted, "__name__", str(wanted))
        raise MisplacedCall(
            f"{where} wants a {name} injected, and there is none", remedy=f"Give it: provide={{{name}: …}}"
        )

    def context(self, position: str, round_: Round, arguments: bytes, direction: str = "forward") -> Context:
        """Make the context of one piece of work."""
        counted = ".".join(map(str, round_)) or "0"
        return Context(
            run="dry-run",
            key=self.key,
            workflow=self.flow.name,
            position=position,
            round=round_,
            op_key=f"dry-run:{position}:{counted}:{direction}:0",
            input_bytes=arguments,
        )

    # Where we are.

    @property
    def text(self) -> _Text:
        """The text that is being executed."""
        return self.texts[-1]

    def round(self, around: Iterable[str]) -> Round:
        """Give the round inside these loops, outermost first."""
        return tuple(self.rounds[position] for position in around)

    def record(self, position: str, round_: Round, label: str, value: Any = None) -> Any:
        """Add a fact to the trace, and give its value."""
        self.trace.append(Entry(position, round_, label, value))
        return value

    def outcome(self, node: tree.Step, round_: Round, label: str, value: Any) -> None:
        """Record the outcome of a step, and the verdict on it where the step may be abandoned."""
        is_abandoned = node.timeout_ms is not None and node.timeout_then == "abandon"
        if not (is_abandoned and label == "rejected:timeout"):
            self.record(node.position, round_, label, value)
        if is_abandoned:
            self.record(f"{node.position}!", round_, label, value)

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give the function whose text is at hand with a `range` that counts the rounds of its loops."""
        if not self.text.has_loops or not isinstance(function, types.FunctionType):
            return function
        text = self.text

        def counting_range(*bounds: int) -> Iterable[int]:
            loop, _ = text.find(tree.Loop, call_site())
            return self.counted(loop.position, range(*bounds))

        copy = types.FunctionType(
            function.__code__,
            {**function.__globals__, "range": counting_range},
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        copy.__kwdefaults__ = function.__kwdefaults__
        return copy

    def counted(self, position: str, indices: range) -> Iterator[int]:
        """Hand out the indices of a loop, and remember which round it is."""
        for round_, index in enumerate(indices):
            self.rounds[position] = round_
            yield index


class _Recorder:
    """A transaction that keeps statements, and has nothing to be queried."""

    def __init__(self, performer: _Performer) -> None:
        self.performer = performer

    async def execute(self, sql: str, *args: Any) -> int:
        """Keep a statement, as if it had changed one row."""
        self.performer.statements.append((sql, args))
        return 1

    async def executemany(self, sql: str, rows: Iterable[Sequence[Any]]) -> int:
        """Keep a statement for each row of arguments."""
        every = [tuple(row) for row in rows]
        self.performer.statements.extend((sql, row) for row in every)
        return len(every)

    async def fetch(self, sql: str, *args: Any) -> list[Row]:
        """Refuse to answer."""
        raise self.refusal(sql)

    async def fetch_one(self, sql: str, *args: Any) -> Row | None:
        """Refuse to answer."""
        raise self.refusal(sql)

    def refusal(self, sql: str) -> MisplacedCall:
        """Say why a query has no answer."""
        return MisplacedCall(
            f"a dry run has no store that could answer: {sql}",
            remedy="Give a transaction that can: dry_run(…, provide={Transaction: …})",
        )


def _bound_arguments(where: str, spec: ActionSpec, step: Step[Any]) -> dict[str, Any]:
    """Give a step's arguments by the names of the action's parameters; those left out have their defaults."""
    assert spec.function is not None
    given = inspect.signature(spec.function).bind(None, *step.arguments, **step.keywords).arguments
    foreign = [name for name in given if name in spec.injected]
    if foreign:
        raise MisplacedCall(
            f"{where} is given {', '.join(foreign)}, which the platform fills in", remedy="Leave it out of the step"
        )
    return {p.name: given[p.name] for p in spec.parameters if p.name in given}


def _as_it_arrives(value: Any, type_: Any) -> Any:
    """Give a value as it would be after travelling as JSON."""
    codec = codec_for(type_)
    return codec.decode(codec.encode_checked(value))


def _details(rejection: Rejection) -> dict[str, Any]:
    return {"message": rejection.message, "details": rejection.details}


def _check_names(
    whole: tree.WorkflowTree, outcomes: Collection[str], events: Collection[str], deadlines: Collection[str]
) -> None:
    """Refuse a name that nothing in the workflow has: a slip of the pen would otherwise change nothing."""
    steps, waits, blocks = set[str](), set[str](), set[str]()
    todo: list[tree.Node] = [whole.body]
    while todo:
        for node, _ in _nodes(todo.pop(), ()):
            match node:
                case tree.Step():
                    steps.update((node.position, f"{node.service}.{node.action}"))
                case tree.Wait():
                    waits.update((node.position, node.event))
                case tree.Deadline():
                    blocks.add(node.position)
                case tree.Call():
                    todo.append(node.body)
    for what, given, known in (
        ("outcomes", outcomes, steps),
        ("events", events, waits),
        ("deadlines", deadlines, blocks),
    ):
        unknown = sorted(set(given) - known)
        if unknown:
            raise NotFound(
                f"{what} names {', '.join(unknown)}, and {whole.name} has none such",
                remedy=f"It has: {', '.join(sorted(known)) or 'none'}",
            )
