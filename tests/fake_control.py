"""A `Control` in memory, for tests of what stands on it: HTTP routes, the client, the command line.

It is no engine: runs stay where a test puts them. What it checks is what the protocol promises.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec

from minuet.errors import Busy, Conflict, InvalidPayload, KeyConflict, NotFound
from minuet.ids import RunIds, run_text
from minuet.runtime.letters import ANY, LetterChoice
from minuet.runtime.view import (
    Acknowledged,
    DeadLetterView,
    EventReceipt,
    FactView,
    FailedAttemptView,
    FailedView,
    Health,
    PlanView,
    RunView,
    SubscriptionView,
)

HEALTHY = Health(
    ready=True,
    draining=False,
    runs_in_memory=1,
    running_actions=0,
    queued_actions=0,
    abandoned_threads=0,
    late_answers=0,
    recovering=False,
    lag_ms=0,
)


@dataclass
class FakeLetters:
    """Dead letters that stay where a test puts them."""

    known: dict[str, DeadLetterView] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)

    async def dead_letters(
        self, choice: LetterChoice = ANY, *, after: str | None = None, limit: int = 100
    ) -> list[DeadLetterView]:
        self.asked.append(("dead_letters", choice, after, limit))
        found = [self._letter(x) for x in choice.ids] or list(self.known.values())
        fits = [
            x
            for x in found
            if choice.subscription in (None, x.subscription) and choice.fingerprint in (None, x.fingerprint)
        ]
        return fits[:limit]

    async def dead_letter(self, letter: str) -> DeadLetterView:
        return self._letter(letter)

    async def subscriptions(self) -> list[SubscriptionView]:
        return [SubscriptionView(name="mail.tell", event="a.b", position=3, newest=5, active=True, since_ms=1)]

    async def retry(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        return self._verb("retry", choice, who, note)

    async def edit(self, letter: str, data: bytes, *, who: str = "", note: str) -> Acknowledged:
        return self._verb("edit", LetterChoice(ids=(letter,)), data, who, note)

    async def skip(self, choice: LetterChoice, *, who: str = "", note: str | None = None) -> Acknowledged:
        return self._verb("skip", choice, who, note)

    async def discard(self, choice: LetterChoice, *, who: str = "", note: str) -> Acknowledged:
        return self._verb("discard", choice, who, note)

    async def replay(
        self,
        subscription: str,
        *,
        since_ms: int | None = None,
        until_ms: int | None = None,
        who: str = "",
        note: str | None = None,
    ) -> Acknowledged:
        self.asked.append(("replay", subscription, since_ms, until_ms, who, note))
        return Acknowledged(outcome="due", message="2 events are applied once more")

    def _verb(self, verb: str, choice: LetterChoice, *more: Any) -> Acknowledged:
        for letter in choice.ids:
            self._letter(letter)
        self.asked.append((verb, choice, *more))
        return Acknowledged(outcome=verb, message="1 dead letter")

    def _letter(self, letter: str) -> DeadLetterView:
        if letter not in self.known:
            raise NotFound(f"there is no dead letter {letter!r}", letter=letter)
        return self.known[letter]


@dataclass
class FakeControl:
    """Runs of one workflow, `greet`, whose input is text; events of one type, `greetings.returned`."""

    known: dict[str, RunView] = field(default_factory=dict)
    inputs: dict[str, bytes | None] = field(default_factory=dict)
    asked: list[Any] = field(default_factory=list)
    health_now: Health = HEALTHY
    room: int = 1_000
    parked: list[FailedView] = field(default_factory=list)
    ids: RunIds = field(default_factory=RunIds)
    events: set[tuple[str, str]] = field(default_factory=set)
    letters: FakeLetters = field(default_factory=FakeLetters)
    plan_texts: dict[str, bytes] = field(default_factory=dict)

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
        self.asked.append(("start", workflow, input_, key, on_duplicate, again))
        if workflow != "greet":
            raise NotFound(f"there is no workflow {workflow!r}", remedy="Known are: greet", workflow=workflow)
        if not isinstance(json.loads(input_ or b"null"), str):
            raise InvalidPayload("expected `str`", remedy="Send text", path="$")
        for view in self.known.values():
            if key is not None and view.key == key and not again:
                if self.inputs[view.run] != input_ or on_duplicate == "refuse":
                    raise KeyConflict(f"key {key!r} names run {view.run}", remedy="Take another key", run=view.run)
                return view, False
        if len(self.known) >= self.room:
            raise Busy("no more runs fit into memory", remedy="Try again")
        run = run_text(self.ids.next(1_750_000_000_000))
        self.known[run] = make_run(run, key=key or run)
        self.inputs[run] = input_
        return self.known[run], True

    async def wait(self, run: str, timeout_s: float | None) -> RunView:
        self.asked.append(("wait", run, timeout_s))
        return self._run(run)

    async def show(self, run: str, *, facts: bool = True) -> RunView:
        view = self._run(run)
        return view if facts else msgspec.structs.replace(view, facts=[])

    async def find(self, key: str, workflow: str | None = None) -> RunView:
        found = await self.runs(key=key, workflow=workflow, limit=1)
        if not found:
            raise NotFound(f"no run has the key {key!r}", key=key)
        return self._run(found[0].run)

    async def runs(
        self,
        *,
        states: tuple[str, ...] = (),
        workflow: str | None = None,
        key: str | None = None,
        since_ms: int | None = None,
        before: str | None = None,
        limit: int = 50,
        late: bool = False,
    ) -> list[RunView]:
        self.asked.append(("runs", states, workflow, key, since_ms, before, limit))
        found = [
            msgspec.structs.replace(v, facts=[])
            for v in sorted(self.known.values(), key=lambda v: v.run, reverse=True)
            if (not states or v.state in states)
            and workflow in (None, v.workflow)
            and key in (None, v.key)
            and (since_ms is None or v.started_at_ms >= since_ms)
            and (before is None or v.run < before)
            and (not late or any(w.late for w in v.waiting))
        ]
        return found[:limit]

    async def send(
        self, event: str, key: str, data: bytes, *, id_: str | None = None, source: str = ""
    ) -> EventReceipt:
        self.asked.append(("send", event, key, data, id_, source))
        if event != "greetings.returned":
            raise NotFound(f"there is no event type {event!r}", event=event)
        if not isinstance(json.loads(data), dict):
            raise InvalidPayload("expected `object`", path="$")
        if id_ is not None and (source, id_) in self.events:
            return EventReceipt(id=id_, outcome="duplicate", waiting=0)
        self.events.add((source, id_ or "made"))
        return EventReceipt(id=id_ or "made", outcome="accepted", waiting=0)

    async def cancel(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        return self._verb("cancel", run, who, note)

    async def terminate(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        return self._verb("terminate", run, who, note)

    async def pause(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        return self._verb("pause", run, who, note)

    async def resume(self, run: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        if not self._run(run).paused:
            raise Conflict(f"run {run} is not paused", run=run)
        return self._verb("resume", run, who, note)

    async def retry(
        self, run: str, position: str | None = None, *, who: str = "", note: str | None = None
    ) -> Acknowledged:
        return self._verb("retry", run, position, who, note)

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
        return self._verb("resolve", run, position, result, reject, who, note)

    async def skip(self, run: str, position: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        return self._verb("skip", run, position, who, note)

    async def failed(self, limit: int = 100) -> list[FailedView]:
        return self.parked[:limit]

    async def plans(self) -> list[PlanView]:
        return [
            PlanView(workflow="greet", digest=digest, style="orchestration", current=True, open_runs=2, created_at_ms=1)
            for digest in self.plan_texts
        ]

    async def retire(self, plan: str, *, who: str = "", note: str | None = None) -> Acknowledged:
        self.asked.append(("retire", plan, who, note))
        return Acknowledged(outcome="retired", message=f"{plan} is removed")

    async def plan(self, name: str) -> bytes:
        for digest, text in self.plan_texts.items():
            if name == "greet" or digest.startswith(name):
                return text
        raise NotFound(f"there is no plan {name!r}", plan=name)

    async def health(self) -> Health:
        return self.health_now

    def drain(self) -> None:
        self.health_now = msgspec.structs.replace(self.health_now, ready=False, draining=True)

    def change(self, run: str, **what: Any) -> None:
        """Put a run where a test wants it."""
        self.known[run] = msgspec.structs.replace(self.known[run], **what)

    def _run(self, run: str) -> RunView:
        if run not in self.known:
            raise NotFound(f"there is no run {run!r}", remedy="See: minuet runs", run=run)
        return self.known[run]

    def _verb(self, verb: str, run: str, *more: Any) -> Acknowledged:
        self._run(run)
        self.asked.append((verb, run, *more))
        return Acknowledged(outcome="accepted", message=f"{verb} is recorded")


def make_run(run: str, *, key: str, **more: Any) -> RunView:
    """Make a run of `greet` that has just begun."""
    given: dict[str, Any] = {
        "workflow": "greet",
        "digest": "7c1e03d591ab77c0",
        "style": "orchestration",
        "state": "running",
        "paused": False,
        "dirty": False,
        "started_at_ms": 1_750_000_000_000,
        "ended_at_ms": None,
        "facts": [
            FactView(
                seq=1,
                position="1",
                round="",
                label="ok",
                what="greeter.greet",
                owner="greeter",
                at_ms=1_750_000_000_120,
                value="hello",
                place="hello.py:12",
            )
        ],
    }
    return RunView(run=run, key=key, **{**given, **more})


def make_letter(letter: str, **more: Any) -> DeadLetterView:
    """Make a dead letter of `mail.tell`."""
    given: dict[str, Any] = {
        "subscription": "mail.tell",
        "event": "library.page-made",
        "version": 1,
        "key": "978",
        "source": "/catalogue",
        "message": "catalogue.make_page:1:0",
        "state": "dead",
        "reason": "exhausted",
        "error": "ConnectionError: no post today",
        "fingerprint": "2bafded7",
        "attempts": [FailedAttemptView(at_ms=1_750_000_000_500, error="ConnectionError: no post today")],
        "first_at_ms": 1_750_000_000_000,
        "last_at_ms": 1_750_000_000_500,
        "published_at_ms": 1_750_000_000_000,
        "hops": 1,
        "causes": ["library.book-added 978 (/outside, m-1)"],
        "data": {"isbn": "978"},
    }
    return DeadLetterView(id=letter, **{**given, **more})
