"""What a person asks of a run, passed on to those who perform it; and what participants ask home: is it over?

A participant other than home does not hear the end of a run, unless it brings it about. It asks about what it has
heard nothing of for a while, many runs in one message. So a run costs no message for that, and whatever is lost is
asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from minuet.contracts.envelope import Envelope
from minuet.engine import decide
from minuet.engine.answer import Answer, Done, Rejected
from minuet.engine.decided import Decided
from minuet.engine.knowledge import Knowledge
from minuet.engine.port import StoredRun
from minuet.engine.program import Program
from minuet.engine.row import ENDED, Decision, RunRow, RunState
from minuet.errors import Conflict, InvalidPayload, NotFound, StoreError
from minuet.ids import parse_run, run_text
from minuet.runtime.exchange import Exchange
from minuet.runtime.outgoing import Take, with_notices
from minuet.runtime.participant import Participant

ASK_EVERY_MS = 60_000
PAGE = 1_000


class Remote:
    """One for each participant that speaks to others."""

    def __init__(self, participant: Participant, exchange: Exchange) -> None:
        self._participant = participant
        self._exchange = exchange
        verbs = dict.fromkeys(("pause", "resume", "terminate", "retry", "resolve", "skip"), self._asked)
        exchange.verbs |= verbs | {"over?": self._asked_whether, "over": self._told_over}

    def open(self) -> None:
        """Begin to ask about runs of others, now and then."""
        self._participant.spawn(self._ask())

    # Passing on

    async def pass_on(self, verb: str, row: RunRow, to: Sequence[str], **given: Any) -> None:
        """Ask participants to do something about a run that ends here; returns when that is durable."""
        run = run_text(row.run)
        about = {"run": run, "plan": row.digest, "key": row.key or run, "home": self._exchange.address}
        await self._say([self._envelope(name, verb, {**about, **given}) for name in to])

    def others(self, digest: str) -> list[str]:
        """Give who else takes part in a plan; nobody where it is not known here."""
        routes = self._exchange.routes.get(digest)
        return sorted(routes.participants() - {""} - self._exchange.names) if routes is not None else []

    def performers(self, program: Program, position: str | None) -> list[str]:
        """Give who else may have something to do, or to decide, at a position of a plan (None: at any)."""
        plan = program.plan
        others = self.others(plan.digest)
        if position is None or position in {switch.position for switch in plan.switches}:
            return others  # a choice is evaluated by everybody whose rules stand on it
        names = set[str]()
        for rule in plan.rules:
            if rule.position == position:
                names |= {rule.who, rule.about.get("service", rule.who)}
                names |= {rule.about["compensation"][0]} if rule.about.get("compensation") else set()
        return sorted(names.intersection(others))

    async def _asked(self, envelope: Envelope) -> None:
        verb, given = str(envelope.attributes["minuetverb"]), _data(envelope)
        run, position = parse_run(given["run"]), given.get("position")
        if run is None:
            raise InvalidPayload(f"{given['run']!r} is no run", remedy="It was altered on the way")
        participant = self._participant
        stored = await participant.store.load_run(run)
        if stored is not None and stored.run.state == RunState.QUARANTINED:
            await self._mend(verb, stored)
            return
        if stored is None and run not in participant.runs and not await self._meet(verb, run, given):
            return
        try:
            now = participant.clock.now_ms()
            take: Take = partial(_take, verb=verb, position=position, given=given, participant=participant)
            if position is not None:
                take = await with_notices(participant.store, run, position, take, now)
            d = await participant.ask(run, take)
        except (NotFound, Conflict):
            return  # nothing of it is here (any more)
        if verb == "resume" and d is not None:
            await participant.look_at_timers(d.knowledge)

    async def _meet(self, verb: str, run: int, given: Mapping[str, Any]) -> bool:
        """Know of a run that nothing was heard of yet: what is asked counts for what is to come. Else it is no news."""
        program = self._participant.programs.get(given["plan"])
        if program is None or verb not in ("pause", "terminate"):
            return False
        return await self._exchange.known(program, run, given["key"], given["home"]) is not None

    async def _mend(self, verb: str, stored: StoredRun) -> None:
        """Do something about a run that is quarantined here."""
        if verb == "terminate":
            await self._participant.give_up(stored)
        elif verb == "retry":
            with suppress(Conflict):  # it still cannot be understood, and stays as it is
                await self._participant.read_again(stored)
                self._participant.spawn(
                    self._exchange.take_early_at_last(stored.run.digest)
                )  # not now, but in its turn

    # Asking whether it is over

    async def _ask(self) -> None:
        while True:
            await self._participant.clock.sleep_ms(ASK_EVERY_MS)
            with suppress(StoreError):
                await self.ask()

    async def ask(self) -> None:
        """Ask whether the runs are over that end elsewhere, and are not known to have ended."""
        after = 0
        while rows := await self._participant.store.runs_of_others(after, PAGE):
            after = rows[-1][0]
            by_home: dict[str, list[str]] = {}
            for run, home in rows:
                if not self._participant.is_mine(run):
                    continue
                by_home.setdefault(home, []).append(run_text(run))
            await self._say([self._envelope(home, "over?", {"runs": runs}) for home, runs in by_home.items()])

    async def _asked_whether(self, envelope: Envelope) -> None:
        runs = [run for text in _data(envelope)["runs"] if (run := parse_run(text)) is not None]
        found = {s.run.run: s.run.state for s in await self._participant.store.load_runs(runs)}
        over = {
            run_text(run): str(found.get(run, RunState.COMPLETED))  # what is not known any more ended long ago
            for run in runs
            if found.get(run, RunState.COMPLETED) in ENDED
        }
        if over:
            await self._say([self._envelope(envelope.source.removeprefix("/"), "over", {"runs": over})])

    async def _told_over(self, envelope: Envelope) -> None:
        participant = self._participant

        def over(state: str) -> Callable[[Knowledge], Decided | None]:
            return lambda k: decide.over(k, state, participant.clock.now_ms())

        told: dict[str, str] = _data(envelope)["runs"]
        for text, state in told.items():
            if (run := parse_run(text)) is None:
                continue
            if not participant.is_mine(run):
                await self._tell_owner(envelope, run, state)
            else:
                with suppress(NotFound, Conflict):  # it has ended here too
                    await participant.ask(run, over(state))

    async def _tell_owner(self, envelope: Envelope, run: int, state: str) -> None:
        """Leave it for the owner of a run that it is over."""
        passing, text = self._exchange.passing, run_text(run)
        if passing is not None:
            one = envelope._replace(
                id=f"{envelope.id}:{text}",
                data=msgspec.json.encode({"runs": {text: state}}),
                key=text,
                attributes={**envelope.attributes, "minuetrun": text},
            )
            await passing.leave(one, run)

    def _envelope(self, to: str, verb: str, data: Mapping[str, Any]) -> Envelope:
        now, here = self._participant.clock.now_ms(), self._exchange.address
        attributes: dict[str, str | int] = {"minuetkind": "command", "minuetverb": verb, "minuetto": to}
        if "run" in data:
            attributes["minuetrun"] = data["run"]
        id_ = f"{verb}:{to}:{self._participant.new_id()}"  # asked again it is another message
        key, type_ = data.get("key", to), f"minuet.run.{verb.rstrip('?')}"
        return Envelope(f"{to}.commands", id_, f"/{here}", type_, key, now, attributes, msgspec.json.encode(data))

    async def _say(self, envelopes: Sequence[Envelope]) -> None:
        if not envelopes:
            return
        decision = Decision()
        self._exchange.say(decision, envelopes)
        await self._participant.record(decision)
        assert decision.messages is not None
        self._exchange.send(decision.messages.sending)


def _take(
    k: Knowledge, verb: str, position: str | None, given: Mapping[str, Any], participant: Participant
) -> Decided | None:
    now_ms = participant.clock.now_ms()
    match verb:
        case "pause":
            return decide.pause(k, now_ms)
        case "resume":
            return decide.resume(k, now_ms)
        case "terminate":
            return decide.terminate(k, now_ms)
        case "retry":
            return decide.retry_now(k, position, now_ms)
        case "skip":
            return decide.skip(k, position or "", now_ms)
    answer: Answer | None = None
    if (code := given.get("reject")) is not None:
        answer = Rejected(code, "by hand")
    elif "result" in given:
        answer = Done(msgspec.json.encode(given["result"]))
    return decide.resolve(k, position or "", answer, now_ms, participant.by_hand)


def _data(envelope: Envelope) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(envelope.data or b"{}")
    return found
