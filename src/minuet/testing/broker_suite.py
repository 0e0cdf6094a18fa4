"""What every broker must do: one class of tests, for our brokers and for those of others.

Whoever has written a broker subclasses `BrokerSuite` in a test module, and gives it a fixture `broker`: a function
without arguments whose every call gives a broker, still closed, over one and the same place, new for each test.
Where a broker lacks something on purpose it leaves the `BrokerCapability` out, and the tests of it are skipped.
"""

# ruff: noqa: D102 - the name of a test is a sentence already

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar
from unittest import SkipTest

from minuet.contracts.envelope import Envelope
from minuet.engine.broker import EVERYTHING, Broker, BrokerCapability, Received, Subscription
from minuet.runtime.clock import SystemClock

MakeBroker = Callable[[], Broker]
IN_TIME_S = 30


def envelope(message: str, topic: str = "orders", key: str = "o-1", **other: Any) -> Envelope:
    """Make a message."""
    made = Envelope(topic, message, "/shop", "order.placed", key, 1_700_000_000_000, {"minuethops": 1}, b'{"id":"o-1"}')
    return made._replace(**other)


class Ear:
    """A subscriber: it keeps what it is given, and acknowledges at once, or not at all."""

    def __init__(self, *, acknowledges: bool = True, beside: Ear | None = None) -> None:
        self.heard: list[Received] = []
        self.acknowledges = acknowledges
        self.subscription: Subscription | None = None
        self._beside = beside  # hears what several hear
        self._came = asyncio.Event()

    def deliver(self, batch: Sequence[Received]) -> None:
        """Be given messages."""
        self.heard += batch
        if self.acknowledges:
            # Whoever acknowledges does so when it has recorded what it was given: later.
            asyncio.get_running_loop().call_soon(self.acknowledge, list(batch))
        if self._beside is not None:
            self._beside.deliver(batch)
        self._came.set()

    def acknowledge(self, batch: Sequence[Received] | None = None) -> None:
        """Acknowledge some, or all that was heard."""
        assert self.subscription is not None
        self.subscription.acknowledge([received.tag for received in (self.heard if batch is None else batch)])

    @property
    def ids(self) -> list[str]:
        """Give the ids of what was heard, in this order."""
        return [received.envelope.id for received in self.heard]

    async def until(self, is_there: Callable[[Ear], bool]) -> None:
        """Wait until something holds of what was heard."""
        async with asyncio.timeout(IN_TIME_S):
            while not is_there(self):
                self._came.clear()
                await self._came.wait()

    async def hear(self, ids: Collection[str]) -> None:
        """Wait until all of these were heard."""
        await self.until(lambda ear: set(ids) <= set(ear.ids))


@asynccontextmanager
async def opened(broker: Broker) -> AsyncIterator[Broker]:
    """Open a broker, and close it in the end."""
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


async def listen(
    broker: Broker, group: str, topics: Collection[str] = ("orders",), ear: Ear | None = None, **how: Any
) -> Ear:
    """Subscribe an ear."""
    ear = ear or Ear()
    ear.subscription = await broker.subscribe(group, topics, ear.deliver, **how)
    return ear


def _with(broker: MakeBroker, test: Callable[[Broker], Awaitable[None]]) -> None:
    async def perform() -> None:
        async with opened(broker()) as one:
            await test(one)

    _run(perform())


def _run(test: Awaitable[None]) -> None:
    async def in_time() -> None:
        async with asyncio.timeout(2 * IN_TIME_S):
            await test

    asyncio.run(in_time())


def _closed(subscription: Subscription | None) -> Awaitable[None]:
    assert subscription is not None
    return subscription.close()


class BrokerSuite:
    """The tests. `capabilities`: what the broker can; all of it, unless said otherwise."""

    capabilities: ClassVar[frozenset[BrokerCapability]] = frozenset(BrokerCapability)

    def need(self, capability: BrokerCapability) -> None:
        """Skip the test where the broker cannot do this."""
        if capability not in self.capabilities:
            raise SkipTest(f"this broker is not {capability}")

    async def instant_ms(self) -> int:
        """Give an instant after all that was published, and before all that will be: of this machine's clock."""
        clock = SystemClock()
        instant = clock.now_ms() + 1
        await clock.sleep_ms(2)
        return instant

    # Who is given what

    def test_every_group_is_given_what_was_published(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ears = [await listen(one, name) for name in ("bank", "stock", "shop")]
            messages = [envelope(f"m-{n}", key=f"o-{n}") for n in range(50)]
            await one.publish(messages[:20])
            await one.publish(messages[20:])
            for ear in ears:
                await ear.hear([m.id for m in messages])
                assert sorted(r.envelope for r in ear.heard) == sorted(messages)
                assert {r.deliveries for r in ear.heard} == {1}

        _with(broker, test)

    def test_a_message_comes_as_it_was_published(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ear = await listen(one, "bank", [EVERYTHING])
            messages = [
                envelope("größe-Δ", "orders", "schlüssel-✓", source="/wäre", data='{"straße":"日本"}'.encode()),
                envelope("bare", data=None, attributes={}),
                envelope("null", data=b"null", attributes={"minuetplan": "7c1e", "minuetseq": 9_007_199_254_740_993}),
                envelope("large", data=b'"' + b"x" * 200_000 + b'"'),
                envelope("keyless", key=""),
            ]
            await one.publish(messages)
            await ear.hear([m.id for m in messages])
            assert {r.envelope.id: r.envelope for r in ear.heard} == {m.id: m for m in messages}

        _with(broker, test)

    def test_members_of_a_group_share_what_it_is_given(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            all_of_them = Ear(acknowledges=False)
            members = [await listen(one, "bank", ear=Ear(beside=all_of_them)) for _ in range(3)]
            ids = [f"m-{n}" for n in range(90)]
            await one.publish([envelope(i, key=f"o-{i}") for i in ids])
            await all_of_them.hear(ids)
            assert Counter(i for ear in members for i in ear.ids) == Counter(ids), "something came to two of them"

        _with(broker, test)

    def test_a_group_is_given_its_topics_only(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            bank = await listen(one, "bank", ["orders", "payments"])
            stock = await listen(one, "stock", ["parcels"])
            observer = await listen(one, "observer", [EVERYTHING])
            topics = ["orders", "parcels", "payments", "news", "orders"]
            await one.publish([envelope(f"m-{n}", topic) for n, topic in enumerate(topics)])
            await observer.hear(["m-0", "m-1", "m-2", "m-3", "m-4"])
            await bank.hear(["m-0", "m-2", "m-4"])
            await stock.hear(["m-1"])
            assert sorted(bank.ids) == ["m-0", "m-2", "m-4"]
            assert stock.ids == ["m-1"]
            assert [r.envelope.topic for r in sorted(observer.heard, key=lambda r: r.envelope.id)] == topics

        _with(broker, test)

    def test_many_groups_are_given_many_messages(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ears = [await listen(one, f"group-{n}", [f"topic-{n % 10}"]) for n in range(60)]
            await asyncio.gather(
                *(one.publish([envelope(f"m-{n}-{t}", f"topic-{t}") for n in range(20)]) for t in range(10))
            )
            for n, ear in enumerate(ears):
                await ear.hear([f"m-{i}-{n % 10}" for i in range(20)])
                assert len(ear.heard) == 20

        _with(broker, test)

    def test_publishing_nothing_is_done_at_once(self, broker: MakeBroker) -> None:
        _with(broker, lambda one: one.publish([]))

    # Order

    def test_messages_of_one_key_come_in_the_order_of_publication(self, broker: MakeBroker) -> None:
        self.need(BrokerCapability.ORDERED)

        async def test(one: Broker) -> None:
            early = await listen(one, "early", prefetch=7)
            await one.publish([envelope(f"{n:04}", key=f"o-{n % 5}") for n in range(200)])
            late = await listen(
                one, "late", start="beginning" if BrokerCapability.REPLAY in self.capabilities else "now"
            )
            await asyncio.gather(*(one.publish([envelope(f"{n:04}", key=f"o-{n % 5}")]) for n in range(200, 400)))
            for ear in (early, late):
                await ear.hear([f"{n:04}" for n in range(0 if ear is early else 200, 400)])
                for key in range(5):
                    of_key = [r.envelope.id for r in ear.heard if r.envelope.key == f"o-{key}"]
                    assert of_key == sorted(of_key)

        _with(broker, test)

    # Again

    def test_what_was_released_is_given_again(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ear = await listen(one, "bank", ear=Ear(acknowledges=False))
            await one.publish([envelope("m-1"), envelope("m-2"), envelope("m-3")])
            await ear.hear(["m-1", "m-2", "m-3"])
            assert ear.subscription is not None
            first = {r.envelope.id: r for r in ear.heard}
            ear.subscription.acknowledge([first["m-1"].tag, first["m-3"].tag])
            ear.heard.clear()
            ear.subscription.release([first["m-2"].tag], 5)
            await ear.hear(["m-2"])
            assert [(r.envelope, r.deliveries) for r in ear.heard] == [(envelope("m-2"), 2)]
            ear.acknowledge()

        _with(broker, test)

    def test_what_was_not_acknowledged_is_given_to_who_comes_next(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ear = await listen(one, "bank", ear=Ear(acknowledges=False))
            await one.publish([envelope(f"m-{n}") for n in range(6)])
            await ear.hear([f"m-{n}" for n in range(6)])
            ear.acknowledge([r for r in ear.heard if r.envelope.id in ("m-0", "m-1")])
            await _closed(ear.subscription)
            await one.publish([envelope("m-6")])
            again = await listen(one, "bank")
            await again.hear([f"m-{n}" for n in range(2, 7)])
            assert not {"m-0", "m-1"} & set(again.ids)

        _with(broker, test)

    def test_what_a_member_had_when_it_left_is_given_to_the_others(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            leaver = await listen(one, "bank", ear=Ear(acknowledges=False))
            ids = [f"m-{n}" for n in range(20)]
            await one.publish([envelope(i, key=i) for i in ids])
            await leaver.hear(ids)
            stayer = await listen(one, "bank")
            await _closed(leaver.subscription)
            await stayer.hear(ids)

        _with(broker, test)

    # What waits

    def test_what_is_published_while_nobody_listens_waits_for_the_group(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ear = await listen(one, "bank")
            await one.publish([envelope("m-0")])
            await ear.hear(["m-0"])
            await _closed(ear.subscription)
            await one.publish([envelope(f"m-{n}") for n in range(1, 400)])
            again = await listen(one, "bank")
            await again.hear([f"m-{n}" for n in range(1, 400)])
            assert len(ear.heard) == 1, "it heard on after it was closed"

        _with(broker, test)

    def test_a_slow_group_holds_up_nobody_and_gets_everything(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            slow = await listen(one, "slow", ear=Ear(acknowledges=False), prefetch=3)
            quick = await listen(one, "quick")
            ids = [f"m-{n}" for n in range(500)]
            for start in range(0, 500, 50):
                await one.publish([envelope(i) for i in ids[start : start + 50]])
            await quick.hear(ids)
            assert len(slow.heard) <= 3
            slow.acknowledges = True
            slow.acknowledge()
            await slow.hear(ids)
            assert Counter(slow.ids) == Counter(ids)

        _with(broker, test)

    def test_no_more_than_agreed_are_given_before_they_are_acknowledged(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ear = await listen(one, "bank", ear=Ear(acknowledges=False), prefetch=10)
            other = await listen(one, "other")
            await one.publish([envelope(f"m-{n}") for n in range(100)])
            await ear.until(lambda e: len(e.heard) == 10)
            await other.hear(["m-99"])
            assert len(ear.heard) == 10
            ear.acknowledge(ear.heard[:4])
            await ear.until(lambda e: len(e.heard) == 14)
            await one.publish([envelope("n-1")])
            await other.hear(["n-1"])
            assert len(ear.heard) == 14

        _with(broker, test)

    # Topics

    def test_who_changes_topics_misses_nothing(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ear = await listen(one, "bank", ["orders"])
            assert ear.subscription is not None
            for n in range(40):
                await ear.subscription.change(["orders", *(f"plan-{known}" for known in range(n + 1))])
                await one.publish([envelope(f"p-{n}", f"plan-{n}"), envelope(f"o-{n}"), envelope(f"x-{n}", "other")])
            await ear.hear([f"{kind}-{n}" for n in range(40) for kind in "po"])
            await ear.subscription.change([EVERYTHING])
            await one.publish([envelope("x-last", "other")])
            await ear.hear(["x-last"])
            assert [i for i in ear.ids if i.startswith("x")] == ["x-last"]

        _with(broker, test)

    # Where a new group begins

    def test_a_new_group_begins_now_unless_it_says_otherwise(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            await one.publish([envelope("m-0")])
            ear = await listen(one, "bank")
            await one.publish([envelope("m-1")])
            await ear.hear(["m-1"])
            assert ear.ids == ["m-1"]

        _with(broker, test)

    def test_a_new_group_may_begin_with_the_first_message(self, broker: MakeBroker) -> None:
        self.need(BrokerCapability.REPLAY)

        async def test(one: Broker) -> None:
            ids = [f"m-{n:03}" for n in range(300)]
            await one.publish([envelope(i) for i in ids])
            ear = await listen(one, "bank", start="beginning")
            await ear.hear(ids)
            assert ear.ids == ids
            await _closed(ear.subscription)
            await one.publish([envelope("m-300")])
            again = await listen(one, "bank", start="beginning")  # it is not new any more
            await again.hear(["m-300"])
            assert again.ids == ["m-300"]

        _with(broker, test)

    def test_a_new_group_may_begin_at_an_instant(self, broker: MakeBroker) -> None:
        self.need(BrokerCapability.REPLAY)

        async def test(one: Broker) -> None:
            await one.publish([envelope("before-1"), envelope("before-2")])
            at_ms = await self.instant_ms()
            await one.publish([envelope("after-1"), envelope("after-2")])
            ear = await listen(one, "bank", start=at_ms)
            await ear.hear(["after-1", "after-2"])
            assert ear.ids == ["after-1", "after-2"]

        _with(broker, test)

    # Repetitions

    def test_publishing_the_same_again_harms_nobody(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ear = await listen(one, "bank")
            await one.publish([envelope("m-1"), envelope("m-2")])
            await one.publish([envelope("m-1"), envelope("m-3"), envelope("m-2"), envelope("m-2")])
            await one.publish([envelope("m-1", source="/other")])
            await ear.until(lambda e: "/other" in {r.envelope.source for r in e.heard})
            await ear.hear(["m-1", "m-2", "m-3"])
            assert {r.envelope for r in map(_hashable, ear.heard)} == {
                _hashable_envelope(e)
                for e in (envelope("m-1"), envelope("m-2"), envelope("m-3"), envelope("m-1", source="/other"))
            }
            await _closed(ear.subscription)
            await one.publish([envelope("m-4")])
            again = await listen(one, "bank")
            await again.hear(["m-4"])

        _with(broker, test)

    # Closing

    def test_closing_twice_is_no_news(self, broker: MakeBroker) -> None:
        async def test(one: Broker) -> None:
            ear = await listen(one, "bank")
            await _closed(ear.subscription)
            await _closed(ear.subscription)
            ear.acknowledge()
            await one.close()
            await one.close()

        _with(broker, test)

    def test_what_was_published_is_there_after_opening_again(self, broker: MakeBroker) -> None:
        self.need(BrokerCapability.DURABLE)

        async def test() -> None:
            async with opened(broker()) as one:
                ear = await listen(one, "bank")
                await one.publish([envelope("m-0")])
                await ear.hear(["m-0"])
                await _closed(ear.subscription)
                await one.publish([envelope("m-1"), envelope("größe")])
            async with opened(broker()) as one:
                await one.publish([envelope("m-2")])
                again = await listen(one, "bank")
                await again.hear(["m-1", "größe", "m-2"])

        _run(test())

    def test_what_was_not_acknowledged_is_there_after_opening_again(self, broker: MakeBroker) -> None:
        self.need(BrokerCapability.DURABLE)

        async def test() -> None:
            async with opened(broker()) as one:
                ear = await listen(one, "bank", ear=Ear(acknowledges=False))
                await one.publish([envelope(f"m-{n}") for n in range(10)])
                await ear.hear([f"m-{n}" for n in range(10)])
                ear.acknowledge([r for r in ear.heard if r.envelope.id in ("m-0", "m-1", "m-5")])
            async with opened(broker()) as one:
                again = await listen(one, "bank")
                await again.hear([f"m-{n}" for n in (2, 3, 4, 6, 7, 8, 9)])

        _run(test())

    def test_what_was_acknowledged_before_closing_is_not_given_after_opening(self, broker: MakeBroker) -> None:
        self.need(BrokerCapability.DURABLE)

        async def test() -> None:
            async with opened(broker()) as one:
                ear = await listen(one, "bank")
                await one.publish([envelope(f"m-{n}") for n in range(300)])
                await one.publish([envelope("m-7")])  # a repetition, the last thing of all
                await ear.until(lambda e: set(e.ids) >= {f"m-{n}" for n in range(300)})
                await _closed(ear.subscription)
                ear.acknowledge()
            async with opened(broker()) as one:
                again = await listen(one, "bank")
                await one.publish([envelope("m-new")])
                await again.hear(["m-new"])
                assert set(again.ids) <= {"m-new", "m-7"}

        _run(test())


def _hashable(received: Received) -> Received:
    return received._replace(envelope=_hashable_envelope(received.envelope))


def _hashable_envelope(message: Envelope) -> Envelope:
    return message._replace(attributes=tuple(sorted(message.attributes.items())))  # type: ignore[arg-type]
