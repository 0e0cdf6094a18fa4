"""A broker in a simulated world: a server with a connection to each process, over which messages go late, and again.

It keeps the promises of the port and none beyond: what was confirmed is delivered until it is acknowledged. Where it is
not synced it forgets the last of what it had confirmed when it crashes.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Literal
from zlib import crc32

from minuet.contracts.envelope import Envelope
from minuet.engine.broker import EVERYTHING, BrokerCapability, Received
from minuet.errors import BrokerUnavailable
from minuet.testing.simulation.chance import Chance
from minuet.testing.simulation.faults import Faults
from minuet.testing.simulation.loop import Process, SimulationLoop

Deliver = Callable[[Sequence[Received]], None]
Way = Literal["there", "back"]  # from a process to the server, and from the server to it

WAY_S = (0.0002, 0.005)
NO_ANSWER_S = (1.0, 5.0)  # until whoever asks gives up
BROKEN_S = (0.0, 5.0)  # until the server sees that a connection is broken
AWAY_S = (0.1, 10.0)  # how long the server is away after it has crashed
BOUND_S = 60.0  # so long is kept, at least, what somebody wanted to hear who is dead
UNSYNCED_S = (0.0, 2.0)  # how much is forgotten then
REORDERED_S = (0.0, 0.1)
DELAYED_S = (0.1, 30.0)
AGAIN_SOON_S = (0.0, 0.1)
AGAIN_LATE_S = (1.0, 180.0)
UNACKNOWLEDGED_S = (1.0, 30.0)  # until a message is delivered again whose acknowledgement was lost


class SimulatedBroker:
    """The server. `is_synced`: it forgets nothing that it has confirmed.

    Messages of one key keep their order unless `faults` reorders or delays. A group begins when it is first heard of.
    """

    def __init__(self, loop: SimulationLoop, chance: Chance, faults: Faults, *, is_synced: bool = True) -> None:
        self.is_ordered = not (faults.reorder or faults.delay)
        self.capabilities = frozenset(
            {BrokerCapability.DURABLE}
            | ({BrokerCapability.SYNCED} if is_synced else set())
            | ({BrokerCapability.ORDERED} if self.is_ordered else set())
        )
        self.loop = loop
        self.chance = chance
        self.faults = faults
        self.is_up = True
        self.published = 0  # messages that were taken
        self.delivered = 0  # deliveries that came to a process
        self.redelivered = 0  # … of them, those of what had been delivered before
        self.tags = itertools.count(1)
        self._groups: dict[str, _Group] = {}
        self._cuts: dict[Process, _Cut] = {}
        self._unsynced: deque[tuple[float, _Message]] = deque()
        self._connections: list[Connection] = []

    def connect(self, process: Process) -> Connection:
        """Give a process its connection, which dies with it."""
        connection = Connection(self, process)
        self._connections = [c for c in self._connections if c.process.is_alive]
        self._connections.append(connection)
        return connection

    @property
    def is_busy(self) -> bool:
        """Whether there is something that some group has not acknowledged."""
        return any(group.is_busy for group in self._groups.values())

    # What goes wrong

    def partition(self, process: Process, ways: Collection[Way] = ("there", "back")) -> None:
        """Let nothing pass between a process and the server, or nothing one way."""
        self._cuts[process] = cut = _Cut(frozenset(ways))
        self.loop.call_outside(self.draw("broken", BROKEN_S), self._see_broken, process, cut)

    def heal(self, process: Process) -> None:
        """Let everything pass again; what was under way is delivered again."""
        if self._cuts.pop(process, None) is not None:
            self._reset(process, is_broken=False)
            self._tell_return(process)

    def crash(self) -> None:
        """Be away for a while; what was not acknowledged is delivered again afterwards."""
        if self.is_up:
            self.is_up = False
            self._forget()
            self.loop.call_outside(self.draw("away", AWAY_S), self._start)

    def _start(self) -> None:
        self.is_up = True
        for group in self._groups.values():
            group.take_back(list(group.open))
        for process in dict.fromkeys(c.process for c in self._connections):
            if process not in self._cuts:  # those see it when they are joined again
                self._tell_return(process)

    def _tell_return(self, process: Process) -> None:
        for connection in self._connections:
            if connection.process is process:
                connection.tell_return()

    def _forget(self) -> None:
        """Lose what was confirmed, and not synced."""
        since_s = self.loop.time() - self.draw("unsynced", UNSYNCED_S)
        lost = [message for taken_s, message in self._unsynced if taken_s >= since_s]
        if lost and self.chance.happens("forgotten_tail"):
            for message in lost:
                message.is_lost = True
            for group in self._groups.values():
                group.forget()
        self._unsynced.clear()

    def _see_broken(self, process: Process, cut: _Cut) -> None:
        if self._cuts.get(process) is cut:
            self._reset(process, is_broken=True)

    def _reset(self, process: Process, *, is_broken: bool) -> None:
        for group in self._groups.values():
            for member in group.members:
                if member.process is process:
                    member.is_broken = is_broken
                    group.take_back(group.held_by(member))

    # What connections ask for

    def passes(self, process: Process, way: Way) -> bool:
        """Say whether something that is sent this way arrives."""
        cut = self._cuts.get(process)
        return self.is_up and (cut is None or way not in cut.ways)

    def take(self, batch: Iterable[Envelope]) -> None:
        """Take messages for every group that hears them."""
        for envelope in batch:
            self.published += 1
            for group in self._groups.values():
                if not group.topics.isdisjoint((envelope.topic, EVERYTHING)):
                    self._address(group, envelope)

    def _address(self, group: _Group, envelope: Envelope) -> None:
        late_s = 0.0
        if self.strikes("delay"):
            late_s = self.draw("delayed", DELAYED_S)
        elif self.strikes("reorder"):
            late_s = self.draw("reordered", REORDERED_S)
        self._keep(group, envelope, late_s)
        if self.strikes("duplicate"):
            again_s = self.chance.pick("broker: again", (AGAIN_SOON_S, AGAIN_LATE_S))
            self._keep(group, envelope, late_s + self.draw("duplicated", again_s))

    def _keep(self, group: _Group, envelope: Envelope, late_s: float) -> None:
        message = _Message(envelope)
        group.add([message], late_s)
        if BrokerCapability.SYNCED not in self.capabilities:
            now_s = self.loop.time()
            self._unsynced.append((now_s, message))
            while self._unsynced[0][0] < now_s - UNSYNCED_S[1]:
                self._unsynced.popleft()

    def join(self, group: str, member: SimulatedSubscription) -> None:
        """Have a member hear its topics with a group, which is new if nobody has heard of it."""
        if not member.process.is_alive:
            return  # it has crashed since, and its connection is broken
        member.group = self._groups.setdefault(group, _Group(self))
        member.group.members.append(member)
        member.group.bind(member.process)
        member.group.wake()

    def leave(self, member: SimulatedSubscription) -> None:
        """Have a member hear nothing more. Idempotent."""
        group = member.group
        if group is not None and member in group.members:
            group.members.remove(member)
            group.take_back(group.held_by(member))

    def bury(self, process: Process) -> None:
        """Have nobody of a process hear anything more, also who was never told that it does."""
        for group in self._groups.values():
            for member in [m for m in group.members if m.process is process]:
                self.leave(member)

    # Chance

    def strikes(self, fault: str) -> bool:
        """Say whether a fault strikes, at its rate."""
        return self.chance.strikes(fault, getattr(self.faults, fault))

    def draw(self, what: str, between: tuple[float, float]) -> float:
        """Draw how many seconds something takes."""
        return self.chance.between(f"broker: {what}", *between)


class Connection:
    """The port `Broker`, for one process. It connects again by itself; who asks in vain is told, and may ask again."""

    def __init__(self, broker: SimulatedBroker, process: Process) -> None:
        self.capabilities = broker.capabilities
        self.process = process
        self.members: list[SimulatedSubscription] = []
        self._broker = broker
        self._loop = broker.loop
        self._is_closed = False
        self._on_return: Callable[[], None] | None = None
        self._arrives_s: dict[Way, float] = {"there": 0.0, "back": 0.0}  # nothing overtakes what was sent before
        process.mourners.append(self._break)

    async def open(self) -> None:
        """See that the server is there. Raises BrokerUnavailable."""
        await self.ask(lambda: None)

    async def close(self) -> None:
        """End all subscriptions. Idempotent."""
        for member in list(self.members):
            await member.close()
        self._is_closed = True

    def on_return(self, call: Callable[[], None] | None) -> None:
        """Have it called whenever the server could not be reached and is there again."""
        self._on_return = call

    def tell_return(self) -> None:
        """Say, after a while, that the server is there again."""
        self.process.call(self._returned, after_s=self._broker.draw("returned", BROKEN_S))

    def _returned(self) -> None:
        if self._on_return is not None and not self._is_closed:
            self._on_return()

    async def publish(self, batch: Sequence[Envelope]) -> None:
        """Publish messages in this order; returns when all are confirmed.

        Raises:
            BrokerUnavailable: no answer came: all, some or none of them were taken.
        """
        if not batch:
            return
        is_lost = self._broker.strikes("publish_lost")
        if is_lost:
            batch = batch[: int(self._broker.chance.between("broker: taken", 0, len(batch)))]
        await self.ask(
            partial(self._broker.take, batch), is_answered=not is_lost and not self._broker.strikes("confirm_lost")
        )

    async def subscribe(
        self,
        group: str,
        topics: Collection[str],
        deliver: Deliver,
        *,
        start: Literal["now", "beginning"] | int = "now",
        prefetch: int = 512,
    ) -> SimulatedSubscription:
        """Have messages delivered to a group, which begins now whatever `start` says, if it is new.

        Raises:
            BrokerUnavailable: no answer came.
        """
        member = SimulatedSubscription(self, topics, deliver, prefetch)
        self.members.append(member)
        try:
            await self.ask(partial(self._broker.join, group, member))
        except BrokerUnavailable:
            member.leave()  # it may have joined nevertheless
            raise
        self._loop.call_soon(member.begin)  # once whoever subscribes has what it acknowledges with
        return member

    async def ask(self, act: Callable[[], None], *, is_answered: bool = True) -> None:
        """Have the server do something, and wait for its answer. Raises BrokerUnavailable."""
        if self._is_closed:
            raise BrokerUnavailable("this connection to the broker is closed", remedy="Open another one")
        answer: asyncio.Future[None] = self._loop.create_future()

        def arrive() -> None:
            act()
            if is_answered:
                self.reply(_answer, answer)

        self.send(arrive)
        timer = self._loop.call_later(self._broker.draw("no answer", NO_ANSWER_S), _give_up, answer)
        try:
            await answer
        finally:
            timer.cancel()

    def send(self, act: Callable[..., None], *arguments: Any) -> None:
        """Have the server do something, if that comes there."""
        if self.process.is_alive:
            self._loop.call_outside(self._takes_s("there"), self._pass, "there", act, *arguments)

    def reply(self, act: Callable[..., None], *arguments: Any) -> None:
        """Have something done in the process, if that comes there."""
        self.process.call(self._pass, "back", act, *arguments, after_s=self._takes_s("back"))

    def _pass(self, way: Way, act: Callable[..., None], *arguments: Any) -> None:
        if self._broker.passes(self.process, way):
            act(*arguments)

    def _takes_s(self, way: Way) -> float:
        now_s = self._loop.time()
        self._arrives_s[way] = max(self._arrives_s[way], now_s + self._broker.draw("way", WAY_S))
        return self._arrives_s[way] - now_s

    def _break(self) -> None:
        """See, after a while, that the process is no more."""
        self._loop.call_outside(self._broker.draw("broken", BROKEN_S), self._broker.bury, self.process)


class SimulatedSubscription:
    """The port `Subscription`: one member of a group, as its process and the server know it."""

    def __init__(self, connection: Connection, topics: Collection[str], deliver: Deliver, prefetch: int) -> None:
        assert prefetch > 0, "a subscriber takes something"
        self.process = connection.process
        self.topics = frozenset(topics)
        self.prefetch = prefetch
        self.group: _Group | None = None  # None: the server does not know it yet
        self.held = 0
        self.is_broken = False  # the server has seen that it cannot be reached
        self._connection = connection
        self._broker = connection._broker  # noqa: SLF001 - a part of it
        self._deliver = deliver
        self._early: list[Received] | None = []  # what came before it was known to be subscribed; None: it is
        self._is_closed = False

    def acknowledge(self, tags: Sequence[Any]) -> None:
        """Say that these are durably handled; now and then that is lost, and they are delivered again."""
        if not tags:
            return
        if self._broker.strikes("acknowledgement_lost"):
            self._broker.loop.call_outside(
                self._broker.draw("unacknowledged", UNACKNOWLEDGED_S), self._take_back, list(tags)
            )
        else:
            self._connection.send(self._acknowledge, list(tags))

    def release(self, tags: Sequence[Any], delay_ms: int) -> None:
        """Say that these could not be handled: they are delivered again after a while."""
        self._connection.send(self._take_back, list(tags), delay_ms / 1000)

    async def change(self, topics: Collection[str]) -> None:
        """Hear these topics from now on; asks until the server answers."""
        while not self._is_closed:
            try:
                await self._connection.ask(partial(self._bind, frozenset(topics)))
            except BrokerUnavailable:
                continue  # some time has passed
            return

    async def close(self) -> None:
        """Stop hearing; what was not acknowledged is delivered again."""
        if not self._is_closed:
            self._is_closed = True
            self._connection.members.remove(self)
            with contextlib.suppress(BrokerUnavailable):  # the server sees it when it next delivers something
                await self._connection.ask(partial(self._broker.leave, self))

    def leave(self) -> None:
        """Stop hearing, without waiting for the server to know."""
        self._is_closed = True
        self._connection.members.remove(self)
        self._connection.send(self._broker.leave, self)

    def begin(self) -> None:
        """Hear what has come already, and from now on what comes."""
        early, self._early = self._early, None
        if early:
            self._hear(early)

    def hand(self, batch: list[Received]) -> None:
        """Send it messages, at the server."""
        self._connection.reply(self._hear, batch)

    def _hear(self, batch: list[Received]) -> None:
        if self._is_closed:
            self._connection.send(self._broker.leave, self)
            return
        if self._early is not None:
            self._early += batch
            return
        self._broker.delivered += len(batch)
        self._broker.redelivered += sum(received.deliveries > 1 for received in batch)
        self._deliver(batch)

    # At the server

    def _bind(self, topics: frozenset[str]) -> None:
        self.topics = topics
        if self.group is not None:
            self.group.bind(self.process)

    def _acknowledge(self, tags: list[int]) -> None:
        if self.group is not None:
            self.group.acknowledge(tags)

    def _take_back(self, tags: list[int], late_s: float = 0.0) -> None:
        if self.group is not None:
            self.group.take_back(tags, late_s)


class _Group:
    """What one group is to hear: what waits for it, and what its members have and have not acknowledged."""

    def __init__(self, broker: SimulatedBroker) -> None:
        self.members: list[SimulatedSubscription] = []
        self.topics = frozenset[str]()
        self.open: dict[int, tuple[_Message, SimulatedSubscription]] = {}
        self._broker = broker
        self._bound: dict[Process, tuple[float, frozenset[str]]] = {}
        self._waiting: deque[_Message] = deque()
        self._late = 0  # what comes later
        self._is_woken = False

    @property
    def is_busy(self) -> bool:
        """Whether anything is not acknowledged."""
        return bool(self._waiting or self.open or self._late)

    def bind(self, process: Process) -> None:
        """Hear what the members of this process want to hear.

        What other processes have bound stays bound while they live, also when nobody of them listens: what they want to
        hear waits for them. What dead ones have bound is left a while later, when another one says what it wants.
        """
        wanted = (m.topics for m in self.members if m.process is process)
        now_s = self._broker.loop.time()
        self._bound = {p: b for p, b in self._bound.items() if p.is_alive or now_s < b[0] + BOUND_S}
        self._bound[process] = now_s, frozenset[str]().union(*wanted)
        self.topics = frozenset[str]().union(*(topics for _, topics in self._bound.values()))

    def add(self, messages: list[_Message], late_s: float = 0.0, *, first: bool = False) -> None:
        """Have messages delivered after a while; `first`: before those that wait already."""
        if late_s > 0:
            self._late += len(messages)
            self._broker.loop.call_outside(late_s, self._come, messages)
            return
        kept = [message for message in messages if not message.is_lost]
        if first:
            self._waiting.extendleft(reversed(kept))
        else:
            self._waiting.extend(kept)
        self.wake()

    def _come(self, messages: list[_Message]) -> None:
        self._late -= len(messages)
        self.add(messages)

    def acknowledge(self, tags: Iterable[int]) -> None:
        """Be done with deliveries; those that are not open are no news."""
        for tag in tags:
            if (entry := self.open.pop(tag, None)) is not None:
                entry[1].held -= 1
        self.wake()

    def take_back(self, tags: Iterable[int], late_s: float = 0.0) -> None:
        """Have deliveries repeated, to whoever is there; those that are not open are no news."""
        entries = [entry for tag in tags if (entry := self.open.pop(tag, None)) is not None]
        for _, member in entries:
            member.held -= 1
        self.add([message for message, _ in entries], late_s, first=True)

    def held_by(self, member: SimulatedSubscription) -> list[int]:
        """Give the tags of what a member has not acknowledged."""
        return [tag for tag, (_, holder) in self.open.items() if holder is member]

    def forget(self) -> None:
        """Leave out what was lost; what members have, and what comes later, is left out when it comes."""
        self._waiting = deque(message for message in self._waiting if not message.is_lost)

    def wake(self) -> None:
        """See, in the next turn of the world, what is to be delivered."""
        if not self._is_woken:
            self._is_woken = True
            self._broker.loop.call_outside(0, self._serve)

    def _serve(self) -> None:
        self._is_woken = False
        batches: dict[SimulatedSubscription, list[Received]] = {}
        while self._broker.is_up and self._waiting and (member := self._next(self._waiting[0])) is not None:
            message, tag = self._waiting.popleft(), next(self._broker.tags)
            message.deliveries += 1
            self.open[tag] = message, member
            member.held += 1
            batches.setdefault(member, []).append(Received(message.envelope, tag, message.deliveries))
        for member, batch in batches.items():
            member.hand(batch)

    def _next(self, message: _Message) -> SimulatedSubscription | None:
        """Give the member that is to be handed a message; None if there is no room."""
        reached = [m for m in self.members if not m.is_broken]
        if self._broker.is_ordered and reached:
            member = reached[crc32(message.envelope.key.encode()) % len(reached)]
            return member if member.held < member.prefetch else None
        free = [m for m in reached if m.held < m.prefetch]
        return free[0] if len(free) == 1 else self._broker.chance.pick("broker: member", free) if free else None


class _Message:
    """A message for one group. `deliveries` counts those that were begun."""

    __slots__ = ("deliveries", "envelope", "is_lost")

    def __init__(self, envelope: Envelope) -> None:
        self.envelope = envelope
        self.deliveries = 0
        self.is_lost = False


class _Cut:
    """A partition; each is another one."""

    __slots__ = ("ways",)

    def __init__(self, ways: frozenset[Way]) -> None:
        self.ways = ways


def _answer(answer: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_result(None)


def _give_up(answer: asyncio.Future[None]) -> None:
    if not answer.done():
        answer.set_exception(BrokerUnavailable("the broker does not answer", remedy="Publish the same again"))
