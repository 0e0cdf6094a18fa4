"""Two steps before runs may start on a plan: everybody whom it names is told of it, and has acknowledged it.

This is coordination, at the time of a deployment only. Whoever is down delays the activation of what is new, not the
runs of what is known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import msgspec

from minuet.contracts.envelope import Envelope
from minuet.engine.row import ActivationRow, Decision, PlanKey, PlanRow
from minuet.errors import Conflict, NotActive, PlanInvalid, StoreError
from minuet.plans.plan import Plan, load_plan
from minuet.runtime.exchange import Exchange
from minuet.runtime.participant import Participant
from minuet.runtime.view import ActivationView

log = logging.getLogger("minuet")

ASK_AGAIN_MS = 10_000
LOOK_EVERY_MS = 1_000


class Activation:
    """What one participant knows of plans, and who else does.

    `adopt` makes a plan known here: it raises where that cannot be.
    """

    def __init__(
        self,
        participant: Participant,
        exchange: Exchange,
        adopt: Callable[[Plan], None],
        load: Callable[[bytes], Plan] = load_plan,
    ) -> None:
        self._participant = participant
        self._exchange = exchange
        self._adopt = adopt
        self._load = load
        self._missing: dict[str, set[str]] = {}  # by digest: who has not acknowledged it yet
        self._refused: dict[tuple[str, str], str] = {}  # (digest, participant) -> why
        self._asked_for: set[tuple[str, str]] = set()
        self._changed = asyncio.Event()
        exchange.verbs |= {
            "plan": self._told,
            "known": self._acknowledged,
            "plan?": self._asked,
            "retire": self._retired,
        }
        exchange.on_unknown_plan = self._unknown

    # At whoever has the workflows

    async def open(self, plans: Sequence[Plan]) -> None:
        """Have everybody whom these plans name know them."""
        known = {(row.digest, row.participant): row for row in await self._participant.store.activations()}
        decision, now = Decision(), self._participant.clock.now_ms()
        asked = []
        for plan in plans:
            others = self._exchange.routes[plan.digest].participants() - {""} - self._exchange.names
            self._missing[plan.digest] = set()
            for name in sorted(others):
                row = known.get((plan.digest, name))
                if row is None:
                    asked.append(ActivationRow(plan.digest, name, now, None))
                if row is None or row.acknowledged_at_ms is None:
                    self._missing[plan.digest].add(name)
        decision.activations = asked
        self._ask(decision, [p for p in plans if self._missing[p.digest]])
        if asked or decision.messages is not None:
            await self._participant.record(decision)
            self._send(decision)
        self._participant.spawn(self._ask_again(list(plans)))

    async def _ask_again(self, plans: Sequence[Plan]) -> None:
        """Ask those who do not answer once more, now and then: they may have been set up anew."""
        while any(self._missing.values()):
            await self._until_asked_again()
            decision = Decision()
            self._ask(decision, [p for p in plans if self._missing.get(p.digest)])
            if decision.messages is not None:
                try:
                    await self._participant.record(decision)
                except StoreError:
                    continue
                self._send(decision)

    async def _until_asked_again(self) -> None:
        for _ in range(ASK_AGAIN_MS // LOOK_EVERY_MS):
            await self._participant.clock.sleep_ms(LOOK_EVERY_MS)
            with suppress(StoreError):
                await self._look()

    async def _look(self) -> None:
        """Learn who has acknowledged what to another process that shares the store."""
        if self._participant.ownership is not None:
            for row in await self._participant.store.activations():
                if row.acknowledged_at_ms is not None and row.participant in self._missing.get(row.digest, ()):
                    self._missing[row.digest].discard(row.participant)
                    self._changed.set()

    def _ask(self, decision: Decision, plans: Sequence[Plan]) -> None:
        envelopes = [self._telling(plan, name) for plan in plans for name in sorted(self._missing[plan.digest])]
        if envelopes:
            self._exchange.say(decision, envelopes)

    def _telling(self, plan: Plan, name: str) -> Envelope:
        return self._envelope(name, "plan", plan.to_json())

    def _envelope(self, to: str, verb: str, data: bytes) -> Envelope:
        now, here = self._participant.clock.now_ms(), self._exchange.address
        attributes = {"minuetkind": "command", "minuetverb": verb, "minuetto": to, "minuethome": here}
        id_ = f"{verb}:{to}:{self._participant.new_id()}"  # asked again it is another message
        return Envelope(f"{to}.commands", id_, f"/{here}", f"minuet.{verb.rstrip('?')}", to, now, attributes, data)

    def _send(self, decision: Decision) -> None:
        if decision.messages is not None:
            self._exchange.send(decision.messages.sending)

    def missing(self, digest: str) -> frozenset[str]:
        """Give who has not acknowledged a plan yet."""
        return frozenset(self._missing.get(digest, ()))

    def require(self, plan: Plan) -> None:
        """See that runs may start on a plan. Raises NotActive."""
        if not (missing := self._missing.get(plan.digest)):
            return
        who = ", ".join(sorted(missing))
        why = "; ".join(self._refused[plan.digest, name] for name in missing if (plan.digest, name) in self._refused)
        raise NotActive(
            f"M603: {who} {'has' if len(missing) == 1 else 'have'} not acknowledged {plan.name} yet"
            + (f": {why}" if why else ""),
            remedy="Start them, with a release that offers what the plan needs; see: minuet plan list",
            plan=plan.name,
            missing=who,
        )

    async def shown(self) -> dict[str, list[ActivationView]]:
        """Give who is to know which plan, and who does, by digest."""
        found: dict[str, list[ActivationView]] = {}
        for row in await self._participant.store.activations():
            why = self._refused.get((row.digest, row.participant), "")
            view = ActivationView(
                participant=row.participant,
                asked_at_ms=row.asked_at_ms,
                acknowledged_at_ms=row.acknowledged_at_ms,
                refused=why,
            )
            found.setdefault(row.digest, []).append(view)
        return found

    async def settled(self, among: frozenset[str]) -> None:
        """Wait until each of these has acknowledged, or refused, every plan that names it."""
        while any(
            (digest, name) not in self._refused for digest, missing in self._missing.items() for name in missing & among
        ):
            self._changed.clear()
            await self._changed.wait()

    async def _acknowledged(self, envelope: Envelope) -> None:
        said = msgspec.json.decode(envelope.data or b"{}")
        digest, name, why = said["digest"], said["participant"], said.get("refused")
        if why is not None:
            log.warning("%s does not take plan %s: %s", name, digest[:8], why)
            self._refused[digest, name] = why
            self._changed.set()
            return
        if digest not in self._participant.programs:
            return  # it was retired in the meantime
        now = self._participant.clock.now_ms()
        decision = Decision()
        decision.activations = [ActivationRow(digest, name, now, now)]
        await self._participant.record(decision)
        self._refused.pop((digest, name), None)
        self._missing.get(digest, set()).discard(name)
        self._changed.set()

    async def _asked(self, envelope: Envelope) -> None:
        """Tell a plan to somebody who has heard of its runs, and has been set up anew."""
        said = msgspec.json.decode(envelope.data or b"{}")
        program = self._participant.programs.get(said["digest"])
        if program is not None:
            decision = Decision()
            self._exchange.say(decision, [self._telling(program.plan, said["participant"])])
            await self._participant.record(decision)
            self._send(decision)

    # At whoever is named by a plan

    async def _told(self, envelope: Envelope) -> None:
        refused = None
        try:
            plan = self._load(envelope.data or b"")
            digest = plan.digest
            await self.learn(plan)
        except (PlanInvalid, Conflict) as e:
            digest, refused = _digest_of(envelope), str(e)
        if not self._exchange.only_listens:
            home = str(envelope.attributes["minuethome"])
            said = {"digest": digest} | ({"refused": refused} if refused is not None else {})
            names = str(envelope.attributes["minuetto"]).split(",")
            await self._say(home, "known", [{**said, "participant": name} for name in names])

    def _unknown(self, digest: str, home: str) -> None:
        """Ask for a plan that is not known here, and of which somebody speaks."""
        if (digest, home) not in self._asked_for and not self._exchange.only_listens:
            self._asked_for.add((digest, home))
            names = sorted(self._exchange.names)
            self._participant.spawn(self._say(home, "plan?", [{"digest": digest, "participant": n} for n in names[:1]]))

    async def learn(self, plan: Plan) -> None:
        """Know a plan from now on: durably, and with nothing missed of what it needs to hear.

        Raises:
            Conflict: something that it needs is not offered here.
        """
        participant = self._participant
        if plan.digest not in participant.programs:
            self._adopt(plan)
        if plan.digest not in {row.digest for row in await participant.store.plans()}:
            decision = Decision()
            decision.plans = [PlanRow(plan.digest, plan.workflow, plan.to_json().decode(), participant.clock.now_ms())]
            await participant.record(decision)
        await self._exchange.listen()
        await self._exchange.take_early(plan.digest)

    async def _say(self, to: str, verb: str, said: Iterable[dict[str, str]]) -> None:
        decision = Decision()
        self._exchange.say(decision, [self._envelope(to, verb, msgspec.json.encode(data)) for data in said])
        await self._participant.record(decision)
        self._send(decision)

    # When a plan is drained

    async def retire(self, digest: str) -> list[str]:
        """Have nobody know a plan that no unfinished run has; give who was told."""
        participant = self._participant
        routes = self._exchange.routes.get(digest)
        others = sorted(routes.participants() - {""} - self._exchange.names) if routes is not None else []
        decision = Decision()
        decision.plans_done = [PlanKey(digest)]
        data = msgspec.json.encode({"digest": digest})
        self._exchange.say(decision, [self._envelope(name, "retire", data) for name in others])
        await participant.record(decision)
        self._send(decision)
        self._forget(digest)
        await self._exchange.listen()
        return others

    async def _retired(self, envelope: Envelope) -> None:
        digest = str(msgspec.json.decode(envelope.data or b"{}")["digest"])
        while (await self._participant.store.open_digests()).get(digest):
            await self._participant.clock.sleep_ms(ASK_AGAIN_MS)  # it is drained here when it is known that runs ended
        decision = Decision()
        decision.plans_done = [PlanKey(digest)]
        await self._participant.record(decision)
        self._forget(digest)
        await self._exchange.listen()

    def _forget(self, digest: str) -> None:
        self._participant.programs.pop(digest, None)
        self._exchange.forget(digest)
        self._missing.pop(digest, None)


def _digest_of(envelope: Envelope) -> str:
    try:
        return str(msgspec.json.decode(envelope.data or b"{}").get("digest", ""))
    except (msgspec.DecodeError, AttributeError):
        return ""
