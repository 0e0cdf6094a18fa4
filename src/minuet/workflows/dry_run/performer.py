"""The performer of a dry run: what it means to await something, to enter and leave a block, to decide."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any

from minuet.contracts.action import CANCELLED, Rejection, TooMany
from minuet.contracts.codec import codec_for
from minuet.contracts.message import event_spec
from minuet.contracts.service import service_spec
from minuet.contracts.signature import bound_arguments
from minuet.contracts.step import CallSite, Promise, Step
from minuet.errors import MisplacedCall, NotFound
from minuet.workflows import tree
from minuet.workflows.dry_run.actor import Actor
from minuet.workflows.dry_run.compensation import Done, Scopes, compensation_of
from minuet.workflows.dry_run.deadline import Deadlines
from minuet.workflows.dry_run.script import Script
from minuet.workflows.dry_run.trace import Round, Trace
from minuet.workflows.dry_run.whereabouts import Whereabouts
from minuet.workflows.words import AttemptBlock, Block, Called, DeadlineBlock, ForEach, Sleeping, Together, WaitFor


class Performer:
    """Gives the words of a workflow their meaning: does at once what is awaited, and records the facts."""

    def __init__(self, whole: tree.WorkflowTree, script: Script, actor: Actor) -> None:
        self.trace = Trace()
        self._script = script
        self._actor = actor
        self._where = Whereabouts(whole)
        self._scopes = Scopes(actor, self.trace)
        self._deadlines = Deadlines()

    async def execute(
        self, function: Callable[..., Coroutine[Any, Any, Any]], arguments: Iterable[Any], named: Mapping[str, Any]
    ) -> Any:
        """Execute the function whose text is at hand."""
        return await self._where.counting(function)(*arguments, **named)

    async def undo_all(self) -> None:
        """Compensate what the whole workflow has done."""
        await self._scopes.undo(self._scopes.end())

    # What is awaited.

    async def perform(self, promise: Promise[Any]) -> Any:
        """Do what is awaited, and give its value."""
        match promise:
            case Step():
                return await self._step(promise)
            case Together():
                return tuple(await self._branches(promise.branches))
            case ForEach():
                return await self._each(promise)
            case WaitFor():
                return self._wait(promise)
            case Sleeping():
                return self._sleep(promise)
            case Called():
                with self._where.inside(promise):
                    return await self.execute(promise.workflow.function, promise.arguments, promise.keywords)
        raise MisplacedCall(f"{promise} cannot be awaited here", remedy="Await a step, or a word of minuet")

    async def _step(self, step: Step[Any]) -> Any:
        """Run an action, or take its answer from the script; what may have to be undone is kept."""
        service: Any = step.bound.service
        spec = service_spec(type(service)).actions[step.bound.action.name]
        node, round_ = self._where.find(tree.Step, step.site, lambda n: n.action == spec.name)
        self._check_deadlines(node.position, round_)
        where = f"{node.service}.{spec.name}"
        arguments = codec_for(spec.input).encode(spec.input(**bound_arguments(where, spec, step)))
        answer = self._script.outcome(node.position, where)
        try:
            if answer is ...:
                answer = await self._actor.run(service, spec, node.position, round_, arguments)
            elif isinstance(answer, BaseException):
                self._deadlines.blame(answer)
                raise answer
        except Rejection as rejection:
            self.trace.outcome(node, round_, rejection)
            raise
        result = codec_for(spec.result).encode_checked(answer)
        value = codec_for(spec.result).decode(result)  # what a run would see, not what the action holds
        self.trace.outcome(node, round_, value)
        if (by := compensation_of(step, spec)) is not None:
            self._scopes.add(Done(node.position, round_, *by, arguments, result))
        return value

    async def _each(self, promise: ForEach[Any]) -> list[Any]:
        """Run the body for every element."""
        node, round_ = self._where.find(tree.Each, promise.site)
        if len(promise.items) > promise.limit:
            raise TooMany(f"{len(promise.items)} elements, and at most {promise.limit} are allowed")

        def branches() -> Iterable[Promise[Any]]:
            for index, item in enumerate(promise.items):
                self._where.begin_round(node.position, index)
                yield promise.body(item)

        values = await self._branches(branches())
        self.trace.record(node.position, round_, "ok", values)
        return values

    async def _branches(self, branches: Iterable[Promise[Any]]) -> list[Any]:
        """Run every branch to its end; if one is rejected, undo them all, and let the first rejection go on."""
        values, done, rejected = list[Any](), list[list[Done]](), list[Rejection]()
        for branch in branches:
            self._scopes.begin()
            try:
                values.append(await branch)
            except Rejection as rejection:
                rejected.append(rejection)
                await self._scopes.undo(self._scopes.end())  # at once; its siblings when all have ended
            except BaseException:
                self._scopes.end()
                raise
            else:
                done.append(self._scopes.end())
        for scope in done:
            if rejected:
                await self._scopes.undo(scope)
            else:
                self._scopes.keep(scope)
        if rejected:
            raise rejected[0]
        return values

    def _wait(self, promise: WaitFor[Any]) -> Any:
        """Take the event from the script."""
        spec = event_spec(promise.event)
        assert spec is not None
        node, round_ = self._where.find(tree.Wait, promise.site, lambda n: n.event == spec.name)
        self._check_deadlines(node.position, round_)

        def fits(event: Any) -> bool:
            if event is None or spec.key is None:
                return True
            return isinstance(event, promise.event) and str(getattr(event, spec.key)) == str(promise.key)

        seen = self._script.event(node.position, spec.name, fits)
        if seen is not None and seen is not ...:
            self.trace.record(node.position, round_, "ok", seen)
            return seen
        if promise.timeout_ms is None:
            raise NotFound(
                f"the wait at {node.position} would last for ever: there is no {spec.name} with key {promise.key!r}",
                remedy=f'Give it: events={{"{spec.name}": [{promise.event.__name__}(…)]}}',
            )
        self.trace.record(node.position, round_, "fired")
        return None

    def _sleep(self, promise: Sleeping) -> None:
        """Let any time pass at once."""
        node, round_ = self._where.find(tree.Sleep, promise.site)
        self._check_deadlines(node.position, round_)
        self.trace.record(node.position, round_, "fired")

    def _check_deadlines(self, position: str, round_: Round) -> None:
        """Reject a position inside a block whose deadline has passed."""
        rejection = self._deadlines.passed()
        if rejection is not None:
            self.trace.rejected(position, round_, rejection)
            raise rejection

    # Blocks and decisions.

    async def enter(self, block: Block[Any]) -> None:
        """Begin a block."""
        match block:
            case AttemptBlock():
                self._scopes.begin()
            case DeadlineBlock():
                node, round_ = self._where.find(tree.Deadline, block.site)
                has_passed = self._script.passes(node.position)
                if has_passed:
                    self.trace.record(node.position, round_, "fired")
                self._deadlines.enter(node.position, has_passed=has_passed)

    async def leave(self, block: Block[Any], error: BaseException | None) -> bool:
        """End a block; an attempt swallows a rejection that it lists, after undoing what the block did."""
        match block:
            case DeadlineBlock():
                self._deadlines.leave()
            case AttemptBlock():
                scope = self._scopes.end()
                if isinstance(error, Rejection) and self._is_caught(block, error):
                    await self._scopes.undo(scope)
                    block.given.rejected = error
                    return True
                self._scopes.keep(scope)
        return False

    def _is_caught(self, block: AttemptBlock, rejection: Rejection) -> bool:
        """Tell whether an attempt takes a rejection; a deadline around it, or a person's cancellation, it does not."""
        if rejection.code == CANCELLED or self._deadlines.is_still_around(rejection):
            return False
        return block.codes is None or rejection.code in block.codes

    def decide(self, service: object, condition: object, site: CallSite) -> bool:
        """Record the decision of a service."""
        node, round_ = self._where.find(tree.Choice, site, lambda n: n.at is not None)
        decision = bool(condition)
        self.trace.record(node.position, round_, "chosen:then" if decision else "chosen:else", decision)
        return decision
