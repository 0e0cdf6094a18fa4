"""`Letters` where several participants have them: each dead letter, and each kept message, is seen to where it is."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from minuet.engine.dead_letter import parse_letter
from minuet.engine.row import AuditRow, Decision, EarlyRow
from minuet.errors import Conflict, InvalidPayload, NotFound
from minuet.runtime.exchange import Exchange
from minuet.runtime.host import Host
from minuet.runtime.letters import ANY, LetterChoice
from minuet.runtime.local_letters import LocalLetters
from minuet.runtime.view import Acknowledged, DeadLetterView, SubscriptionView

KEPT_MAX = 10_000  # messages of one participant among which one is looked for


def message_id(address: str, row: EarlyRow) -> str:
    """Give the id under which a person speaks of a message that is kept: `payments!4f1c09d2`."""
    return f"{address}!{hashlib.sha256(row.message.encode()).hexdigest()[:12]}"


class SpreadLetters:
    """The verbs over all participants of this process; `hosts` gives those that run."""

    def __init__(self, hosts: Callable[[], Sequence[Host]], events: Mapping[str, type]) -> None:
        self._hosts = hosts
        self._events = events

    async def dead_letters(
        self, choice: LetterChoice = ANY, *, after: str | None = None, limit: int = 100
    ) -> list[DeadLetterView]:
        """List dead letters, oldest first."""
        if choice.ids:
            return [await self.dead_letter(letter) for letter in choice.ids[:limit]]
        found: list[tuple[int, int, DeadLetterView]] = []
        last = await self.dead_letter(after) if after is not None else None
        for n, host in enumerate(self._hosts()):
            letters, page_after = self._letters(host), None
            if last is not None and self._is_of(host, after or ""):
                page_after = after
            while page := await letters.dead_letters(choice, after=page_after, limit=limit):
                found += [(x.last_at_ms, n, x) for x in page if page_after or _is_behind(x, last)]
                if len(found) >= limit * (n + 1) or len(page) < limit:
                    break
                page_after = page[-1].id
        return [x for _, _, x in sorted(found, key=lambda f: f[:2])[:limit]]

    async def dead_letter(self, letter: str) -> DeadLetterView:
        """Give one, with the events that caused it, or a message that is kept."""
        if "!" in letter:
            return _described(letter, (await self._kept(letter))[1])
        return await self._letters(self._host_of(letter)).dead_letter(letter)

    async def subscriptions(self) -> list[SubscriptionView]:
        """List subscriptions, and how far each is."""
        return [x for host in self._hosts() for x in await self._letters(host).subscriptions()]

    async def retry(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Take dead letters up again, now; a message that is kept is read once more."""
        if not (messages := _messages(choice)):
            return await self._spread("retry", choice, lambda letters, c: letters.retry(c, who=who, note=note))
        for letter in messages:
            host, row = await self._kept(letter)
            assert host.exchange is not None
            why = await host.exchange.take_kept(row)
            if why is None:
                await self._likewise(host, row, lambda x, r: x.take_kept(r))
            await _audit(host, "retry", letter, "taken" if why is None else "kept", who, note)
            if why is not None:
                raise Conflict(f"message {letter} still cannot be taken: {why}", remedy="Mend that, or discard it")
        return Acknowledged(outcome="retry", message=f"{len(messages)} taken")

    async def edit(self, letter: str, data: bytes, *, who: str = "", note: str) -> Acknowledged:
        """Correct the data of one, and take it up again."""
        if "!" in letter:
            raise Conflict(
                f"{letter} is a message between participants, and nobody's to rewrite",
                remedy="Mend what it lacks, and retry it; or discard it",
            )
        return await self._letters(self._host_of(letter)).edit(letter, data, who=who, note=note)

    async def skip(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        """Let the keys go on that they hold up; they stay on the list."""
        if messages := _messages(choice):
            raise Conflict(f"{messages[0]} holds up nothing", remedy="Retry it, or discard it")
        return await self._spread("skip", choice, lambda letters, c: letters.skip(c, who=who, note=note))

    async def discard(self, choice: LetterChoice, *, who: str = "", note: str) -> Acknowledged:
        """Give them up for good; the audit keeps that, and why."""
        if not (messages := _messages(choice)):
            return await self._spread("discard", choice, lambda letters, c: letters.discard(c, who=who, note=note))
        if not isinstance(note, str) or not note.strip():
            raise InvalidPayload("a reason is missing", remedy="Say why, with note: it is kept in the audit")
        for letter in messages:
            host, row = await self._kept(letter)
            assert host.exchange is not None
            await host.exchange.discard_kept(row)
            await self._likewise(host, row, lambda x, r: x.discard_kept(r))
            await _audit(host, "discard", letter, f"{row.topic} {row.message}", who, note)
        return Acknowledged(outcome="discard", message=f"{len(messages)} discarded")

    async def replay(
        self,
        subscription: str,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        who: str = "",
        note: str | None = None,
    ) -> Acknowledged:
        """Have events of a time applied once more by one subscription."""
        letters = self._letters(self._host_of(f"{subscription}:0"))
        return await letters.replay(subscription, since_ms=since_ms, until_ms=until_ms, who=who, note=note)

    def _letters(self, host: Host) -> LocalLetters:
        return LocalLetters(host.participant, host.inlet, self._events)

    def _is_of(self, host: Host, letter: str) -> bool:
        named = parse_letter(letter)
        return named is not None and named[0].partition(".")[0] in host.names

    def _host_of(self, letter: str) -> Host:
        for host in self._hosts():
            if self._is_of(host, letter):
                return host
        raise NotFound(f"there is no dead letter {letter!r}", remedy="List them: minuet failed list", letter=letter)

    async def _kept(self, letter: str) -> tuple[Host, EarlyRow]:
        """Find a message that is kept. Raises NotFound."""
        for host in self._hosts():
            if host.exchange is not None and host.address == letter.partition("!")[0]:
                for row in await host.store.early(None, KEPT_MAX):
                    if message_id(host.address, row) == letter:
                        return host, row
        raise NotFound(f"no message {letter!r} is kept", remedy="List them: minuet failed list", letter=letter)

    async def _likewise(
        self, host: Host, row: EarlyRow, act: Callable[[Exchange, EarlyRow], Awaitable[object]]
    ) -> None:
        """Have an observer do the same with its copy: it is shown once."""
        for other in self._hosts():
            if other is not host and other.exchange is not None and other.exchange.only_listens:
                for copy in await other.store.early(None, KEPT_MAX):
                    if copy.message == row.message:
                        await act(other.exchange, copy)

    async def _spread(self, verb: str, choice: LetterChoice, act: Callable[..., object]) -> Acknowledged:
        """Have each participant see to its own; the answers are counted together."""
        by_host: dict[str, tuple[Host, LetterChoice]] = {}
        if choice.ids:
            for letter in choice.ids:
                host = self._host_of(letter)
                ids = by_host[host.address][1].ids if host.address in by_host else ()
                by_host[host.address] = host, LetterChoice(ids=(*ids, letter))
        else:
            by_host = {host.address: (host, choice) for host in self._hosts()}
        said: list[Acknowledged] = [await act(self._letters(host), c) for host, c in by_host.values()]  # type: ignore[misc]
        counts = [int(a.message.partition(" ")[0]) for a in said]
        total, what = sum(counts), said[0].message.partition(": ")[2] if said else verb
        return Acknowledged(outcome=verb, message=f"{total} dead letter{'s' * (total != 1)}: {what}")


def _messages(choice: LetterChoice) -> list[str]:
    """Give the messages that are named; what is kept is never meant by anything but its id."""
    messages = [letter for letter in choice.ids if "!" in letter]
    if messages and len(messages) != len(choice.ids):
        raise InvalidPayload("dead letters and messages are mixed", remedy="Name the ones, then the others")
    return messages


def _is_behind(x: DeadLetterView, last: DeadLetterView | None) -> bool:
    return last is None or x.last_at_ms > last.last_at_ms


def _described(letter: str, row: EarlyRow) -> DeadLetterView:
    try:
        shown = msgspec.json.decode(row.envelope)
    except msgspec.DecodeError:
        shown = row.envelope
    known = shown if isinstance(shown, dict) else {}
    return DeadLetterView(
        id=letter,
        subscription=letter.partition("!")[0],
        event=row.topic,
        version=0,
        key=str(known.get("subject", "")),
        source=str(known.get("source", "")),
        message=str(known.get("id", "")),
        state="kept",
        reason="message",
        error=row.reason,
        fingerprint="",
        attempts=[],
        first_at_ms=row.at_ms,
        last_at_ms=row.at_ms,
        published_at_ms=row.at_ms,
        hops=0,
        causes=[],
        data=shown,
    )


async def _audit(host: Host, verb: str, letter: str, outcome: str, who: str, note: str | None) -> None:
    decision = Decision()
    decision.audit = [AuditRow(host.participant.clock.now_ms(), who, verb, letter, outcome, note)]
    await host.participant.record(decision)
