"""Brings events from outside and waits together, by type and key; either may come first.

Both are rows. Whoever adds one looks, once it is durable, whether the other is there; so whichever comes second
finds the first. What had come together when the last process stopped, and was not looked at any more, is looked for at
the start. Keys are looked at many at a time, since most have only one side; those that have both are given their
events by one task each, oldest event to oldest wait, until one side is empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice

from minuet.engine.row import Decision, InboxRow, InboxTaken
from minuet.errors import StoreError
from minuet.runtime.clock import WaitingClock
from minuet.runtime.participant import Participant

LOOK_AGAIN_MS = 1_000
EXPIRE_EVERY_MS = 60_000
BATCH = 500


class EventMatcher:
    """One for each participant."""

    def __init__(self, participant: Participant, clock: WaitingClock) -> None:
        self._participant = participant
        self._clock = clock
        self._asked: dict[tuple[str, str], None] = {}  # to be looked at, in this order
        self._is_looking = False
        self._busy: set[tuple[str, str]] = set()
        self._again: set[tuple[str, str]] = set()
        self._news: asyncio.Future[None] | None = None

    def open(self) -> None:
        """Begin: bring together what is there already, and park what was kept too long."""
        self._participant.spawn(self._catch_up() if self._participant.ownership is None else self._watch())
        self._participant.spawn(self._expire())

    def look(self) -> None:
        """Look for what has come together now: others have recorded something, or more is owned."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def look_at(self, event: str, key: str) -> None:
        """See whether an event of this key and a wait for it are both there."""
        self._asked[event, key] = None
        if not self._is_looking:
            self._is_looking = True
            self._participant.spawn(self._look())

    async def _look(self) -> None:
        try:
            while self._asked:
                keys = list(islice(self._asked, BATCH))
                for asked in keys:
                    del self._asked[asked]  # whoever asks from now on asks anew
                try:
                    both = keys if len(keys) == 1 else await self._participant.store.which_meet(keys)
                except StoreError:
                    self._asked.update(dict.fromkeys(keys))
                    await self._clock.sleep_ms(LOOK_AGAIN_MS)
                else:
                    await self._bring_together(both)
        finally:
            self._is_looking = False

    async def _bring_together(self, keys: Iterable[tuple[str, str]]) -> None:
        """Have events given to waits, for not too many keys at once."""
        for event, key in keys:
            while len(self._busy) >= BATCH:
                await self._clock.sleep_ms(LOOK_AGAIN_MS // 100)
            if (event, key) in self._busy:
                self._again.add((event, key))
            else:
                self._busy.add((event, key))
                self._participant.spawn(self._give(event, key))

    async def _give(self, event: str, key: str) -> None:
        try:
            while True:
                self._again.discard((event, key))
                try:
                    given = await self._match(event, key)
                except StoreError:
                    await self._clock.sleep_ms(LOOK_AGAIN_MS)
                    continue
                if not given and (event, key) not in self._again:
                    return
        finally:
            self._busy.discard((event, key))

    async def _match(self, event: str, key: str) -> bool:
        """Give the oldest event to the oldest wait that takes it; True if there was such a pair."""
        store = self._participant.store
        waits = await store.waits_for(event, key, self._participant.shards)
        if not waits:
            return False
        kept = await store.kept_events(event, key)
        if not kept:
            return False
        for wait in waits:
            if await self._participant.event_came(wait, kept[0]):
                return True
        return False

    async def _catch_up(self) -> None:
        """Look at each key for which both are stored, a page at a time."""
        last = ("", "")
        while True:
            try:
                found = await self._participant.store.keys_that_meet(*last, BATCH, self._participant.shards)
            except StoreError:
                await self._clock.sleep_ms(LOOK_AGAIN_MS)
                continue
            if not found:
                return
            await self._bring_together(found)
            last = found[-1]

    async def _watch(self) -> None:
        """Catch up again and again: those who share the store record events for our waits."""
        while True:
            self._news = asyncio.get_running_loop().create_future()
            if self._participant.shards:
                await self._catch_up()
            sleeping = asyncio.ensure_future(self._clock.sleep_ms(LOOK_AGAIN_MS))
            try:
                await asyncio.wait([sleeping, self._news], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sleeping.cancel()

    async def _expire(self) -> None:
        """Park events that nobody has waited for in their time: they are shown, and never dropped."""
        while True:
            try:
                expired = await self._expired()
            except StoreError:
                expired = []
            if expired:
                decision = Decision()
                decision.inbox_taken = [InboxTaken("parked", None, None, None, e.source, e.message) for e in expired]
                self._participant.store.submit(decision)
            await self._clock.sleep_ms(LOOK_AGAIN_MS if len(expired) == BATCH else EXPIRE_EVERY_MS)

    async def _expired(self) -> list[InboxRow]:
        if not self._participant.sees_to("events that were kept too long"):
            return []
        return await self._participant.store.expired_events(self._clock.now_ms(), BATCH)
