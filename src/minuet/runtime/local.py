"""`Control` over the participant of this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from minuet.contracts.codec import Codec, codec_for
from minuet.contracts.message import event_spec
from minuet.contracts.service import Service, service_spec
from minuet.contracts.strict_json import check_limits, read_json
from minuet.engine import bound, decide
from minuet.engine.answer import Answer, Done, Rejected
from minuet.engine.decided import Decided
from minuet.engine.knowledge import Knowledge
from minuet.engine.port import RunFilter, StoredRun
from minuet.engine.program import RESULT, Program
from minuet.engine.row import ENDED, AuditRow, Decision, EventRow, PlanKey, RunRow, RunState
from minuet.errors import Conflict, InvalidPayload, KeyConflict, MinuetError, NotFound, StaleOwner
from minuet.ids import first_run, run_text
from minuet.observe.usual import Usuals
from minuet.plans.plan import Plan
from minuet.runtime import describe
from minuet.runtime.hosts import Hosts
from minuet.runtime.letters import LetterReading, Letters
from minuet.runtime.local_letters import LocalLetters
from minuet.runtime.observed import observed
from minuet.runtime.outgoing import with_notices
from minuet.runtime.passing import is_answering
from minuet.runtime.reading import Reading, number_of
from minuet.runtime.spread_letters import SpreadLetters, message_id
from minuet.runtime.view import Acknowledged, EventReceipt, FailedView, Health, PlanView, RunView
from minuet.workflows.workflow import Workflow

_PARKED = frozenset({RunState.STUCK, RunState.QUARANTINED})


class LocalControl(Reading):
    """The verbs, performed here."""

    def __init__(
        self,
        hosts: Hosts,
        workflows: Mapping[str, Workflow[Any, Any, Any]],
        current: Mapping[str, Plan],
        events: Mapping[str, type],
        services: list[Service],
    ) -> None:
        home = hosts.home
        super().__init__(home.store, home.participant.clock)
        self.letters: Letters
        if hosts.broker is None:
            self.letters = LocalLetters(home.participant, home.inlet, events)
        else:
            self.letters = SpreadLetters(hosts.listening, events)
        self._hosts = hosts
        self._participant = home.participant
        hosts.on_home = self._attach
        home.passing.perform = self.perform_passed
        self._workflows = workflows
        self._plans = current
        self._events = events
        self._specs = {s.name: s for s in (service_spec(type(x)) for x in services)}
        # Whoever starts a key holds its lock; one that nobody holds or waits for goes by itself.
        self._starting: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def _attach(self) -> None:
        """Ask the home that was started again."""
        self._store, self._participant = self._hosts.home.store, self._hosts.home.participant
        self._hosts.home.passing.perform = self.perform_passed

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
            while True:
                with contextlib.suppress(StaleOwner):  # nothing was recorded: another shard is tried
                    return await self._started(workflow, None, raw, wait_for_room=wait_for_room), True
        _check_key(key)
        async with self._starting.setdefault((workflow, key), asyncio.Lock()):
            other = None
            while True:
                row = other or await self._participant.store.find_run(workflow, key)
                newest = 0 if row is None else row.run
                if row is not None and on_duplicate == "replace" and row.state not in ENDED:
                    row = await self._replaced(row)
                if row is not None and not (again and row.state in ENDED):
                    # Retention may have forgotten it in this moment, and its key with it.
                    with contextlib.suppress(NotFound):
                        return await self._same(row, raw, on_duplicate), False
                try:
                    return await self._started(workflow, key, raw, newest, wait_for_room=wait_for_room), True
                except StaleOwner:
                    other = None  # nothing was recorded: another shard is tried
                except KeyConflict as e:
                    other = await self._quicker(e)  # somebody who shares the store has started it in this moment

    async def _quicker(self, conflict: KeyConflict) -> RunRow | None:
        """Give the run that has a key by now; None if that is to be looked for."""
        run = conflict.subject.get("run")
        stored = await self._participant.store.load_run(run) if isinstance(run, int) else None
        return None if stored is None else stored.run

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

    async def _started(
        self, workflow: str, key: str | None, raw: bytes | None, after: int | None = None, *, wait_for_room: bool
    ) -> RunView:
        self._require_active(workflow)
        await self._participant.room(wait=wait_for_room)
        d = self._participant.begin(self._plans[workflow].digest, key, raw, after=after)
        await self._participant.acknowledge(d)
        return describe.live(d.knowledge)

    def _require_active(self, workflow: str) -> None:
        """See that everybody whom the plan names knows it. Raises NotActive."""
        if self._hosts.home.exchange is not None:
            self._hosts.home.activation.require(self._plans[workflow])

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
        is_alone = self._hosts.broker is None and self._participant.ownership is None
        if key is not None or self._workflows.get(flow.name) is not flow or not is_alone:
            view, _ = await self.start(flow.name, input_, key=key)
            return await self.wait(view.run, None)
        flow.check_startable()
        if input_ is not None:
            check_limits(input_, max_bytes=bound.INPUT_BYTES)
        self._require_active(flow.name)
        if not self._participant.has_room:
            await self._participant.room(wait=True)
        k = self._participant.begin(self._plans[flow.name].digest, None, input_).knowledge
        while not describe.is_settled(k.state) or k.uncommitted:
            await self._participant.ends.wait(k.run)
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
            changed = [(h.participant, h.participant.ends.wait(number)) for h in self._hosts.all()]
            try:
                view = await self.show(run, facts=False)
                left = None if until is None else until - loop.time()
                if describe.is_settled(view.state) or (left is not None and left <= 0):
                    return view
                futures = [future for _, future in changed]
                await asyncio.wait(futures, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                if self._participant.is_closed:
                    return view
            finally:
                for participant, future in changed:
                    participant.ends.unheard(number, future)

    # Looking

    async def _program(self, digest: str) -> Program | None:
        return self._participant.programs.get(digest)

    async def _current(self) -> Mapping[str, str]:
        return {name: plan.digest for name, plan in self._plans.items()}

    async def _described(self, stored: StoredRun, *, facts: bool) -> RunView:
        """Give a run as the observer has heard of it, where no store has all of it."""
        view = await super()._described(stored, facts=facts)
        if self._hosts.broker is None:
            return view
        return await self._expecting(await observed(view, stored, self._hosts, facts=facts))

    async def _usuals(self, workflow: str) -> Usuals:
        return self._hosts.watch.usuals if self._hosts.watch is not None else await super()._usuals(workflow)

    async def _maybe_late(self, which: RunFilter) -> AsyncIterator[list[RunRow]]:
        """Give those that the observer has found late, instead of walking over all that are unfinished."""
        watch = self._hosts.watch
        if watch is None:
            async for rows in super()._maybe_late(which):
                yield rows
            return
        first, before = first_run(which.since_ms or 0), which.before
        late = sorted((r for r in watch.late if r >= first and (before is None or r < before)), reverse=True)
        for i in range(0, len(late), which.limit):
            stored = await self._participant.store.load_runs(late[i : i + which.limit])
            yield [
                s.run
                for s in stored
                if s.run.state in which.states
                if which.workflow in (None, s.run.workflow) and which.key in (None, s.run.key)
            ]

    async def _run_rows(self, which: RunFilter) -> list[RunRow]:
        """Give runs by what home knows, and those that are parked at a service."""
        rows = await super()._run_rows(which)
        if not self._hosts.services or _PARKED.isdisjoint(which.states):
            return rows
        known = {row.run for row in rows}
        parked = {row.run for host in self._hosts.services for row in await host.store.list_runs(which)}
        rows += [s.run for s in await self._store.load_runs(sorted(parked - known))]
        return sorted(rows, key=lambda row: row.run, reverse=True)[: which.limit]

    async def failed(self, limit: int = 100) -> list[FailedView]:
        """List what is parked, here and at the services."""
        found = [] if self._hosts.broker is not None else await super().failed(limit)
        known = set[str]()
        for host in self._hosts.listening() if self._hosts.broker is not None else []:
            kept = [row for row in await host.store.early(None, limit) if row.message not in known]
            found += describe.kept([(message_id(host.address, row), row) for row in kept])
            if host is self._hosts.observer:
                continue  # it only tells of others' runs
            known |= {row.message for row in kept}
            letters = await LetterReading(host.store).dead_letters(limit=limit)
            found += describe.failed(*await host.store.parked(limit), letters)
        return sorted(found, key=lambda f: f.first_at_ms)[:limit]

    # Plans

    async def plans(self) -> list[PlanView]:
        """List all plans, and who has acknowledged them."""
        found = await super().plans()
        if self._hosts.broker is None:
            return found
        by_digest = await self._hosts.home.activation.shown()
        return [msgspec.structs.replace(p, participants=by_digest.get(p.digest, [])) for p in found]

    async def retire(self, plan: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Have nobody know a plan any more; see `Control.retire`."""

        async def act() -> Acknowledged:
            row = await self._plan_row(plan)
            name = f"{row.workflow}@{row.digest[:8]}"
            if any(current.digest == row.digest for current in self._plans.values()):
                raise Conflict(f"new runs of {row.workflow} take {name}", remedy="Run a release that has another one")
            if n := (await self._store.open_digests()).get(row.digest):
                raise Conflict(
                    f"M605: {n} unfinished {'run has' if n == 1 else 'runs have'} plan {name}",
                    remedy="Wait until they have ended: minuet runs, minuet plan list",
                    digest=row.digest,
                )
            told: list[str] = []
            if self._hosts.broker is not None:
                told = await self._hosts.home.activation.retire(row.digest)
            else:
                decision = Decision()
                decision.plans_done = [PlanKey(row.digest)]
                await self._participant.record(decision)
                self._participant.programs.pop(row.digest, None)
            return Acknowledged(
                outcome="retired", message=f"{name} is removed" + (f"; told {', '.join(told)}" if told else "")
            )

        return await self._verb("retire", plan, who, note, act)

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
        message = id_ or self._participant.new_id()
        waiting = 0
        for host in self._hosts.all():
            if event in host.participant.awaited_events:
                waiting += len(await host.store.waits_for(event, key))
        if id_ is not None and await store.find_published(source, message) is not None:
            return EventReceipt(id=message, outcome="duplicate", waiting=waiting)
        published = [EventRow(None, source, message, event, version, key, body.decode(), 0, "", now, now)]
        decision = Decision()
        decision.ensure_messages().outbox = published
        decision.inbox = self._participant.kept_for_waits(published)
        if self._participant.outward is not None:
            self._participant.outward.publish(decision, published)
        try:
            await self._participant.record(decision)
        except Conflict:
            return EventReceipt(id=message, outcome="duplicate", waiting=waiting)
        self._participant.inlet.wake(published)
        if self._participant.outward is not None and decision.messages is not None:
            self._participant.outward.send(decision.messages.sending)
        if decision.inbox:
            self._participant.matcher.look_at(event, key)
        return EventReceipt(id=message, outcome="accepted", waiting=waiting)

    def _read_event(self, event: str, key: str, raw: bytes) -> tuple[int, bytes]:
        """Give the version and the bytes of an event, checked against its type."""
        cls = self._events.get(event)
        spec = event_spec(cls) if cls is not None else None
        if cls is None or spec is None:
            awaited: dict[str, int] = {}
            for host in self._hosts.all():
                awaited |= host.participant.awaited_events
            if event in awaited:
                return awaited[event], raw  # runs of an earlier release wait for it, and this one has no type for it
            known = ", ".join(sorted({*self._events, *awaited})) or "none"
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

    async def _run_verb(
        self, verb: str, run: str, who: str, note: str | None, act: Callable[[], Awaitable[Acknowledged]], **given: Any
    ) -> Acknowledged:
        """Perform a verb about a run, or have its owner perform it with what was `given`, who then writes of it."""
        if self._participant.ownership is None or is_answering():
            return await self._verb(verb, run, who, note, act)
        number = number_of(run)
        if self._participant.is_mine(number):
            with contextlib.suppress(StaleOwner):  # it was taken over in this moment
                return await self._verb(verb, run, who, note, act)
        await self._stored(run)  # what is not there is nobody's
        return await self._hosts.home.passing.ask(verb, number, {"who": who, "note": note, **given})

    async def perform_passed(self, verb: str, run: str, given: Mapping[str, Any]) -> Acknowledged:
        """Perform what was asked of another process that shares the store, about a run that is ours."""
        verbs: dict[str, Callable[..., Awaitable[Acknowledged]]] = {
            "cancel": self.cancel, "terminate": self.terminate, "pause": self.pause, "resume": self.resume,
            "retry": self.retry, "resolve": self.resolve, "skip": self.skip,
        }  # fmt: skip
        if verb not in verbs:
            raise NotFound(f"there is no verb {verb!r} here", remedy="Run the same release everywhere")
        told = dict(given)
        if told.get("result") is not None:
            told["result"] = told["result"].encode()
        return await verbs[verb](run, **told)

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

        return await self._run_verb("cancel", run, who, note, act)

    async def terminate(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """End a run at once; nothing is compensated."""

        async def act() -> Acknowledged:
            number = number_of(run)
            stored = await self._participant.store.load_run(number)
            if stored and stored.run.state not in ENDED and await self._participant.load(number) is None:
                await self._participant.give_up(stored)
            else:
                await self._ask(run, lambda k: decide.terminate(k, self._participant.clock.now_ms()))
            await self._pass_on("terminate", run)
            return Acknowledged(
                outcome="terminated", message="ended; nothing was compensated, and it is listed as dirty"
            )

        return await self._run_verb("terminate", run, who, note, act)

    async def pause(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Pause a run."""

        async def act() -> Acknowledged:
            await self._ask(run, lambda k: decide.pause(k, self._participant.clock.now_ms()))
            told = await self._pass_on("pause", run)
            return Acknowledged(outcome="paused", message=f"what runs goes on to its end, and nothing new begins{told}")

        return await self._run_verb("pause", run, who, note, act)

    async def resume(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Resume a paused run."""

        async def act() -> Acknowledged:
            d = await self._ask(run, lambda k: decide.resume(k, self._participant.clock.now_ms()))
            if d is not None:
                await self._participant.look_at_timers(d.knowledge)
            return Acknowledged(outcome="resumed", message=f"it goes on{await self._pass_on('resume', run)}")

        return await self._run_verb("resume", run, who, note, act)

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
            if not due and d is not None and (asked := await self._ask_performer("retry", d.knowledge, position)):
                return Acknowledged(outcome="asked", message=f"{asked} was asked to try again")
            if not due:
                stuck = stored is not None and stored.run.state == RunState.STUCK
                if stuck and d is not None and d.knowledge.state != RunState.STUCK:
                    return Acknowledged(outcome="due", message="what it was stuck at is mended; it goes on")
                raise Conflict(
                    f"nothing at {position or 'any position'} of run {run} waits to be tried again",
                    remedy="See what it waits for: minuet show",
                )
            return Acknowledged(outcome="due", message=f"{', '.join(due)}: due now")

        return await self._run_verb("retry", run, who, note, act, position=position)

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
            given: dict[str, Any] = {}
            if isinstance(answer, Rejected):
                given["reject"] = answer.code
            elif isinstance(answer, Done):
                given["result"] = msgspec.Raw(answer.value or b"null")
            asked = await self._ask_performer("resolve", k, position, **given)
            if asked and not any(at == position for at, _ in k.halted):
                return Acknowledged(outcome="asked", message=f"{asked} was asked to record it")
            by_hand = self._participant.by_hand
            await self._resolved(run, position, lambda k: decide.resolve(k, position, answer, self._now(), by_hand))
            return Acknowledged(outcome="resolved", message=f"{position}: recorded as done by hand")

        return await self._run_verb(
            "resolve", run, who, note, act, position=position, result=_json(result), reject=reject
        )

    async def skip(self, run: str, position: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Record a compensation as done although it is not; the run is listed as dirty."""

        async def act() -> Acknowledged:
            k = await self._participant.load(number_of(run))
            if k is not None and (asked := await self._ask_performer("skip", k, position)):
                await self._ask(run, decide.soil)
                return Acknowledged(outcome="asked", message=f"{asked} was asked to skip it")
            await self._resolved(run, position, lambda k: decide.skip(k, position, self._now()))
            return Acknowledged(outcome="skipped", message=f"{position}: recorded as compensated; the run is dirty")

        return await self._run_verb("skip", run, who, note, act, position=position)

    async def _pass_on(self, verb: str, run: str) -> str:
        """Have everybody else who performs a part of a run do the same; say who was asked."""
        if self._hosts.broker is None:
            return ""
        row = (await self._stored(run)).run
        remote = self._hosts.home.remote
        others = remote.others(row.digest)
        await remote.pass_on(verb, row, others)
        return f"; asked {', '.join(others)}" if others else ""

    async def _ask_performer(self, verb: str, k: Knowledge, position: str | None, **given: Any) -> str:
        """Have whoever else performs a position do something about it; say who was asked, if anybody."""
        if self._hosts.broker is None:
            return ""
        remote = self._hosts.home.remote
        performers = remote.performers(k.program, position)
        row = (await self._stored(run_text(k.run))).run
        await remote.pass_on(verb, row, performers, position=position, **given)
        return ", ".join(performers)

    def _now(self) -> int:
        return self._participant.clock.now_ms()

    async def _resolved(self, run: str, position: str, take: Callable[[Knowledge], Decided | None]) -> None:
        take = await with_notices(self._participant.store, number_of(run), position, take, self._now())
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
        hosts = self._hosts.all()
        return Health(
            ready=not self._participant.stopping,
            draining=self._participant.stopping,
            runs_in_memory=sum(len(h.participant.runs) for h in hosts),
            running_actions=sum(h.worker.running for h in hosts),
            queued_actions=sum(h.worker.queued for h in hosts),
            abandoned_threads=sum(h.threads.abandoned for h in hosts),
            late_answers=sum(h.participant.late_answers for h in hosts),
            recovering=any(h.recovery.is_running for h in hosts),
            lag_ms=round((loop.time() - before) * 1000),
        )


_CANCELLED = {
    "asked": "what was done will be compensated",
    "pivot-in-flight": "what cannot be taken back is under way: its outcome decides",
    "past-pivot": "no effect: something was done that cannot be taken back",
    "already-ending": "no effect: it is ending already, or has ended",
}


def _json(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode()


def _check_key(key: str) -> None:
    if not key or len(key.encode("utf-8", "surrogatepass")) > bound.KEY_BYTES or not key.isprintable():
        raise InvalidPayload(
            f"{key[:40]!r} is no key", remedy=f"A key has 1 to {bound.KEY_BYTES} bytes, all of them printable"
        )
