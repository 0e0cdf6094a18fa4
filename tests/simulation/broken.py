"""Guards of the product, each broken for the length of a block: one function of it is replaced.

The product knows nothing of it, and has no switches. Whoever looks for the function finds the broken one meanwhile, so
nothing else is to go on in this process.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from minuet.contracts.envelope import Envelope
from minuet.engine import decide, evaluate
from minuet.engine.answer import Done
from minuet.engine.broker import Received
from minuet.engine.decided import Decided
from minuet.engine.lane import Lanes
from minuet.engine.order import Order, Verdict
from minuet.engine.row import Decision, EventRow, slot_of
from minuet.errors import BrokerUnavailable, StoreError, StoreUnavailable
from minuet.plans import compile as compiling
from minuet.runtime import exchange, handler
from minuet.runtime.exchange import Again, Exchange
from minuet.runtime.matcher import EventMatcher
from minuet.runtime.ownership import Ownership
from minuet.runtime.participant import Participant
from minuet.runtime.relay import Relay
from minuet.runtime.subscriber import Subscriber
from minuet.runtime.transaction import TransactionalCall
from minuet.stores.sqlite import group
from minuet.stores.sqlite.leases import Fence
from minuet.stores.sqlite.work import WorkPerformer, write_again
from minuet.testing.simulation import database

Break = Callable[[], AbstractContextManager[None]]
"""Breaks a guard for the length of a block."""

ALL: list[Break] = []


def _breaks(owner: Any, name: str) -> Callable[[Callable[[Any], Any]], Break]:
    """Make a switch of what gives the broken function of a module or class for the whole one."""

    def switch(broken: Callable[[Any], Any]) -> Break:
        @contextmanager
        def block() -> Any:
            whole = getattr(owner, name)
            setattr(owner, name, broken(whole))
            try:
                yield
            finally:
                setattr(owner, name, whole)

        block.__name__, block.__doc__ = broken.__name__, broken.__doc__
        ALL.append(block)
        return block

    return switch


# What is heard twice


@_breaks(exchange, "_event_of")
def events_without_identity(whole: Any) -> Any:
    """An event that is delivered again is another event."""
    numbers = itertools.count()

    def event_of(*given: Any) -> EventRow:
        row: EventRow = whole(*given)
        return row._replace(message=f"{row.message} {next(numbers)}")

    return event_of


@_breaks(database, "queries")
def applied_without_key(whole: Any) -> Any:
    """That a reaction has applied an event may be recorded twice."""

    def queries() -> dict[str, str]:
        found = dict(whole())
        found["record_applied"] = found["record_applied"].replace("insert into", "insert or ignore into")
        return found

    return queries


@_breaks(Subscriber, "_find_out")
def answer_not_asked_for(whole: Any) -> Any:
    """A reaction whose answer may have been recorded is begun once more."""
    return Subscriber._start_later


@_breaks(decide, "heard")
def messages_without_identity(whole: Any) -> Any:
    """A fact or command that is heard again is taken again."""

    def heard(k: Any, position: str, round_: Any, label: str, *given: Any) -> Decided | None:
        k.outcomes.pop((position, round_), None)
        k.marks.discard((position, round_, slot_of(label)))
        decided: Decided | None = whole(k, position, round_, label, *given)
        return decided

    return heard


# What is told before it is durable


async def _publish(broker: Any, envelopes: Sequence[Envelope]) -> None:
    with suppress(BrokerUnavailable):
        await broker.publish(envelopes)


@_breaks(Exchange, "say")
def publish_without_outbox(whole: Any) -> Any:
    """Messages are handed to the broker, and no row is kept of them."""

    def say(self: Any, decision: Decision, envelopes: Sequence[Envelope]) -> None:
        self._participant.spawn(_publish(self._broker, envelopes))

    return say


@_breaks(Exchange, "say")
def publish_before_commit(whole: Any) -> Any:
    """Messages are handed to the broker while what they tell of is on its way to the store."""

    def say(self: Any, decision: Decision, envelopes: Sequence[Envelope]) -> None:
        whole(self, decision, envelopes)
        self._participant.spawn(_publish(self._broker, envelopes))

    return say


@_breaks(Exchange, "_deliver")
def acknowledge_before_commit(whole: Any) -> Any:
    """A message is acknowledged when it comes, before anything of it is recorded."""

    def deliver(self: Any, batch: Sequence[Received]) -> None:
        for received in batch:
            if not isinstance(received.tag, Again):
                self._acknowledge(received)
        whole(self, batch)

    return deliver


@_breaks(Participant, "acknowledge")
def start_told_before_commit(whole: Any) -> Any:
    """A start is acknowledged before the run is durable."""

    def acknowledge(self: Any, d: Decided) -> Any:
        if not d.decision.runs or d.knowledge.home is not None:
            return whole(self, d)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    return acknowledge


# What comes early, or out of order


@_breaks(EventMatcher, "_match")
def early_events_dropped(whole: Any) -> Any:
    """An event that comes before anybody waits for it is nobody's."""

    async def match(self: Any, event: str, key: str) -> bool:
        store = self._participant.store
        waits, kept = await store.waits_for(event, key, self._participant.shards), await store.kept_events(event, key)
        is_early = waits and kept and kept[0].received_at_ms < waits[0].since_ms
        return not is_early and await whole(self, event, key)

    return match


@_breaks(Order, "take")
def early_of_stream_dropped(whole: Any) -> Any:
    """An ordered subscription leaves out what comes before its turn."""

    def take(self: Any, name: Any, early: Any, *, is_free: bool) -> Verdict:
        verdict = whole(self, name, early, is_free=is_free)
        if verdict != Verdict.EARLY:
            return Verdict(verdict)
        self.settled(name, early.sequence)
        return Verdict.LATE

    return take


@_breaks(Order, "take")
def stream_order_ignored(whole: Any) -> Any:
    """What comes from elsewhere is applied in the order in which it comes."""

    def take(self: Any, name: Any, early: Any, *, is_free: bool) -> Verdict:
        stream = self._streams[name]
        stream.released = max(stream.released, early.sequence)
        return Verdict.NEXT

    return take


@_breaks(Lanes, "_join")
def key_order_ignored(whole: Any) -> Any:
    """Events of one key are applied beside each other."""
    return lambda self, delivery: "run"


# Whose it is


@_breaks(Fence, "_is_lost")
def no_fence(whole: Any) -> Any:
    """What was decided under a lease that somebody else has taken over is recorded."""
    return lambda self, lease: False


@_breaks(Ownership, "_until")
def leases_never_over(whole: Any) -> Any:
    """An owner goes on when the time of its leases has run out, until it is told that somebody else has them."""
    return lambda self, sent_ms: sent_ms + 1_000 * self.lease_ms


@_breaks(Ownership, "lease_of")
def everybody_evaluates(whole: Any) -> Any:
    """Whoever hears of a run decides it, under a lease of another shard."""
    return lambda self, run: whole(self, run) or self.next_lease()


# What has an effect


@_breaks(handler, "op_key")
def another_key_each_time(whole: Any) -> Any:
    """Each attempt has an operation key of its own."""
    numbers = itertools.count()
    return lambda *place: f"{whole(*place).rpartition(':')[0]}:{next(numbers)}"


@_breaks(evaluate, "compensate")
def compensation_in_memory(whole: Any) -> Any:
    """What is to be taken back is known in memory only: not to whoever takes up the run after a crash."""

    def compensate(*given: Any, is_new: bool = True) -> None:
        if is_new:
            whole(*given)

    return compensate


@_breaks(compiling._Compiler, "sequence")
def first_taken_back_first(whole: Any) -> Any:
    """Steps are taken back in the order in which they were done."""

    def sequence(self: Any, parts: Any, in_: int, comp: int, env: Any, context: Any) -> Any:
        net, scope, normal = self.net, context.scope, compiling.NORMAL
        if not parts:
            return whole(self, parts, in_, comp, env, context)
        built, backs = list[Any](), list[int]()
        for part in parts:
            backs.append(net.add("or", scope))
            built.append(part(in_, backs[-1], env, context))
            if normal not in built[-1].ends:
                break
            in_, env = built[-1].ends[normal], built[-1].envs[normal]

        def back(count: int, when: int) -> int:
            """Take the first `count` parts back one after the other; give when that is done."""
            for i in range(count):
                net.fill(backs[i], when)
                when = net.all(scope, [when, built[i].compensated])
            return when

        failed, gone, ends = list[Any](), list[int](), list[Any]()
        for i, ports in enumerate(built):
            ends.append({e: c for e, c in ports.ends.items() if e != normal or i == len(built) - 1})
            failed.append({code: back(i, c) for code, c in ports.failed.items()})
            gone.append(back(i + 1, net.all(scope, [net.any(scope, ends[i].values()), comp])))
        envs = {
            e: self.merge([(own[e], ports.envs[e]) for own, ports in zip(ends, built, strict=True) if e in own], scope)
            for e in dict.fromkeys(e for own in ends for e in own)
        }
        return compiling.Ports(self.union(scope, ends), envs, self.union(scope, failed), net.any(scope, gone))

    return sequence


@_breaks(decide, "_give_up")
def no_tombstone(whole: Any) -> Any:
    """A step that its owner has given up is not marked as such where it is performed."""
    return lambda *given: None


# What is recorded


@_breaks(database, "connect")
def no_one_outcome(whole: Any) -> Any:
    """The table of facts has no key: a position may have two outcomes."""

    def connect() -> Any:
        connection = whole()
        connection.execute("create table without_key as select * from minuet_fact")
        connection.execute("drop table minuet_fact")
        connection.execute("alter table without_key rename to minuet_fact")
        return connection

    return connect


@_breaks(TransactionalCall, "keeps_writes")
def writes_kept_unawaited(whole: Any) -> Any:
    """A transactional step keeps its writes though nobody waits for its answer any more."""
    return lambda self: isinstance(self._answer, Done)


@_breaks(WorkPerformer, "_write")
def writes_kept_beside_outcome(whole: Any) -> Any:
    """A transactional step keeps its writes though its outcome is there already."""

    def write(self: Any, decision: Decision) -> None:
        try:
            self._rows.write([decision])
        except Exception as error:
            write_again(self._rows, decision, error)

    return write


@_breaks(group, "is_lost")
def no_basis(whole: Any) -> Any:
    """What was decided on something that is not recorded is recorded."""
    return lambda item: False


@_breaks(Participant, "_not_recorded")
def start_not_looked_for(whole: Any) -> Any:
    """A start of which it is unknown whether it was recorded is taken not to be."""

    def not_recorded(self: Any, d: Decided, error: Exception) -> None:
        if d.decision.runs and isinstance(error, StoreUnavailable):
            error = StoreError(error.message, remedy=error.remedy)
        whole(self, d, error)

    return not_recorded


@_breaks(Relay, "__init__")
def confirmed_is_forgotten(whole: Any) -> Any:
    """What a broker has confirmed is forgotten at once, though it may lose it."""

    def init(self: Any, *given: Any) -> None:
        whole(self, *given)
        self._is_lossy = self._is_doubted = False

    return init
