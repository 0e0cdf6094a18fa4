"""`Control` over the participant of this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

from minuet.contracts.codec import Codec, codec_for
from minuet.contracts.message import event_spec
from minuet.contracts.service import Service, service_spec
from minuet.contracts.strict_json import check_limits, read_json
from minuet.engine import bound, decide
from minuet.engine.answer import Answer, Done, Rejected
from minuet.engine.decided import Decided
from minuet.engine.knowledge import Knowledge
from minuet.engine.program import RESULT, Program
from minuet.engine.row import ENDED, AuditRow, Decision, EventRow, RunRow, RunState
from minuet.errors import Conflict, InvalidPayload, KeyConflict, MinuetError, NotFound
from minuet.ids import run_text
from minuet.plans.plan import Plan
from minuet.runtime import describe
from minuet.runtime.letters import Letters
from minuet.runtime.participant import Participant
from minuet.runtime.reading import Reading, number_of
from minuet.runtime.recovery import Recovery
from minuet.runtime.threads import Threads
from minuet.runtime.view import Acknowledged, EventReceipt, Health, RunView
from minuet.runtime.worker import Worker
from minuet.workflows.workflow import Workflow


class LocalControl(Reading):
    """The verbs, performed here."""

    def __init__(
        self,
        participant: Participant,
        worker: Worker,
        recovery: Recovery,
        threads: Threads,
        workflows: Mapping[str, Workflow[Any, Any, Any]],
        current: Mapping[str, Plan],
        events: Mapping[str, type],
        services: list[Service],
        letters: Letters,
    ) -> None:
        super().__init__(participant.store, participant.clock)
        self.letters = letters
        self._participant = participant
        self._worker = worker
        self._recovery = recovery
        self._threads = threads
        self._workflows = workflows
        self._plans = current
        self._events = events
        self._specs = {s.name: s for s in (service_spec(type(x)) for x in services)}
        # Whoever starts a key holds its lock; one that nobody holds or waits for goes by itself.
        self._starting: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    # Starting, and waiting for the end

    async def start(
        self,
        workflow: str,
        input_: bytes | None,
        *,
        key: str | None = None,
        on_duplicate: str = "same",
        again: bool = False,
        wait_for_room: bool = True,
    ) -> tuple[RunView, bool]:
        """Start a run; see `Control.start`."""
        raw = self._checked_input(workflow, input_)
        if on_duplicate not in ("same", "refuse", "replace"):
            raise InvalidPayload(f"on_duplicate is {on_duplicate!r}", remedy="Give same, refuse or replace")
        if key is None:
            return await self._started(workflow, None, raw, wait_for_room=wait_for_room), True
        _check_key(key)
        async with self._starting.setdefault((workflow, key), asyncio.Lock()):
            row = await self._participant.store.find_run(workflow, key)
            if row is not None and on_duplicate == "replace" and row.state not in ENDED:
                row = await self._replaced(row)
            if row is not None and not (again and row.state in ENDED):
                # Retention may have forgotten it in this moment, and its key with it.
                with contextlib.suppress(NotFound):
                    return await self._same(row, raw, on_duplicate), False
            return await self._started(workflow, key, raw, wait_for_room=wait_for_room), True

    def _checked_input(self, workflow: str, input_: bytes | None) -> bytes | None:
        flow = self._workflows.get(workflow)
        if flow is None:
            known = ", ".join(sorted(self._workflows)) or "none"
            raise NotFound(f"there is no workflow {workflow!r}", remedy=f"Known here: {known}", workflow=workflow)
        flow.check_startable()
        if flow.tree.input is None:
            if input_ not in (None, b"null"):
                raise InvalidPayload(f"{workflow} takes no input", remedy="Leave it out")
            return None
        raw = read_json(input_ if input_ is not None else b"null", max_bytes=bound.INPUT_BYTES)
        codec = codec_for(flow.input_type)
        return codec.encode(codec.decode(raw))

    async def _started(self, workflow: str, key: str | None, raw: bytes | None, *, wait_for_room: bool) -> RunView:
        await self._participant.room(wait=wait_for_room)
        d = self._participant.begin(self._plans[workflow].digest, key, raw)
        await self._participant.acknowledge(d)
        return describe.live(d.knowledge)

    async def _replaced(self, row: RunRow) -> RunRow | None:
        """Cancel an unfinished run, and wait until it has ended; None: its key is free."""
        run = run_text(row.run)
        await self.cancel(run, note="replaced by a new run of its key")
        ended = await self.wait(run, None)
        if ended.state not in ENDED:
            raise KeyConflict(
                f"the key {row.key!r} names run {run}, which was cancelled and is {ended.state}",
                remedy="Help it to its end first: minuet show, retry, resolve",
                run=run,
            )
        return None

    async def _same(self, row: RunRow, raw: bytes | None, on_duplicate: str) -> RunView:
        same = row.input == (raw.decode() if raw is not None else None)
        if not same or (on_duplicate == "refuse" and row.state not in ENDED):
            what = "with another input" if not same else "and it has not ended"
            raise KeyConflict(
                f"the key {row.key!r} already names run {run_text(row.run)} of {row.workflow}, {what}",
                remedy="Use another key, or give the same input",
                run=run_text(row.run),
            )
        return await self.show(run_text(row.run), facts=False)

    async def perform(
        self, flow: Workflow[Any, Any, Any], input_: bytes | None, key: str | None = None
    ) -> RunView | bytes:
        """Start a run and wait until it has ended or is parked: one wait for both.

        Gives the result as JSON text if that is at hand, else what became of the run. `input_` was written by the
        codec of the workflow's input: only its limits are still to be seen.
        """
        if key is not None or self._workflows.get(flow.name) is not flow:
            view, _ = await self.start(flow.name, input_, key=key)
            return await self.wait(view.run, None)
        flow.check_startable()
        if input_ is not None:
            check_limits(input_, max_bytes=bound.INPUT_BYTES)
        if not self._participant.has_room:
            await self._participant.room(wait=True)
        k = self._participant.begin(self._plans[flow.name].digest, None, input_).knowledge
        while not describe.is_settled(k.state) or k.uncommitted:
            await self._participant.ended(k.run)
            if not describe.is_settled(k.state) and self._participant.runs.get(k.run) is not k:
                return await self.wait(run_text(k.run), None)  # it was folded anew, or set aside
        if k.state == RunState.COMPLETED and k.result is not None:
            return k.result.encode()
        return describe.live(k)

    async def wait(self, run: str, timeout_s: float | None) -> RunView:
        """Wait until a run has ended, or is parked, or the time is over."""
        number = number_of(run)
        loop = asyncio.get_running_loop()
        until = None if timeout_s is None else loop.time() + timeout_s
        while True:
            changed = self._participant.ended(number)
            try:
                view = await self.show(run, facts=False)
                left = None if until is None else until - loop.time()
                if describe.is_settled(view.state) or (left is not None and left <= 0):
                    return view
                await asyncio.wait([changed], timeout=left)
                if self._participant.is_closed:
                    return view
            finally:
                self._participant.unheard(number, changed)

    # Looking

    async def _program(self, digest: str) -> Program | None:
        return self._participant.programs.get(digest)

    async def _current(self) -> Mapping[str, str]:
        return {name: plan.digest for name, plan in self._plans.items()}

    def _live(self, run: int) -> Knowledge | None:
        k = self._participant.runs.get(run)
        return None if k is None or k.owners else k  # the store's thread may be changing it right now

    # Events

    async def send(
        self, event: str, key: str, data: bytes, *, id_: str | None = None, source: str = ""
    ) -> EventReceipt:
        """Take an event from outside; see `Control.send`."""
        _check_key(key)
        version, body = self._read_event(event, key, read_json(data, max_bytes=bound.INPUT_BYTES))
        store, now = self._participant.store, self._participant.clock.now_ms()
        source = source or "/outside"
        message = id_ or f"{run_text(self._participant.ids.next(now))}"
        waiting = len(await store.waits_for(event, key)) if event in self._participant.awaited_events else 0
        if id_ is not None and await store.find_published(source, message) is not None:
            return EventReceipt(id=message, outcome="duplicate", waiting=waiting)
        published = [EventRow(None, source, message, event, version, key, body.decode(), 0, "", now, now)]
        decision = Decision()
        decision.ensure_messages().outbox = published
        decision.inbox = self._participant.kept_for_waits(published)
        try:
            await self._participant.record(decision)
        except Conflict:
            return EventReceipt(id=message, outcome="duplicate", waiting=waiting)
        self._participant.inlet.wake(published)
        if decision.inbox:
            self._participant.matcher.look_at(event, key)
        return EventReceipt(id=message, outcome="accepted", waiting=waiting)

    def _read_event(self, event: str, key: str, raw: bytes) -> tuple[int, bytes]:
        """Give the version and the bytes of an event, checked against its type."""
        cls = self._events.get(event)
        spec = event_spec(cls) if cls is not None else None
        if cls is None or spec is None:
            version = self._participant.awaited_events.get(event)
            if version is not None:
                return version, raw  # runs of an earlier release wait for it, and this one has no type for it
            known = ", ".join(sorted({*self._events, *self._participant.awaited_events})) or "none"
            raise NotFound(f"there is no event type {event!r}", remedy=f"Known here: {known}", event=event)
        codec: Codec[Any] = codec_for(cls)
        value = codec.decode(raw)
        if spec.key is not None and str(getattr(value, spec.key)) != key:
            raise InvalidPayload(
                f"the key is {key!r}, but {spec.key} in the data is {getattr(value, spec.key)!r}",
                remedy="Give the same in both, or leave the key out",
                path=f"$.{spec.key}",
            )
        return spec.version, codec.encode(value)

    # Operators' verbs

    async def _verb(
        self, verb: str, run: str, who: str, note: str | None, act: Callable[[], Awaitable[Acknowledged]]
    ) -> Acknowledged:
        """Perform a verb, and write one row about it, also when it fails."""
        outcome = "failed"
        try:
            done = await act()
            outcome = done.outcome
            return done
        except MinuetError as e:
            outcome = e.code
            raise
        finally:
            decision = Decision()
            decision.audit = [AuditRow(self._participant.clock.now_ms(), who, verb, run, outcome, note)]
            self._participant.store.submit(decision)

    async def _ask(self, run: str, take: Callable[[Knowledge], Decided | None]) -> Decided | None:
        number = number_of(run)
        stored = await self._participant.store.load_run(number)
        if stored is None:
            raise NotFound(f"there is no run {run}", remedy="List them: minuet runs", run=run)
        if stored.run.load is None and number not in self._participant.runs:
            raise Conflict(
                f"run {run} has ended: {stored.run.state}", remedy="There is nothing left to be done with it"
            )
        return await self._participant.ask(number, take)

    async def cancel(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Ask for a cancellation."""

        async def act() -> Acknowledged:
            said = ["already-ending"]

            def take(k: Knowledge) -> Decided:
                said[0], d = decide.cancel(k, self._participant.clock.now_ms())
                return d

            with contextlib.suppress(Conflict):  # it has ended
                await self._ask(run, take)
            return Acknowledged(outcome=said[0], message=_CANCELLED[said[0]])

        return await self._verb("cancel", run, who, note, act)

    async def terminate(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """End a run at once; nothing is compensated."""

        async def act() -> Acknowledged:
            number = number_of(run)
            stored = await self._participant.store.load_run(number)
            if stored and stored.run.state not in ENDED and await self._participant.load(number) is None:
                await self._participant.give_up(stored)
            else:
                await self._ask(run, lambda k: decide.terminate(k, self._participant.clock.now_ms()))
            return Acknowledged(
                outcome="terminated", message="ended; nothing was compensated, and it is listed as dirty"
            )

        return await self._verb("terminate", run, who, note, act)

    async def pause(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Pause a run."""

        async def act() -> Acknowledged:
            await self._ask(run, lambda k: decide.pause(k, self._participant.clock.now_ms()))
            return Acknowledged(outcome="paused", message="what runs goes on to its end, and nothing new begins")

        return await self._verb("pause", run, who, note, act)

    async def resume(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Resume a paused run."""

        async def act() -> Acknowledged:
            d = await self._ask(run, lambda k: decide.resume(k, self._participant.clock.now_ms()))
            if d is not None:
                await self._participant.look_at_timers(d.knowledge)
            return Acknowledged(outcome="resumed", message="it goes on")

        return await self._verb("resume", run, who, note, act)

    async def retry(
        self, run: str, position: str | None = None, *, who: str = "", note: str | None = None
    ) -> Acknowledged:
        """Take up what is parked or waits for its next attempt, now; a quarantined run is read again."""

        async def act() -> Acknowledged:
            number = number_of(run)
            stored = await self._participant.store.load_run(number)
            if stored is not None and stored.run.state == RunState.QUARANTINED:
                return await self._participant.read_again(stored)
            d = await self._ask(run, lambda k: decide.retry_now(k, position, self._participant.clock.now_ms()))
            due = [a.rule.position for a in d.actions] if d is not None else []
            if not due:
                stuck = stored is not None and stored.run.state == RunState.STUCK
                if stuck and d is not None and d.knowledge.state != RunState.STUCK:
                    return Acknowledged(outcome="due", message="what it was stuck at is mended; it goes on")
                raise Conflict(
                    f"nothing at {position or 'any position'} of run {run} waits to be tried again",
                    remedy="See what it waits for: minuet show",
                )
            return Acknowledged(outcome="due", message=f"{', '.join(due)}: due now")

        return await self._verb("retry", run, who, note, act)

    async def resolve(
        self,
        run: str,
        position: str,
        *,
        result: bytes | None = None,
        reject: str | None = None,
        who: str = "",
        note: str | None = None,
    ) -> Acknowledged:
        """Record by hand what was done outside."""

        async def act() -> Acknowledged:
            number = number_of(run)
            k = await self._participant.load(number)
            if k is None:
                raise NotFound(f"there is no run {run}, or it is quarantined", remedy="See: minuet show", run=run)
            answer = self._given(k.program, position, result, reject)
            await self._resolved(run, position, lambda k: decide.resolve(k, position, answer, self._now()))
            return Acknowledged(outcome="resolved", message=f"{position}: recorded as done by hand")

        return await self._verb("resolve", run, who, note, act)

    async def skip(self, run: str, position: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Record a compensation as done although it is not; the run is listed as dirty."""

        async def act() -> Acknowledged:
            await self._resolved(run, position, lambda k: decide.skip(k, position, self._now()))
            return Acknowledged(outcome="skipped", message=f"{position}: recorded as compensated; the run is dirty")

        return await self._verb("skip", run, who, note, act)

    def _now(self) -> int:
        return self._participant.clock.now_ms()

    async def _resolved(self, run: str, position: str, take: Callable[[Knowledge], Decided | None]) -> None:
        if await self._ask(run, take) is None:
            raise Conflict(
                f"nothing at {position} of run {run} waits for a person",
                remedy="Only what is parked, or waits for its next attempt, can be resolved; see: minuet show",
            )

    def _given(self, program: Program, position: str, result: bytes | None, reject: str | None) -> Answer | None:
        """Give an operator's answer, checked against what the action declares."""
        if result is None and reject is None:
            return None
        rule = program.runs.get(position)
        is_known = position in program.expected or position == RESULT
        if rule is None and reject is None and is_known:
            # an expression had no answer there; the engine knows what it takes
            return Done(read_json(result or b"null", max_bytes=bound.INPUT_BYTES))
        if rule is None:
            raise NotFound(f"there is no step at {position}", remedy="See the positions: minuet plan show")
        service, action = rule.about["service"], rule.about["action"]
        spec = self._specs[service].actions[action]
        if reject is not None:
            if reject not in rule.about["codes"]:
                known = ", ".join(rule.about["codes"]) or "none"
                raise Conflict(f"{service}.{action} does not reject with {reject!r}", remedy=f"It declares: {known}")
            return Rejected(reject, "by hand")
        codec: Codec[Any] = codec_for(spec.result)
        value = codec.decode(read_json(result or b"null", max_bytes=bound.INPUT_BYTES))
        return Done(codec.encode(value))

    async def health(self) -> Health:
        """Say how the process is."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        await self._participant.clock.sleep_ms(0)
        return Health(
            ready=not self._participant.stopping,
            draining=self._participant.stopping,
            runs_in_memory=len(self._participant.runs),
            running_actions=self._worker.running,
            queued_actions=self._worker.queued,
            abandoned_threads=self._threads.abandoned,
            late_answers=self._participant.late_answers,
            recovering=self._recovery.is_running,
            lag_ms=round((loop.time() - before) * 1000),
        )


_CANCELLED = {
    "asked": "what was done will be compensated",
    "pivot-in-flight": "what cannot be taken back is under way: its outcome decides",
    "past-pivot": "no effect: something was done that cannot be taken back",
    "already-ending": "no effect: it is ending already, or has ended",
}


def _check_key(key: str) -> None:
    if not key or len(key.encode("utf-8", "surrogatepass")) > bound.KEY_BYTES or not key.isprintable():
        raise InvalidPayload(
            f"{key[:40]!r} is no key", remedy=f"A key has 1 to {bound.KEY_BYTES} bytes, all of them printable"
        )
