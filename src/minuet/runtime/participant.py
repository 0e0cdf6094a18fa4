"""Learn, decide, commit, carry out: the loop of whoever evaluates rules.

All runs of a participant are decided in one thread, each input at once, and what was decided is carried out once
it is durable. The one exception: while the store performs a transactional handler of a run, that run belongs to
the store's thread (`Knowledge.owners`), and other inputs for it wait.

Where several participants share the store, a run is known and decided only by whoever owns its shard; what is known of
it is forgotten in the moment in which the shard is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from minuet.engine import bound, decide
from minuet.engine.answer import Answer, Done
from minuet.engine.decided import Decided
from minuet.engine.knowledge import Action, Knowledge
from minuet.engine.port import Outcome, Statement, Store, StoredRun
from minuet.engine.program import Program
from minuet.engine.row import (
    ENDED,
    SETTLED,
    AttemptKey,
    Decision,
    EventRow,
    InboxRow,
    Lease,
    RunChange,
    RunState,
    TimerKey,
    TimerRow,
    WaitKey,
    WaitRow,
)
from minuet.errors import (
    Busy,
    Conflict,
    MinuetError,
    NotFound,
    NotRunning,
    SecondCause,
    StaleOwner,
    StoreError,
    StoreUnavailable,
)
from minuet.ids import RunIds, op_key, parse_round, round_text, run_text
from minuet.runtime.clock import WaitingClock
from minuet.runtime.ends import Ends
from minuet.runtime.handler import Handler
from minuet.runtime.memory import Memory
from minuet.runtime.outgoing import outgoing
from minuet.runtime.ownership import Ownership
from minuet.runtime.parts import Inward, Ledger, Matcher, Outward, Performer, Receipt, Timekeeper
from minuet.runtime.transaction import TransactionalCall
from minuet.runtime.view import Acknowledged

log = logging.getLogger("minuet")

DRAIN_ROUNDS = 100  # commits that may follow from what was under way when the program was told to stop


class Participant:
    """Whoever evaluates rules, over one store."""

    def __init__(self, store: Store, clock: WaitingClock, *, runs_in_memory: int, ids: RunIds) -> None:
        self.store = store
        self.clock = clock
        self.ids = ids
        self.programs: dict[str, Program] = {}  # by digest
        self.broken: dict[str, str] = {}  # digests whose plan cannot be loaded, and why
        self.awaited_events: dict[str, int] = {}  # types of events that some plan waits for, with their versions
        self.memory = Memory(runs_in_memory)
        self.ends = Ends()
        self.ownership: Ownership | None = None  # None: everything in this store is ours
        self.taking_up: set[int] = set()  # shards whose runs somebody else has left, and which are being taken up
        self.look_for_plan: Callable[[str], Awaitable[None]] | None = None  # by digest; where others may learn of plans
        self.late_answers = 0
        self.stopping = False
        self.is_closed = False
        self._deferred: dict[int, deque[Callable[[], None]]] = {}
        self._loading: dict[int, asyncio.Future[Knowledge | None]] = {}
        self._acknowledged: dict[int, asyncio.Future[None]] = {}
        self._reading: list[set[int]] = []  # for whoever reads runs: which have moved since
        self._tasks: set[asyncio.Task[Any]] = set()
        self.worker: Performer
        self.ticker: Timekeeper
        self.matcher: Matcher
        self.inlet: Inward
        self.outward: Outward | None = None  # None: whoever evaluates rules is here
        self.ledger: Ledger | None = None  # None: no action here takes effect once for a key

    def add_program(self, program: Program) -> None:
        """Know a plan."""
        self.programs[program.plan.digest] = program
        if not program.only_watches:
            self.awaited_events.update(
                (r.about["event"], r.about["version"])
                for r in program.rules
                if r.kind == "wait" and (program.who is None or r.who in program.who)
            )

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Let something go on by itself; what it raises is logged."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._spawned)

    def _spawned(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.stopping:
            log.error("a task of the runtime failed: %s", error, exc_info=error)

    @property
    def runs(self) -> Mapping[int, Knowledge]:
        """The runs in memory."""
        return self.memory.runs

    @property
    def has_room(self) -> bool:
        """Whether one more run may begin, if need be in place of one in memory that only waits."""
        if self.ownership is not None and not self.ownership.owns_some:
            return False
        return not self.stopping and self.memory.make_room()

    async def room(self, *, wait: bool) -> None:
        """Wait until one more run may begin: there is a shard for it, and it fits into memory.

        Raises:
            Busy: there is no room (and `wait` is False), no shard comes, or the program is stopping.
        """
        while not self.stopping:
            if self.has_room:
                return
            if self.ownership is not None and not self.ownership.owns_some:
                await self.ownership.until_some(wait=wait)
                continue
            if not wait:
                raise Busy(
                    f"{len(self.runs)} runs are in memory, and all have something to do",
                    remedy="Try again after a while, or raise runs_in_memory",
                )
            await self.memory.until_room()
        raise Busy("the program is stopping, and takes no new runs", remedy="Try again when it is back")

    # Whose a run is

    @property
    def shards(self) -> Collection[int] | None:
        """The shards of runs that are read here; None: all."""
        return None if self.ownership is None else self.ownership.residues

    def is_mine(self, run: int) -> bool:
        """Say whether a run is decided here."""
        return self.ownership is None or self.ownership.lease_of(run) is not None

    def lease_for(self, run: int) -> Lease | None:
        """Give the lease under which a run is decided here; None where all are.

        Raises:
            StaleOwner: somebody else decides it.
        """
        if self.ownership is None:
            return None
        if (lease := self.ownership.lease_of(run)) is None:
            raise StaleOwner(
                f"run {run_text(run)} is in shard {self.ownership.shard(run)}, which is not owned by this process",
                remedy="Ask whoever owns it; a verb is passed on",
                run=run_text(run),
            )
        return lease

    def sees_to(self, duty: str) -> bool:
        """Say whether this participant sees to what one of those who share the store has to see to."""
        return self.ownership is None or self.ownership.lease_of_name(duty) is not None

    def new_id(self) -> str:
        """Give the id of a message, which nobody else gives to another one."""
        id_ = run_text(self.ids.next(self.clock.now_ms()))
        return id_ if self.ownership is None else f"{id_}-{self.ownership.owner}"

    def lose(self, leases: Collection[Lease]) -> None:
        """Forget everything about the runs of shards that are not owned any more, and cut off what they were doing."""
        assert self.ownership is not None, "only what is shared can be lost"
        shards = {lease.shard for lease in leases}
        self.taking_up -= shards
        for k in [k for k in self.runs.values() if k.lease is not None and k.lease.shard in shards]:
            self._forget(k)

    def busy(self) -> Mapping[int, int]:
        """Count the runs that have something to do by the shard that they belong to."""
        return Counter(k.lease.shard for k in self.runs.values() if k.lease is not None and k.load == 1)

    async def watch_ends(self) -> None:
        """Tell those who wait here for runs that end elsewhere."""
        await self.ends.watch(self.store, self.clock, self.runs.__contains__)

    # Runs

    def begin(self, digest: str, key: str | None, input_: bytes | None, *, after: int | None = None) -> Decided:
        """Begin a run; there must be room. Acknowledge what it gives to know when it is durable.

        `after`: the newest run of its key, 0 if there is none: if another one has begun by then, this one does not.
        """
        now, lease = self.clock.now_ms(), None
        if self.ownership is None:
            run = self.ids.next(now)
        else:
            lease = self.ownership.next_lease()
            assert lease is not None, "there is no room where no shard is owned"
            run = self.ids.next(now, lease.shard)
        d = decide.begin(self.programs[digest], run, key, input_, now, lease)
        if self.ownership is not None and key is not None:
            d.decision.after = after
        self.memory.keep(d.knowledge)
        self.submit(d)
        return d

    def meet(self, program: Program, run: int, key: str, home: str) -> Knowledge:
        """Hear of a run for the first time; it is recorded with what is heard of it. Raises StaleOwner."""
        lease = self.lease_for(run)
        self.memory.make_room()
        k = decide.meet(program, run, key, home, self.clock.now_ms(), lease)
        self.memory.keep(k)
        return k

    async def load(self, run: int) -> Knowledge | None:
        """Give a run's knowledge, folded from its rows if it is not in memory; None if there is no such run.

        Raises:
            StaleOwner: somebody else knows it.
        """
        if (k := self.runs.get(run)) is not None:
            return k
        if (loading := self._loading.get(run)) is None:
            lease = self.lease_for(run)
            loading = self._loading[run] = asyncio.get_running_loop().create_future()
            try:
                with self.reading() as moved:
                    stored = await self.store.load_run(run)
                    while run in moved and run not in self.runs:
                        moved.clear()
                        stored = await self.store.load_run(run)
                if stored is not None:
                    await self.know(stored.run.digest)
                crashed = lease is not None and lease.shard in self.taking_up
                k = self.recall(stored, crashed=crashed, lease=lease) if stored is not None else None
            except BaseException as e:
                loading.set_exception(e)
                loading.exception()  # nobody else may be waiting for it
                raise
            else:
                loading.set_result(k)
            finally:
                del self._loading[run]
            return k
        return await asyncio.shield(loading)

    @contextlib.contextmanager
    def reading(self) -> Iterator[set[int]]:
        """Give the runs that move while this block reads: taken up meanwhile, what was read of them is too old."""
        moved = set[int]()
        self._reading.append(moved)
        try:
            yield moved
        finally:
            self._reading = [other for other in self._reading if other is not moved]

    async def know(self, digest: str) -> None:
        """See that a plan is known here that others may have brought."""
        if digest not in self.programs and self.look_for_plan is not None:
            await self.look_for_plan(digest)

    def recall(self, stored: StoredRun, *, crashed: bool, lease: Lease | None = None) -> Knowledge | None:
        """Take a stored run into memory, and go on with it. None if it cannot be understood: it is quarantined.

        `lease`: the one that was held before it was read; None where all is ours.

        Raises:
            StaleOwner: it is not held any more, so what was read may be out of date.
        """
        row = stored.run
        if (k := self.runs.get(row.run)) is not None:
            return k
        if self.lease_for(row.run) != lease:
            raise StaleOwner(f"run {run_text(row.run)} was taken over while it was read", remedy="Read it again")
        if row.state == RunState.QUARANTINED:
            return None  # until somebody has mended it, and says so: `read_again`
        program = self.programs.get(row.digest)
        if program is None:
            self.quarantine(stored, self.broken.get(row.digest, f"plan {row.digest[:8]} is not in this store"))
            return None
        try:
            d = decide.recall(program, stored, self.clock.now_ms(), crashed=crashed, lease=lease)
        except Exception as e:  # one run that cannot be understood must not disturb the others
            log.exception("run %s cannot be read from its facts", run_text(row.run))
            self.quarantine(stored, _reason(e))
            return None
        k = d.knowledge
        self.memory.make_room()
        self.memory.keep(k)
        for (position, round_, purpose), due in k.timers.items():
            self.ticker.add_timer(TimerRow(k.run, position, round_text(round_), purpose, due))
        for event, key, _ in k.waits.values():
            self.matcher.look_at(event, key)
        self.submit(d)
        return k

    def quarantine(self, stored: StoredRun, reason: str) -> None:
        """Set a run aside that cannot be understood, and say why; somebody else's is left alone."""
        row = stored.run
        if row.state in ENDED or (row.state == RunState.QUARANTINED and row.reason == reason):
            return
        if not self.is_mine(row.run):
            return
        if (k := self.runs.get(row.run)) is not None:
            self._forget(k)  # it was read again in the meantime
        decision = self._decision(row.run)
        decision.changes = [
            RunChange(RunState.QUARANTINED, 0, row.paused, row.dirty, reason, row.result, row.ended_at_ms, row.run)
        ]
        self.store.submit(decision)
        self.ends.wake(row.run)

    def _decision(self, run: int) -> Decision:
        """Begin a decision about a run that is not in memory. Raises StaleOwner."""
        decision = Decision(run)
        decision.fence = self.lease_for(run)
        return decision

    def submit(self, d: Decided) -> None:
        """Have a decision recorded; it is carried out once it is."""
        if self.outward is not None:
            self.outward.tell(d)
        if d.is_empty:
            self._carry_out(d)
            return
        d.knowledge.uncommitted += 1
        self.memory.hold(d.knowledge)
        try:
            self.store.submit(d.decision)
        except StoreError as e:  # it has been closed: what was decided follows from the facts again
            d.knowledge.uncommitted -= 1
            self._not_recorded(d, e)

    def input(self, k: Knowledge, take: Callable[[], Decided | None], gone: Callable[[], object] | None = None) -> None:
        """Give an input to a run: at once, or after the store has given the run back.

        `gone` is called instead where this is not what is known of the run any more.
        """
        if k.owners:
            self._deferred.setdefault(k.run, deque()).append(lambda: self.input(k, take, gone))
            return
        if self.runs.get(k.run) is not k:
            self.late_answers += 1
            if gone is not None:
                gone()
            return
        try:
            d = take()
        except Exception as e:  # a mistake of ours about one run must not stop the others
            self._failed(k, e)
            return
        if d is None:
            self.late_answers += 1
        else:
            self.submit(d)

    def acknowledge(self, d: Decided) -> asyncio.Future[None]:
        """Give a future that is done once this decision is durable; ask at once, before the loop goes on."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if d.is_empty:
            done.set_result(None)
        else:
            self._acknowledged[id(d)] = done
        return done

    def until_durable(self, k: Knowledge) -> asyncio.Future[None]:
        """Give a future that is done once all that is known of a run is durable; it fails if something of it is not."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not k.uncommitted:
            done.set_result(None)
            return done
        decision = Decision(k.run, done)  # what becomes of it is told after what was submitted before it
        decision.basis, decision.fence = k.basis, k.lease
        try:
            self.store.submit(decision)
        except StoreError as e:
            done.set_exception(e)
        return done

    # Answers of the worker

    def answered(self, action: Action, ticket: int, answer: Answer, events: list[object]) -> None:
        """Take the answer of an attempt, and what it has published."""
        k = action.knowledge

        def take() -> Decided | None:
            d = decide.answered(k, action, ticket, answer, self.clock.now_ms())
            if d is not None and isinstance(answer, Done):  # of anything else nothing stands
                self._publish(d, action, events)
            return d

        if self.ledger is not None and (claim := self.ledger.claim_of(action, ticket)) is not None:
            self.input(k, claim.until_durable(take), gone=claim.free)
        else:
            self.input(k, take)

    def transacting(self, action: Action, handler: Handler, ticket: int, coroutine: Any, first: Statement) -> None:
        """Hand a handler over to the store at its first statement; from now on the run belongs to the store."""
        k = action.knowledge
        coroutine, events = coroutine

        def is_awaited() -> bool:
            pending = k.pending.get((action.rule.position, action.round, action.direction))
            return pending is action and action.ticket == ticket and action.state == "running"

        def settle(answer: Answer) -> Decision | None:
            d = decide.answered(k, action, ticket, answer, self.clock.now_ms())
            if d is None:
                return None
            if isinstance(answer, Done):
                self._publish(d, action, events)
            if self.outward is not None:
                self.outward.tell(d)
            return d.decision

        claim = self.ledger.claim_of(action, ticket) if self.ledger is not None else None
        if self.runs.get(k.run) is not k:
            coroutine.close()
            self.late_answers += 1
            if claim is not None:
                claim.free()
            return
        k.owners += 1
        k.uncommitted += 1
        self.memory.hold(k)
        self.store.submit_work(
            TransactionalCall(
                coroutine,
                first,
                classify=lambda result, error: handler.done(result) if error is None else handler.raised(error),
                is_awaited=is_awaited,
                decide=settle,
                token=k if claim is None else claim.bearing(lambda d, error: self._worked(k, d, error)),
                basis=k.basis,
            )
        )

    def _publish(self, d: Decided, action: Action, events: Sequence[object]) -> None:
        """Record published events beside the fact: for reactions, and for the waits of plans."""
        if not events:
            return
        k, now = d.knowledge, self.clock.now_ms()
        name = op_key(k.run, action.rule.position, action.round, action.direction)
        rows = outgoing(
            events,
            source=f"/{action.rule.about['service']}",
            message=name,
            key=run_text(k.run),
            hops=0,  # the steps of a plan are bounded by themselves
            causes=f"{name}:ok",
            now_ms=now,
        )
        d.decision.ensure_messages().outbox = rows
        if kept := self.kept_for_waits(rows):
            d.decision.inbox = kept

    def kept_for_waits(self, published: Iterable[EventRow]) -> list[InboxRow]:
        """Give the rows by which waits find what comes from outside or is published, where some plan waits for it."""
        awaited = self.awaited_events
        return [
            InboxRow(
                e.source, e.message, e.event, e.version, e.key, e.body, "kept",
                None, None, None, e.at_ms, e.at_ms + bound.KEEP_EARLY_EVENT_MS,
            )
            for e in published
            if e.event in awaited
        ]  # fmt: skip

    # What has become durable

    def on_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Take what became of decisions, in the order in which they were submitted."""
        for outcome in outcomes:
            try:
                self._take_outcome(*outcome)
            except Exception:  # a mistake of ours about one decision must not hide what became of the others
                log.exception("an outcome could not be taken")

    def _take_outcome(self, decision: Decision | None, work: Any, error: Exception | None) -> None:
        if error is not None and isinstance(error, StaleOwner) and self.ownership is not None:
            self.ownership.refused(error, None if decision is None else decision.fence)
        if isinstance(error, StoreUnavailable):
            self._look_for(decision)
        if work is not None:
            token = work.token
            if isinstance(token, Knowledge):
                self._worked(token, decision, error)
            else:
                token.settled(decision, error)
        elif decision is not None and (d := decision.token) is not None:
            decision.token = None  # else each would hold the other, until the garbage collector comes
            if isinstance(d, asyncio.Future):
                if not d.done():
                    d.set_result(None) if error is None else d.set_exception(error)
                return
            if not isinstance(d, Decided):
                receipt = cast("Receipt", d)
                receipt.settled(decision, error)
                return
            d.knowledge.uncommitted -= 1
            if error is None:
                self._carry_out(d)
            else:
                self._not_recorded(d, error)

    def _look_for(self, decision: Decision | None) -> None:
        """Look for what may have been recorded though nobody was told; None: a handler decided it, and it is lost."""
        if decision is None:
            self.inlet.look()
            if self.outward is not None:
                self.outward.look()
            return
        for kept in decision.inbox:
            self.matcher.look_at(kept.event, kept.key)
        if decision.messages is not None:
            self.inlet.wake(decision.messages.outbox)
            if self.outward is not None and decision.messages.sending:
                self.outward.look()

    def _worked(self, k: Knowledge, decision: Decision | None, error: Exception | None) -> None:
        k.owners -= 1
        k.uncommitted -= 1
        d = None
        if decision is not None:
            d, decision.token = decision.token, None
        if error is not None:
            if isinstance(d, Decided):
                self._not_recorded(d, error)
            else:
                self._failed(k, error)
        elif isinstance(d, Decided):
            self._carry_out(d)
        else:
            self.late_answers += 1
        if not k.owners:
            for take in self._deferred.pop(k.run, ()):
                take()

    def _carry_out(self, d: Decided) -> None:
        k = d.knowledge
        run = k.run
        for moved in self._reading:
            moved.add(run)
        if d.actions:
            start = self.worker.start
            for action in d.actions:
                start(action)
        for action in d.interrupted:
            self.worker.interrupt(action)
        for timer in d.timers:
            self.ticker.add_timer(timer)
        for action in d.retries:
            self.ticker.add_retry(action)
        for wait in d.waits:
            self.matcher.look_at(wait.event, wait.key)
        for kept in d.decision.inbox:
            self.matcher.look_at(kept.event, kept.key)
        if d.decision.messages is not None:
            self.inlet.wake(d.decision.messages.outbox)
            if self.outward is not None:
                self.outward.send(d.decision.messages.sending)
        if self._acknowledged and (done := self._acknowledged.pop(id(d), None)) is not None and not done.done():
            done.set_result(None)
        if k.state in SETTLED:
            self.ends.wake(run)
        if k.load != 1 and not k.uncommitted and not k.owners:
            self.memory.release(k)

    # What was not recorded

    def _not_recorded(self, d: Decided, error: Exception) -> None:
        if (done := self._acknowledged.pop(id(d), None)) is not None and not done.done():
            done.set_exception(error)
        if d.decision.runs:  # it has not even begun
            self.memory.drop(d.knowledge)
            self.ends.wake(d.knowledge.run, error)
            if isinstance(error, StoreUnavailable):
                self.spawn(self._load_again(d.knowledge.run))  # or it has, and nobody was told
        elif d.decision.inbox_taken and isinstance(error, Conflict):
            if self._forget(d.knowledge):  # somebody else was quicker to take the event
                self.spawn(self._load_again(d.knowledge.run))
        else:
            self._failed(d.knowledge, error)

    def _failed(self, k: Knowledge, error: Exception) -> None:
        """Forget what is in memory about a run: what is true is what is stored. Then fold it anew, or set it aside."""
        if not self._forget(k):
            return
        if isinstance(error, StoreError | SecondCause):  # asked again, the ledger says by what it was done
            self.spawn(self._load_again(k.run))
            return
        self.spawn(self._set_aside(k, error))

    def _forget(self, k: Knowledge) -> bool:
        if not self.memory.drop(k):
            return False
        for action in k.pending.values():
            self.worker.interrupt(action)
            action.state = "over"  # also one that waits for a slot, or whose writes the store is about to record
        k.state, k.result = RunState.RUNNING, None  # whoever waits with it in hand is not to take it for the end
        return True

    async def _load_again(self, run: int) -> None:
        delay_ms = 100
        while not self.stopping:
            await self.clock.sleep_ms(delay_ms)
            try:
                await self.load(run)
            except StaleOwner:
                return
            except StoreError:
                delay_ms = min(delay_ms * 2, 5_000)
            else:
                return

    async def _set_aside(self, k: Knowledge, error: Exception) -> None:
        """Set a run aside. Where it is somebody else's by now, who knows what was lacking here, it is left alone."""
        delay_ms = 100
        while not self.stopping:
            try:
                if self.ownership is not None and k.lease is not None and not await self.ownership.stands(k.lease):
                    return
                stored = await self.store.load_run(k.run)
            except StoreError:
                await self.clock.sleep_ms(delay_ms)
                delay_ms = min(delay_ms * 2, 5_000)
                continue
            log.error("run %s is set aside: %s", run_text(k.run), error, exc_info=error)
            if stored is not None:
                self.quarantine(stored, _reason(error))
            return

    def by_hand(self, action: Action, answer: Answer) -> Answer:
        """Give what a person records, with what the ledger is told of it."""
        return answer if self.ledger is None else self.ledger.by_hand(action, answer)

    # Inputs that name a run

    async def ask(self, run: int, take: Callable[[Knowledge], Decided | None]) -> Decided | None:
        """Give an operator's input to a run, and wait until what follows is durable.

        Raises:
            NotFound: there is no such run, or it cannot be understood.
            Conflict: it has ended.
        """
        while True:
            k = await self.load(run)
            if k is None:
                raise NotFound(f"run {run_text(run)} is not there, or is quarantined", remedy="See: minuet show")
            if self.runs.get(run) is not k and k.load is None:
                raise Conflict(
                    f"run {run_text(run)} has ended: {k.state}", remedy="There is nothing left to do with it"
                )
            taken: asyncio.Future[Decided | None] = asyncio.get_running_loop().create_future()
            durable: list[asyncio.Future[None]] = []
            self.input(k, lambda k=k, t=taken, d=durable: self._asked(k, take, t, d), gone=taken.cancel)  # type: ignore[misc]
            await asyncio.wait([taken])
            if taken.cancelled():
                continue  # the run was dropped, and is folded anew
            for done in durable:
                await done
            return taken.result()

    def _asked(
        self,
        k: Knowledge,
        take: Callable[[Knowledge], Decided | None],
        taken: asyncio.Future[Decided | None],
        durable: list[asyncio.Future[None]],
    ) -> Decided | None:
        try:
            d = take(k)
        except Exception as e:
            taken.set_exception(e)
            if isinstance(e, MinuetError):
                return None  # a refusal, which leaves the run as it is
            raise
        if d is not None:
            durable.append(self.acknowledge(d))
        taken.set_result(d)
        return d

    async def record(self, decision: Decision) -> None:
        """Record rows that belong to no run, and wait until they are durable."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        decision.token = done
        self.store.submit(decision)
        await done

    async def read_again(self, stored: StoredRun) -> Acknowledged:
        """Try to understand a quarantined run once more, after somebody has mended what was wrong with it."""
        row = stored.run
        fresh = StoredRun(
            run=row._replace(state=RunState.RUNNING, reason=None, load=1),
            facts=stored.facts,
            attempts=stored.attempts,
            timers=stored.timers,
            waits=stored.waits,
        )
        k = self.recall(fresh, crashed=False, lease=self.lease_for(row.run))
        if k is None:
            raise Conflict(f"run {run_text(row.run)} still cannot be understood", remedy="See its reason: minuet show")
        decision = self._decision(row.run)
        decision.changes = [RunChange(k.state, k.load, k.paused, k.dirty, k.reason, k.result, k.ended_at_ms, k.run)]
        await self.record(decision)
        return Acknowledged(outcome="due", message="read again; it goes on")

    async def give_up(self, stored: StoredRun) -> None:
        """End a run that cannot be understood: so nothing of it can be compensated."""
        row = stored.run
        decision = self._decision(row.run)
        decision.changes = [RunChange(RunState.TERMINATED, None, 0, 1, row.reason, None, self.clock.now_ms(), row.run)]
        decision.attempts_done = [AttemptKey(a.run, a.position, a.round, a.direction) for a in stored.attempts]
        decision.timers_done = [TimerKey(t.run, t.position, t.round, t.purpose) for t in stored.timers]
        decision.waits_done = [WaitKey(w.event, w.key, w.run, w.position, w.round) for w in stored.waits]
        await self.record(decision)

    async def look_at_timers(self, k: Knowledge) -> None:
        """Look at a run's timers that became due while it was paused."""
        now = self.clock.now_ms()
        for (position, round_, purpose), due in list(k.timers.items()):
            if due <= now:
                await self.timer_due(TimerRow(k.run, position, round_text(round_), purpose, due))

    async def timer_due(self, t: TimerRow) -> None:
        """Take that a timer is due."""
        k = await self.load(t.run)
        if k is not None:
            now = self.clock.now_ms()
            self.input(k, lambda: decide.timer_due(k, t.position, parse_round(t.round), t.purpose, now) or Decided(k))

    async def event_came(self, w: WaitRow, event: InboxRow) -> bool:
        """Give an event to a wait; True once that is durable, False if nobody waits there any more."""
        try:
            d = await self.ask(
                w.run, lambda k: decide.event_came(k, w.position, parse_round(w.round), event, self.clock.now_ms())
            )
        except (NotFound, Conflict):
            return False
        return d is not None

    async def drain(self) -> None:
        """Wait until everything that was decided is durable, and no answer waits for the store to give its run back."""
        with contextlib.suppress(StoreError):
            for _ in range(DRAIN_ROUNDS):
                if not any(k.uncommitted or k.owners for k in self.runs.values()):
                    return
                await self.record(Decision())  # what becomes of it is told after what was submitted before it

    async def close(self) -> None:
        """Stop what goes on by itself, and tell everybody who waits."""
        self.is_closed = True
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=1)
        self.memory.close()
        self.ends.close(NotRunning("the program was closed", remedy="Open it again: the run goes on"))


def _reason(error: Exception) -> str:
    """Give an error as a person is told of it: ours says what to do, any other at least what it is."""
    return str(error) if isinstance(error, MinuetError) else "".join(traceback.format_exception_only(error)).strip()
