"""Looks at what runs wait for, learns how long that usually takes, and says once of each run that is late or stuck.

It stands beside everything else: it reads what is stored, every few seconds and in pages, decides nothing, and takes no
run into memory. What it keeps of an unfinished run is the instant at which to look at it again:

    ids of unfinished runs, a page a look ──new──▶ look at its facts ──▶ when it becomes late, at most an hour on
    runs that are in memory, and have moved ──────▶ sooner: ten seconds after they did

So a hundred thousand runs that only wait cost a walk over an index, and a few of them are read at a time. Where there
are more than are kept, the others are looked at in turn, whenever the walk comes by.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable, Sequence
from typing import Final

from minuet.engine import bound, decide, progress
from minuet.engine.decided import is_stuck
from minuet.engine.knowledge import Knowledge
from minuet.engine.port import RunFilter, StoredRun
from minuet.engine.program import Program
from minuet.engine.row import ENDED, Decision, EventRow, RunRow, RunState
from minuet.errors import StoreError
from minuet.ids import first_run, parse_round, run_text
from minuet.observe.usual import PAST_MS, Usuals, took
from minuet.runtime.alarm import (
    LATE,
    SOURCE,
    STUCK,
    Alarm,
    RunLate,
    RunStuck,
    alarm_name,
    alarm_row,
    identity,
    late_text,
)
from minuet.runtime.host import Host
from minuet.runtime.observer_usual import PAGE, RECENT, expectation, traced

log = logging.getLogger("minuet")

LOOK_EVERY_MS: Final = 5_000
QUIET_MS: Final = 20_000

AGAIN_MS: Final = 3_600_000
"""When a run is looked at again at the latest: it may have gone on, and been forgotten in memory since."""

UNKNOWN_AGAIN_MS: Final = 600_000
"""When a run is looked at again at the latest that waits for something of which nothing is known: it may be by then."""

GRACE_MS: Final = 30_000
"""After the start nothing is late so long: what stood still because the program did has to go on first."""

IDS: Final = 20_000
"""Ids of unfinished runs that are walked over in one look."""

RUNS: Final = 1_000
"""Runs whose facts are read in one look because it is time, and as many that were not looked at yet."""

KEPT: Final = 100_000
"""Unfinished runs of which is kept when to look at them again, about 25 MB."""

ALARMS: Final = 1_000
"""Alarms in one look: more says nothing more. The others follow with the next look."""

SAID: Final = 20_000
"""Alarms that are known without asking the store whether they were published."""

STUCK_RUNS: Final = 100
"""Runs that need a person that are looked at in one look, of each store."""

LEARNED: Final = 20
"""Runs that are learnt from in one look, of one workflow; and of those that have ended since they were looked at."""


class Observer:
    """The observer of a program. `host` has the trace of all runs: home, or whoever hears everything.

    `hosts` gives the participants of this program that decide something: they know of their own what is stuck.
    """

    def __init__(self, host: Host, hosts: Callable[[], Sequence[Host]]) -> None:
        self._host = host
        self._hosts = hosts
        self._participant = host.participant
        self._clock = host.participant.clock
        self._looking = asyncio.Lock()
        self._opened_ms = 0
        self._next: dict[int, tuple[int, int]] = {}  # an unfinished run -> when to look at it again, its last fact
        self._cursor = 0  # of the walk over unfinished runs
        self._stuck_cursor: dict[str, int | None] = {}
        self._stuck: dict[tuple[str, int], str] = {}  # what was said of runs that need a person
        self._said: dict[str, None] = {}
        self._learned: dict[int, int] = {}  # an unfinished run -> its facts that were learnt from
        self._learned_until: dict[str, int] = {}  # a workflow -> its runs that began before were learnt from
        self._room = 0  # for alarms, in this look
        self.usuals = Usuals()
        self.late: dict[int, None] = {}
        """Runs that were late when they were last looked at."""

    def open(self) -> None:
        """Begin, beside everything else."""
        self._opened_ms = self._clock.now_ms()
        self._participant.spawn(self._run())

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except StoreError as e:
                log.warning("the observer could not look at the runs: %s", e)
            except Exception:  # a mistake of ours about one look must not be the end of all
                log.exception("the observer could not look at the runs")
            await self._clock.sleep_ms(self._delay_ms())

    def _delay_ms(self) -> int:
        """Give when to look again: rarely where nothing becomes late soon, since what begins now does not either."""
        if self._cursor or not self._next:
            return LOOK_EVERY_MS if self._cursor else QUIET_MS
        soonest = min(at_ms for at_ms, _ in self._next.values()) - self._clock.now_ms()
        return max(LOOK_EVERY_MS, min(soonest, QUIET_MS))

    async def look(self) -> None:
        """Look once at what may be late or stuck, and at what can be learnt.

        Raises:
            StoreError: what was not looked at yet is looked at with the next look.
        """
        async with self._looking:
            if not self._learned_until:
                await self._learn_recent()
            self._room = ALARMS
            self._note_moved()
            new, ended = await self._walk(RUNS)
            await self._learn_ended(ended)
            await self._learn_newest()
            looked = self._due() + new
            for i in range(0, len(looked), PAGE):
                await self._examine(looked[i : i + PAGE])
                await self._clock.sleep_ms(0)
            await self._see_stuck()

    # Which runs to look at

    def _note_moved(self) -> None:
        """Look sooner at runs that have moved on: what they wait for now becomes late at another time."""
        for run, k in self._participant.runs.items():
            known = self._next.get(run)
            if known is not None and known[1] != k.seq:
                self._next[run] = (min(known[0], k.moved_at_ms + PAST_MS), k.seq)

    def _due(self) -> list[int]:
        now = self._clock.now_ms()
        due = (run for run, (at_ms, _) in self._next.items() if at_ms <= now)
        return heapq.nsmallest(RUNS, due, key=self._next.__getitem__)

    async def _walk(self, room: int) -> tuple[list[int], list[int]]:
        """Walk over the ids of unfinished runs; give those that were not looked at yet, and those that have ended."""
        after = self._cursor
        ids = await self._participant.store.unfinished_runs(after, IDS)
        is_whole = len(ids) < IDS
        beyond = first_run(self._clock.now_ms() - PAST_MS)  # nothing that began later can be late
        new: list[int] = []
        self._cursor = 0 if is_whole else ids[-1]
        for run in ids:
            if run >= beyond or len(new) >= room:
                self._cursor = 0 if run >= beyond else new[-1] if new else after
                break
            if run not in self._next:
                new.append(run)
        there = set(ids)
        ended = [r for r in self._next if r > after and r not in there and (is_whole or r <= ids[-1])]
        for run in ended:
            self._drop(run)
        return new, ended

    def _drop(self, run: int) -> None:
        self._next.pop(run, None)
        self.late.pop(run, None)

    # Late

    async def _examine(self, runs: list[int]) -> None:
        found = await self._participant.store.load_runs(runs)
        for gone in set(runs) - {stored.run.run for stored in found}:
            self._drop(gone)
        now = self._clock.now_ms()
        # What stood still with the program is listed, but nobody is called before it had the time to go on.
        calls_ms = self._opened_ms + GRACE_MS
        alarms: list[RunLate] = []
        for stored in found:
            run = stored.run.run
            if stored.run.state in ENDED:
                self._drop(run)
                continue
            again, late = self._late(stored, now)
            news = [alarm for alarm in late if self._is_news(alarm)] if now >= calls_ms else []
            said = news[: self._room - len(alarms)]
            alarms += said
            if late and now < calls_ms:
                again = min(again, calls_ms)
            elif len(said) < len(news):
                again = now
            if run in self._next or len(self._next) < KEPT:
                self._next[run] = (again, stored.facts[-1].seq if stored.facts else 0)
            self.late.pop(run, None)
            if late and len(self.late) < KEPT:
                self.late[run] = None
        for alarm in await self._publish(alarms, now):
            log.warning("run %s of %s, key %r, is late: %s", alarm.run, alarm.workflow, alarm.key, alarm.text)

    def _late(self, stored: StoredRun, now: int) -> tuple[int, list[RunLate]]:
        """Give when to look at a run again, and what of it is late."""
        row = stored.run
        k = self._understood(stored, self._participant.programs.get(row.digest))
        again, late = now + AGAIN_MS, list[RunLate]()
        for w in progress.waiting(k) if k is not None and not k.paused else ():
            usual, expected = expectation(self.usuals, row.workflow, w)
            if expected is None:
                continue
            if now <= expected:
                is_known = usual is not None or w.what == "timer"
                again = min(again, expected + 1, again if is_known else now + UNKNOWN_AGAIN_MS)
                continue
            late.append(
                RunLate(
                    run=run_text(row.run),
                    key=_key(row),
                    workflow=row.workflow,
                    position=w.position,
                    round=w.round,
                    what=w.what,
                    needs=w.needs,
                    owner=w.owner,
                    since_ms=w.since_ms,
                    expected_ms=expected,
                    usual_ms=usual.median_ms if usual is not None else None,
                    text=late_text(w.needs, w.owner, w.since_ms, expected),
                )
            )
        return again, late

    def _understood(self, stored: StoredRun, program: Program | None) -> Knowledge | None:
        """Fold a run from its rows, for a moment; None where that cannot be: then it is quarantined, or will be."""
        if program is None or stored.run.state == RunState.QUARANTINED:
            return None
        try:
            return decide.recall(program, stored, self._clock.now_ms()).knowledge
        except Exception as e:
            log.debug("run %s cannot be understood: %s", run_text(stored.run.run), e)
            return None

    # Stuck

    async def _see_stuck(self) -> None:
        """See what needs a person, wherever it was parked."""
        for host in self._hosts():
            which = RunFilter(
                states=(RunState.STUCK, RunState.QUARANTINED),
                before=self._stuck_cursor.get(host.address),
                limit=STUCK_RUNS,
            )
            rows = await host.store.list_runs(which)
            self._stuck_cursor[host.address] = rows[-1].run if len(rows) == STUCK_RUNS else None
            new = [row.run for row in rows if self._stuck.get((host.address, row.run)) != (row.reason or "")]
            for i in range(0, len(new), PAGE):
                for stored in await host.store.load_runs(new[i : i + PAGE]):
                    await self._say_stuck(host, stored)

    async def _say_stuck(self, host: Host, stored: StoredRun) -> None:
        row, now = stored.run, self._clock.now_ms()
        k = self._understood(stored, host.participant.programs.get(row.digest))
        alarms = [alarm for alarm in _stuck(row, k) if alarm_name(alarm) not in self._said]
        said = alarms[: self._room]
        for alarm in await self._publish(said, now):
            log.warning("run %s of %s, key %r, is stuck: %s", alarm.run, alarm.workflow, alarm.key, alarm.text)
        if len(said) < len(alarms):
            return  # the others with the next look
        if len(self._stuck) >= SAID:
            del self._stuck[next(iter(self._stuck))]
        self._stuck[host.address, row.run] = row.reason or ""

    # Saying so

    def _is_news(self, alarm: RunLate) -> bool:
        """Say whether an alarm is not known to have been published; what is known to be stuck is not late as well."""
        names = (identity(alarm.run, alarm.position, alarm.round, what) for what in (LATE, STUCK))
        return not any(name in self._said for name in names)

    async def _publish(self, alarms: Sequence[Alarm], now: int) -> list[Alarm]:
        """Publish what was not published before, and give it."""
        store, new = self._participant.store, list[tuple[Alarm, EventRow]]()
        for alarm in alarms:
            row = alarm_row(alarm, now)
            if await store.find_published(SOURCE, row.message) is None:
                new.append((alarm, row))
        if new:
            self._room -= len(new)
            await self._tell([row for _, row in new])
        for alarm in alarms:
            self._remember(alarm)
        return [alarm for alarm, _ in new]

    async def _tell(self, rows: list[EventRow]) -> None:
        """Record events, for whoever hears them here, and elsewhere."""
        participant, exchange = self._participant, self._host.exchange
        decision = Decision()
        messages = decision.ensure_messages()
        messages.outbox = rows
        decision.inbox = participant.kept_for_waits(rows)
        if exchange is not None:
            exchange.publish(decision, rows)
        await participant.record(decision)
        participant.inlet.wake(rows)
        for kept in decision.inbox:
            participant.matcher.look_at(kept.event, kept.key)
        if exchange is not None:
            exchange.send(messages.sending)

    def _remember(self, alarm: Alarm) -> None:
        if len(self._said) >= SAID:
            del self._said[next(iter(self._said))]
        self._said[alarm_name(alarm)] = None

    # Learning

    def _workflows(self) -> list[str]:
        return sorted({program.plan.workflow for program in self._participant.programs.values()})

    async def _learn_recent(self) -> None:
        now = self._clock.now_ms()
        for workflow in self._workflows():
            rows = await self._participant.store.list_runs(RunFilter(workflow=workflow, limit=RECENT))
            runs = [row.run for row in reversed(rows)]
            for i in range(0, len(runs), PAGE):
                await self._learn(runs[i : i + PAGE])
            self._learned_until[workflow] = now

    async def _learn_newest(self) -> None:
        """Learn from the newest runs of the workflow that was learnt of longest ago."""
        until = self._clock.now_ms() - PAST_MS
        workflow = min(self._workflows(), key=lambda w: self._learned_until.get(w, 0), default=None)
        if workflow is None or self._learned_until.get(workflow, 0) >= until:
            return
        since, self._learned_until[workflow] = self._learned_until.get(workflow, 0), until
        which = RunFilter(workflow=workflow, since_ms=since, before=first_run(until), limit=LEARNED)
        rows = await self._participant.store.list_runs(which)
        await self._learn([row.run for row in reversed(rows)])

    async def _learn_ended(self, ended: Sequence[int]) -> None:
        """Learn from some of the runs that were unfinished when they were looked at, and have ended since."""
        await self._learn(ended[:LEARNED])
        for run in ended[LEARNED:]:
            self._learned.pop(run, None)

    async def _learn(self, runs: Sequence[int]) -> None:
        if not runs:
            return
        for stored in await self._participant.store.load_runs(runs):
            row = stored.run
            if (program := self._participant.programs.get(row.digest)) is None:
                continue
            run = traced(stored)
            self.usuals.learn(took(program.plan, run, self._learned.pop(row.run, 0)))
            if row.state not in ENDED:
                if len(self._learned) >= SAID:
                    del self._learned[next(iter(self._learned))]
                self._learned[row.run] = len(run.facts)
            await self._clock.sleep_ms(0)


def _stuck(row: RunRow, k: Knowledge | None) -> list[RunStuck]:
    """Give an alarm for each place of a run that needs a person, or one for all of it."""
    if k is None:
        return [_alarm(row, "", "", "", "", row.started_at_ms, row.reason or "")]
    tried = {(a.rule.position, a.round) for a in k.pending.values() if is_stuck(a)}
    return [
        _alarm(row, w.position, w.round, w.needs, w.owner, w.since_ms, w.detail or row.reason or "")
        for w in progress.waiting(k)
        if w.what == "person" or (w.position, parse_round(w.round)) in tried
    ]


def _alarm(row: RunRow, position: str, round_: str, needs: str, owner: str, since_ms: int, reason: str) -> RunStuck:
    reason = reason[: bound.ERROR_CHARS]
    where = f"{position} {needs} of {owner}" if position else "the run"
    return RunStuck(
        run=run_text(row.run),
        key=_key(row),
        workflow=row.workflow,
        position=position,
        round=round_,
        needs=needs,
        owner=owner,
        since_ms=since_ms,
        reason=reason,
        text=f"{where} needs a person: {reason}",
    )


def _key(row: RunRow) -> str:
    return row.key if row.key is not None else run_text(row.run)
