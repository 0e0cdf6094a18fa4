"""What a participant says to others and hears from them, where it shares no store with them.

To learn and to act are apart: what is heard is recorded, then acknowledged, and only then acted upon. So a broker
never waits for an action, and whatever it repeats or delays changes nothing. What cannot be taken (a plan that is not
known yet, something that cannot be read, or that is not its sender's to say) is kept, never guessed and never dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from minuet.contracts.envelope import Envelope, time_of
from minuet.engine import decide
from minuet.engine.border import Border
from minuet.engine.broker import EVERYTHING, Broker, Received, Subscription
from minuet.engine.carry import Carried
from minuet.engine.decided import Decided
from minuet.engine.knowledge import Knowledge
from minuet.engine.message import Routes, Said, said, understood
from minuet.engine.program import Program
from minuet.engine.row import Decision, EarlyKey, EarlyRow, EventRow, SendingRow, SubscriptionRow
from minuet.errors import Busy, Conflict, Contradiction, InvalidPayload, MinuetError, StoreError
from minuet.ids import parse_run
from minuet.runtime.participant import Participant
from minuet.runtime.passing import Passing
from minuet.runtime.relay import Relay, sending

log = logging.getLogger("minuet")

AGAIN_MS = 200
BATCH = 200
BEGAN = "@began"  # kept as of a subscription; no reaction has such a name
UNREADABLE = ""  # in place of a digest: it would not be taken whatever plan came
QUARANTINED = "its run is quarantined"

Verb = Callable[[Envelope], Awaitable[None]]
"""Takes a message that is no fact and no command of a run; what it has done is durable when it returns."""


class Again(NamedTuple):
    """In place of a broker's tag: a message that was kept, or left by another participant, and is looked at again.

    `done`: None once it is recorded; else why it could not be taken. `was_left`: where it cannot be taken it is kept.
    """

    done: asyncio.Future[str | None]
    was_left: bool = False


class Exchange:
    """The messages of one participant. `address`: where it is reached; `names`: the services that are performed here.

    `is_observed`: everything that is recorded is told, also what nobody's rules need. `only_listens`: an observer,
    which hears everything and says nothing.
    """

    def __init__(
        self,
        participant: Participant,
        broker: Broker,
        address: str,
        names: Collection[str],
        *,
        is_observed: bool,
        only_listens: bool = False,
    ) -> None:
        self.address = address
        self.names = frozenset(names) | {address}
        self.relay = Relay(participant, broker)
        self.passing: Passing | None = None  # None: nobody else owns anything in this store
        self.verbs: dict[str, Verb] = {}
        self.routes: dict[str, Routes] = {}
        self.on_unknown_plan: Callable[[str, str], object] = lambda *_: None
        self._borders: dict[str, Border] = {}
        self._participant = participant
        self._broker = broker
        self._is_observed = is_observed
        self.only_listens = only_listens
        self._subscription: Subscription | None = None
        self._is_closed = False
        self._turns: dict[int, deque[Callable[[], Awaitable[None]]]] = {}  # what waits for its turn, by run
        self._since_ms = 0
        self.heard = 0  # deliveries
        self.refused = 0  # messages that no plan would make readable

    # Plans

    def learn(self, program: Program) -> None:
        """Know whom to tell what of a plan."""
        digest = program.plan.digest
        self.routes[digest] = Routes(program, self.address, is_observed=self._is_observed)
        self._borders[digest] = Border(program.plan)

    def forget(self, digest: str) -> None:
        """Know a plan no more."""
        self.routes.pop(digest, None)
        self._borders.pop(digest, None)

    async def listen(self) -> None:
        """Hear what all plans that are known need; returns once nothing of it can be missed any more."""
        topics = self._topics()
        if self._subscription is not None:
            await self._subscription.change(topics)
        elif not self._is_closed:
            self._subscription = await self._broker.subscribe(self.address, topics, self._deliver)

    def _topics(self) -> set[str]:
        if self.only_listens:
            return {EVERYTHING}
        topics = {f"{name}.commands" for name in self.names} | self._events()
        return topics.union(*(routes.topics() for routes in self.routes.values()))

    def _events(self) -> set[str]:
        """Give the types of events that reactions and waits here are to hear."""
        return {*self._participant.awaited_events, *self._participant.inlet.events}

    async def open(self) -> None:
        """Begin to hear, and to say what was not confirmed before."""
        self._since_ms = await self._began()
        await self.listen()
        self.relay.open()
        if self.passing is not None:
            self._participant.spawn(self.relay.watch())
        self._participant.spawn(self._take_left())

    async def _began(self) -> int:
        """Give when this participant began to hear others, ever: what was said before need not be waited for."""
        participant = self._participant
        known = (row for row in await participant.store.subscriptions() if row.name == BEGAN)
        if (row := next(known, None)) is None:
            row = SubscriptionRow(0, BEGAN, BEGAN, 0, 0, participant.clock.now_ms())
            decision = Decision()
            decision.ensure_messages().subscriptions = [row]
            await participant.record(decision)
        return row.since_ms

    async def close(self) -> None:
        """Stop hearing; what comes meanwhile waits at the broker."""
        self._is_closed = True
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.close()

    # Saying

    def tell(self, d: Decided) -> None:
        """Add to a decision what is to be told of it."""
        if self.only_listens:
            return
        k = d.knowledge
        routes = self.routes[k.program.plan.digest]
        envelopes = routes.envelopes(d)
        if d.decision.runs and k.home is None and (begun := routes.begin(k)) is not None:
            envelopes.insert(0, begun)
        if envelopes:
            self.say(d.decision, envelopes)
        if d.decision.messages is not None:
            self.publish(d.decision, d.decision.messages.outbox)

    def publish(self, decision: Decision, events: Iterable[EventRow]) -> None:
        """Have events sent to whoever hears them, once a decision is durable."""
        if envelopes := [_of_event(row) for row in events]:
            self.say(decision, envelopes)

    def send(self, rows: Iterable[SendingRow]) -> None:
        """Send messages that have become durable."""
        self.relay.send(rows)

    def look(self) -> None:
        """Send what may have become durable, though nobody was told."""
        self.relay.look()

    def say(self, decision: Decision, envelopes: Sequence[Envelope]) -> None:
        """Have messages sent once a decision is durable."""
        messages = decision.ensure_messages()
        messages.sending = [*messages.sending, *sending(envelopes)]

    # Hearing

    def _deliver(self, batch: Sequence[Received]) -> None:
        for received in batch:
            self.heard += 1
            try:
                self._take(received)
            except Exception as e:  # a mistake of ours about one message must not lose it, nor stop the others
                log.exception("message %s could not be taken", received.envelope.id)
                self._keep(received, UNREADABLE, _reason(e))

    def _take(self, received: Received) -> None:
        envelope = received.envelope
        attributes = envelope.attributes
        if "minuetverb" in attributes:
            self._take_verb(received)
        elif "minuetposition" in attributes or "minuetrun" in attributes:
            self._take_said(received)
        elif self.only_listens:
            self._acknowledge(received)
        elif envelope.topic in self._events():
            self._participant.spawn(self._take_event(received))
        else:
            self._keep(received, UNREADABLE, "it says nothing of a run, and is no event that is heard here")

    def _take_verb(self, received: Received) -> None:
        attributes = received.envelope.attributes
        name = str(attributes["minuetverb"])
        verb = self.verbs.get(name)
        is_mine = self.only_listens or not self.names.isdisjoint(str(attributes.get("minuetto", "")).split(","))
        if not is_mine or (verb is None and self.only_listens):
            self._acknowledge(received)
        elif verb is None:
            self._keep(received, UNREADABLE, f"nobody here knows what {name!r} means")
        elif (run := parse_run(str(attributes.get("minuetrun", "")))) is not None:
            if self._participant.is_mine(run):
                self._in_turn(run, lambda: self._perform(verb, received))
            else:
                self._pass_on(run, received)
        else:
            self._participant.spawn(self._perform(verb, received))

    async def _perform(self, verb: Verb, received: Received) -> None:
        try:
            await verb(received.envelope)
        except (StoreError, Busy):
            self._release(received)
        except Exception as e:  # whatever it was, it is kept with its reason
            self._keep(received, UNREADABLE, _reason(e))
        else:
            self._acknowledge(received)

    async def _take_event(self, received: Received) -> None:
        """Take what was published elsewhere, as if it had been published here."""
        participant, e = self._participant, received.envelope
        try:
            since_ms = max(self._since_ms, participant.inlet.since_ms(e.topic))
            event = _event_of(e, participant.clock.now_ms(), since_ms)
        except InvalidPayload as error:
            self._keep(received, UNREADABLE, str(error))
            return
        decision = Decision()
        decision.ensure_messages().outbox = [event]
        decision.inbox = participant.kept_for_waits([event])
        try:
            await participant.record(decision)
        except Conflict:
            pass  # it was received before
        except StoreError:
            self._release(received)
            return
        self._acknowledge(received)
        participant.inlet.wake([event])
        if decision.inbox:
            participant.matcher.look_at(event.event, event.key)

    def _take_said(self, received: Received) -> None:
        try:
            s = said(received.envelope)
        except InvalidPayload as e:
            self._keep(received, UNREADABLE, str(e))
            return
        if self.only_listens and s.label.startswith("asked"):
            self._acknowledge(received)  # what is asked for is not done yet
        elif self.names.isdisjoint(s.to) and not self.only_listens:
            self._acknowledge(received)  # others share this topic
        elif not self._participant.is_mine(s.run):
            self._pass_on(s.run, received)
        elif (program := self._participant.programs.get(s.digest)) is None:
            if self._participant.look_for_plan is not None:
                self._participant.spawn(self._take_knowing(s, received))
                return
            self._keep(received, s.digest, f"its plan {s.workflow}@{s.digest[:8]} is not known here yet", s.home)
        else:
            self._hear(program, s, received)

    async def _take_knowing(self, s: Said, received: Received) -> None:
        """Take what was said of a plan that another participant may have brought into the store."""
        try:
            await self._participant.know(s.digest)
        except StoreError:
            self._release(received)
            return
        if (program := self._participant.programs.get(s.digest)) is not None:
            self._hear(program, s, received)
        else:
            self._keep(received, s.digest, f"its plan {s.workflow}@{s.digest[:8]} is not known here yet", s.home)

    def _pass_on(self, run: int, received: Received) -> None:
        """Leave a message for whoever owns its run, and acknowledge it then."""
        if self.passing is None or (isinstance(received.tag, Again) and received.tag.was_left):
            self._release(received, "its run is owned by somebody else")
        else:
            self._participant.spawn(self._passed_on(self.passing, run, received))

    async def _passed_on(self, passing: Passing, run: int, received: Received) -> None:
        try:
            await passing.leave(received.envelope, run)
        except StoreError:
            self._release(received)
        else:
            self._acknowledge(received)

    def take_left(self, envelope: Envelope) -> asyncio.Future[str | None]:
        """Take a message that another participant has left for us; gives why it could not be taken, or None."""
        done: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._deliver([Received(envelope, Again(done, was_left=True), 1)])
        return done

    def _hear(self, program: Program, s: Said, received: Received) -> None:
        try:
            round_, value, carry = understood(program, s)
            self._guard(s, received.envelope)
        except InvalidPayload as e:
            self._keep(received, UNREADABLE, str(e))
            return
        k = self._participant.runs.get(s.run)
        if k is None or s.run in self._turns:
            learn = partial(self._learn, s, received, round_, value, carry)
            self._in_turn(s.run, lambda: self._load(s, received, learn))
        else:
            self._learn(s, received, round_, value, carry, k)

    def _learn(
        self, s: Said, received: Received, round_: tuple[int, ...], value: bytes | None, carry: Carried, k: Knowledge
    ) -> None:
        def take() -> Decided:
            try:
                d = decide.heard(k, s.position, round_, s.label, value, carry, self._instant(received.envelope))
            except Contradiction as e:
                self._keep(received, UNREADABLE, str(e))
                return Decided(k)
            except BaseException:
                self._release(received)  # it is looked at again when the run has been read anew, or set aside
                raise
            d = d or Decided(k)
            # What is known already may not be durable yet, and be lost: then whoever says it again must say it again.
            durable = self._participant.until_durable(k) if d.is_empty else self._participant.acknowledge(d)
            durable.add_done_callback(lambda done: self._heard(received, done))
            return d

        self._participant.input(k, take, gone=lambda: self._release(received))

    def _guard(self, s: Said, envelope: Envelope) -> None:
        """See that it is its sender's to say. Raises InvalidPayload."""
        sender = envelope.source.rpartition("/")[2]
        if not self._borders[s.digest].may_say(sender, s.position, s.label, s.home):
            raise InvalidPayload(
                f"border: {envelope.source} says {s.label} at {s.position} of {s.workflow}@{s.digest[:8]}, "
                "which is not its to say",
                remedy="See who does: minuet plan show; if nobody else has sent it, look for a second program",
            )

    def _in_turn(self, run: int, work: Callable[[], Awaitable[None]]) -> None:
        """Do something about a run when what came about it before is done."""
        if (waiting := self._turns.get(run)) is not None:
            waiting.append(work)
        else:
            self._turns[run] = deque([work])
            self._participant.spawn(self._take_turns(run))

    async def _take_turns(self, run: int) -> None:
        waiting = self._turns[run]
        try:
            while waiting:
                await waiting.popleft()()
        finally:
            del self._turns[run]

    async def _load(self, s: Said, received: Received, then: Callable[[Knowledge], None]) -> None:
        """Take a run into memory that something was said of: as it is stored, or heard of for the first time."""
        try:
            program = self._participant.programs[s.digest]
            k = await self.known(program, s.run, s.key, s.home)
        except (StoreError, Busy):
            self._release(received)
        except Conflict as e:
            self._keep(received, s.digest, str(e))
        except Exception as e:  # a mistake of ours about one message must not lose it, nor stop the others
            log.exception("message %s could not be taken", received.envelope.id)
            self._keep(received, UNREADABLE, _reason(e))
        else:
            if k is None:
                self._keep(received, UNREADABLE, f"no run {s.key} has begun here, where it is said to end")
            else:
                then(k)

    async def known(self, program: Program, run: int, key: str, home: str) -> Knowledge | None:
        """Give what is known of a run that is heard of; None if it should have begun here, and has not.

        Raises:
            Conflict: it is quarantined.
            Busy: the program is stopping.
        """
        participant = self._participant
        if run not in participant.runs:
            await participant.room(wait=True)  # meanwhile it is not acknowledged, so the broker holds back what follows
        while True:
            with participant.reading() as moved:
                k = await participant.load(run)
                stored = await participant.store.load_run(run) if k is None else None
            if k is not None and participant.runs.get(run) is None:
                participant.memory.keep(k)  # it has ended: it is let go again with what is heard now
            if (k := participant.runs.get(run)) is not None:
                return k
            if run in moved:
                continue  # somebody has met it in between
            if stored is not None:
                raise Conflict(QUARANTINED, remedy="Mend it, and take it up again: minuet retry RUN")
            return participant.meet(program, run, key, home) if home not in self.names else None

    def _instant(self, envelope: Envelope) -> int:
        """Give when something happens here: now; in a trace it is when it came about, however late that is heard."""
        now = self._participant.clock.now_ms()
        return min(envelope.time_ms or now, now) if self.only_listens else now

    def _heard(self, received: Received, done: asyncio.Future[None]) -> None:
        if done.cancelled() or done.exception() is not None:
            self._release(received)
        else:
            self._acknowledge(received)

    def _acknowledge(self, received: Received) -> None:
        if isinstance(received.tag, Again):
            received.tag.done.set_result(None)
        elif self._subscription is not None:
            self._subscription.acknowledge([received.tag])

    def _release(self, received: Received, why: str = "it could not be recorded") -> None:
        if isinstance(received.tag, Again):
            received.tag.done.set_result(why)
        elif self._subscription is not None:
            self._subscription.release([received.tag], AGAIN_MS)

    # What cannot be taken

    def _keep(self, received: Received, digest: str, why: str, home: str = "") -> None:
        """Keep a message until it can be taken, and acknowledge it then."""
        envelope = received.envelope
        if digest == UNREADABLE:
            self.refused += 1
            log.warning("message %s on %s is kept: %s", envelope.id, envelope.topic, why)
        elif home:
            self.on_unknown_plan(digest, home)
        self._participant.spawn(self._kept(received, digest, why))

    async def _kept(self, received: Received, digest: str, why: str) -> None:
        envelope = received.envelope
        row = EarlyRow(
            f"{envelope.source} {envelope.id}",
            digest,
            envelope.topic,
            envelope.to_json().decode(),
            self._participant.clock.now_ms(),
            why,
        )
        decision = Decision()
        decision.ensure_messages().early = [row]
        try:
            await self._participant.record(decision)
        except StoreError:
            self._release(received)
            return
        if isinstance(received.tag, Again) and not received.tag.was_left:
            self._release(received, why)
        else:
            self._acknowledge(received)

    async def _take_left(self) -> None:
        """Take what was kept for plans that are known by now, and was not taken when the last process stopped."""
        for digest in list(self.routes):
            await self.take_early_at_last(digest)

    async def take_early_at_last(self, digest: str) -> None:
        """Take what was kept for a plan, whatever goes wrong with the store meanwhile."""
        while True:
            try:
                await self.take_early(digest)
            except StoreError:
                await self._participant.clock.sleep_ms(AGAIN_MS)
            else:
                return

    async def take_early(self, digest: str) -> int:
        """Take what was kept for a plan; give how many messages could be taken."""
        taken, left = 0, set[str]()
        while True:
            rows = await self._participant.store.early(digest, BATCH + len(left))
            if not (new := [row for row in rows if row.message not in left]):
                return taken
            for row in new:
                if await self.take_kept(row) is None:
                    taken += 1
                else:
                    left.add(row.message)

    async def take_kept(self, row: EarlyRow) -> str | None:
        """Take a message that was kept, and keep it no more; give why it is kept still, if it is."""
        again: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._deliver([Received(Envelope.from_json(row.topic, row.envelope), Again(again), 1)])
        if (why := await again) is None:
            await self.discard_kept(row)
        return why

    async def discard_kept(self, row: EarlyRow) -> None:
        """Keep a message no more."""
        decision = Decision()
        decision.ensure_messages().early_done = [EarlyKey(row.message)]
        await self._participant.record(decision)


def _of_event(row: EventRow) -> Envelope:
    attributes: dict[str, str | int] = {"minuetkind": "event", "minuetversion": row.version, "minuethops": row.hops}
    if row.causes:
        attributes["minuetcauses"] = row.causes
    return Envelope(row.event, row.message, row.source, row.event, row.key, row.time_ms, attributes, row.body.encode())


def _event_of(e: Envelope, now_ms: int, since_ms: int) -> EventRow:
    """Give an event as a row; it waits for the one before it, unless that was published before anybody listened."""
    version, hops = e.attributes.get("minuetversion", 1), e.attributes.get("minuethops", 0)
    if not isinstance(version, int) or not isinstance(hops, int):
        raise InvalidPayload(
            f"event {e.id} on {e.topic} has the version {version!r} and came {hops!r} hops",
            remedy="Send whole numbers, or leave them out",
        )
    causes = str(e.attributes.get("minuetcauses", ""))
    body = e.data.decode() if e.data is not None else "null"
    row = EventRow(None, e.source, e.id, e.topic, version, e.key, body, hops, causes, e.time_ms, now_ms)
    if "minuetprevious" not in e.attributes:
        return row  # who does not number events is believed in the order in which they come
    try:
        sequence, previous = int(e.attributes["sequence"]), int(e.attributes["minuetprevious"])
        if previous and _was_before(e, since_ms, now_ms):
            previous = 0
    except (KeyError, ValueError) as error:
        raise InvalidPayload(
            f"event {e.id} on {e.topic} has a wrong number: {error}", remedy="Send it as it was, or without numbers"
        ) from error
    return row._replace(sequence=sequence, previous=previous)


def _was_before(e: Envelope, since_ms: int, now_ms: int) -> bool:
    """Say whether the one before an event was published before an instant of ours, for all that clocks may differ.

    Its sender's clock may be behind ours: so how much earlier it was than the event, which is here by now, counts too.
    """
    before_ms = time_of(str(e.attributes.get("minuetprevioustime", "")))
    return max(before_ms, now_ms - (e.time_ms - before_ms)) < since_ms


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, MinuetError) else f"{type(error).__name__}: {error}"
