"""Rows of decisions into tables: noun by noun, many rows a statement; and what a violated constraint means.

Form: one statement with many rows (`values (…), (…)`; for removals `(…) or (…)`), in chunks of powers of two so
that their texts stay few and prepared. Measured in a closed loop of 500 and 2,000 runs of W1 in flight, Python 3.11,
SQLite 3.40, an event loop thread that spends 5 or 20 µs of Python a decision, beside `executemany` (a call a row)
and one JSON array through `json_each` (a call a noun):

    switch interval, loop          executemany     values       array        (runs/s; CPU s per 1,000 runs)
    5 ms, lightly busy             29,200 0.031    30,700 0.030 22,000 0.043
    5 ms, busy                     10,500 0.090    11,500 0.085 11,200 0.101
    0.5 ms, lightly busy           30,000 0.032    34,000 0.030 35,000 0.041
    0.5 ms, busy                    9,900 0.101    11,700 0.098 12,700 0.108

So the array wins a tenth beside a busy loop with a short interval, and loses a quarter elsewhere; `values` is never
far from the best, costs the least, and binds text as it is.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any

from minuet.engine.row import (
    Decision,
    EffectRow,
    FactRow,
    InboxRow,
    InboxTaken,
    Messages,
    RunChange,
    RunRow,
    SeenRow,
)
from minuet.errors import Conflict, Contradiction, KeyConflict, MinuetError, SecondCause, StoreError
from minuet.ids import run_text

ROWS_MAX = 128  # a statement; more gain nothing
# What may be said twice within a group: the last word counts, and one statement may not say two.
_UPSERTS = frozenset({"record_subscriptions", "record_deliveries", "record_activations"})
# What changes rows as long as they are as they were read: each change has to find its row, or somebody was quicker.
_CONDITIONAL = frozenset({"change_inbox"})
# The part of a statement that is repeated for each row.
_ROW = re.compile(r"\([^()]*\?[^()]*\)")
# Nouns in the order in which they are written, each with its statement.
_NOUNS = (
    ("plans", "record_plans"),
    ("runs", "record_runs"),
    ("facts", "record_facts"),
    ("attempts", "record_attempts"),
    ("timers", "record_timers"),
    ("waits", "record_waits"),
    ("inbox", "record_inbox"),
    ("inbox_taken", "change_inbox"),
    ("audit", "record_audit"),
    ("changes", "change_runs"),
    ("attempts_done", "remove_attempts"),
    ("timers_done", "remove_timers"),
    ("waits_done", "remove_waits"),
)
# Of the few decisions that are about plans and who is to know them, likewise.
_RARE_NOUNS = (
    ("activations", "record_activations"),
    ("plans_done", "remove_activations"),
    ("plans_done", "remove_plans"),
)
# Nouns of `Messages`, likewise.
_MESSAGES = (
    ("outbox", "record_outbox"),
    ("subscriptions", "record_subscriptions"),
    ("applied", "record_applied"),
    ("applied_until", "remove_applied"),
    ("deliveries", "record_deliveries"),
    ("deliveries_done", "remove_deliveries"),
    ("sending", "record_sending"),
    ("carried", "record_carried"),
    ("early", "record_early"),
    ("effects", "record_effects"),
    ("passed", "record_passed"),
    ("confirmed", "record_confirmed"),
    ("sent", "remove_sent"),
    ("early_done", "remove_early"),
    ("passed_done", "remove_passed"),
    ("effects_done", "remove_effects"),
    ("seen", "record_seen"),
)
_MESSAGE_READERS = tuple((attrgetter(noun), query) for noun, query in _MESSAGES)
_RARE_READERS = tuple((attrgetter(noun), query) for noun, query in _RARE_NOUNS)
_READERS = tuple((noun, attrgetter(noun), query) for noun, query in _NOUNS)


class ChangedMeanwhile(sqlite3.IntegrityError):
    """A row is not as it was read: to a group it is a violated constraint, as if the database had said so."""


class RowWriter:
    """Writes the rows of decisions through one connection, within whatever transaction it is in."""

    def __init__(self, connection: sqlite3.Connection, queries: Mapping[str, str]) -> None:
        self._connection = connection
        self._queries = queries
        self._texts: dict[tuple[str, int], str] = {}

    def write(self, decisions: Sequence[Decision]) -> None:
        """Write the rows of all decisions, noun by noun.

        Raises:
            sqlite3.Error: some of them cannot be written; the caller undoes all of it.
        """
        rare = [decision for decision in decisions if decision.plans_done or decision.activations]
        if rare and len(decisions) > 1:  # a plan may go and come again: only one after another is that in order
            for decision in decisions:
                self.write([decision])
            return
        for noun, rows_of, query in _READERS:
            if len(decisions) == 1:
                rows = rows_of(decisions[0])
            else:
                rows = list(chain.from_iterable(filter(None, map(rows_of, decisions))))
            if not rows:
                continue
            if noun == "changes" and len(rows) > 1:
                rows = _last_changes(rows)
            self._execute(query, rows)
        messages = [decision.messages for decision in decisions if decision.messages is not None]
        if messages:
            for rows_of, query in _MESSAGE_READERS:
                rows = list(chain.from_iterable(filter(None, map(rows_of, messages))))
                if rows:
                    if query == "record_seen":
                        rows = _farthest(rows)
                    self._execute(query, _last_rows(rows) if query in _UPSERTS else rows)
        for decision in rare:
            for rows_of, query in _RARE_READERS:
                rows = rows_of(decision)
                if rows:
                    self._execute(query, _last_rows(rows) if query in _UPSERTS else rows)

    def refuse_second(self, decision: Decision) -> None:
        """See that the run that begins is the one that its key names; where several may begin one at once.

        Raises:
            KeyConflict: another one has begun meanwhile, and may have ended.
        """
        for row in decision.runs if decision.after is not None else ():
            (newest,) = self._one("newest_of_key", key=row.key, workflow=row.workflow) or (0,)
            if newest not in (decision.after, row.run):
                raise _key_conflict(row, newest)

    def unknown_part(self, decision: Decision) -> Decision:
        """Give what is still to be written of a decision: a run, fact, event or effect that is there is no news.

        Raises:
            Contradiction: a fact denies a recorded one, or a run id stands for another run.
            KeyConflict: an unfinished run of this workflow has the key.
            Conflict: the event was received before, and became something else; or it was applied before; or
                something else took it.
            SecondCause: something else had this effect.
        """
        if decision.messages is not None:
            self._refuse_applied(decision.messages)
        part = Decision(decision.run, decision.token)
        part.fence = decision.fence
        for noun, _ in (*_NOUNS, *_RARE_NOUNS):
            setattr(part, noun, getattr(decision, noun))
        part.runs = [row for row in _distinct(decision.runs) if self._is_new_run(row)]
        part.facts = [row for row in _distinct(decision.facts) if self._is_new_fact(row)]
        part.inbox = [row for row in _distinct(decision.inbox) if self._is_new_event(row)]
        part.inbox_taken = [row for row in _distinct(decision.inbox_taken) if self._is_new_taking(row)]
        if decision.messages is not None:
            left_out = {(row.run, row.seq) for row in decision.facts} - {(row.run, row.seq) for row in part.facts}
            part.messages = self._unknown_messages(decision.messages, left_out)
        return part

    def _unknown_messages(self, messages: Messages, facts_left_out: Container[tuple[int, int]]) -> Messages:
        part = Messages()
        for noun, _ in _MESSAGES:
            setattr(part, noun, getattr(messages, noun))
        # What is carried goes by the `seq` of its fact, which is free for another one if the fact is left out.
        part.carried = [row for row in messages.carried if (row.run, row.seq) not in facts_left_out]
        part.effects = self._new_effects(messages.effects)
        return part

    def _execute(self, query: str, rows: Sequence[tuple[Any, ...]]) -> None:
        start, size, left = 0, ROWS_MAX, len(rows)
        while left:
            while size > left:
                size >>= 1
            text = self._texts.get((query, size)) or self._text(query, size)
            self._connection.execute(text, list(chain.from_iterable(rows[start : start + size])))
            if query in _CONDITIONAL and self._one("rows_changed") != (size,):
                raise ChangedMeanwhile(f"{query}: not every row is as it was read")
            start += size
            left -= size

    def _text(self, query: str, size: int) -> str:
        text = self._queries[query]
        found = _ROW.search(text)
        assert found, f"{query} has no row to repeat"
        row = found[0]
        between = " or " if " = ?" in row else ", "
        text = text[: found.start()] + between.join([row] * size) + text[found.end() :]
        self._texts[query, size] = text
        return text

    def _one(self, query: str, **arguments: Any) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._connection.execute(self._queries[query], arguments).fetchone()
        return row

    def _is_new_run(self, row: RunRow) -> bool:
        found = self._one("load_run", run=row.run)
        if found is not None:
            known = RunRow._make(found)
            begun = attrgetter("workflow", "digest", "key", "input", "home")
            if begun(known) == begun(row):
                return False
            raise Contradiction(
                f"run {run_text(row.run)} is recorded with another workflow, key, input or home",
                remedy="Run ids are never used again; look for a second source of them",
                run=row.run,
            )
        if row.key is not None and row.load is not None and row.home is None:
            other = self._one("find_open_run", key=row.key, workflow=row.workflow)
            if other is not None:
                raise _key_conflict(row, other[0])
        return True

    def _is_new_fact(self, row: FactRow) -> bool:
        known = self._one("find_fact", run=row.run, position=row.position, round=row.round, slot=row.slot)
        if known is None:
            return True
        if known == (row.label, row.value):
            return False
        raise contradiction(row, known[0], known[1])

    def _refuse_applied(self, messages: Messages) -> None:
        for key in messages.applied:
            if self._one("find_applied", subscription=key.subscription, entry=key.entry) is not None:
                raise Conflict(
                    f"entry {key.entry} was applied before by subscription {key.subscription}",
                    remedy="Nothing is to be done: it is applied once",
                    applied=key.entry,
                )

    def _new_effects(self, rows: Iterable[EffectRow]) -> list[EffectRow]:
        new = dict[tuple[str, str], EffectRow]()
        for row in rows:
            known = new.get((row.action, row.key))
            if known is None:
                found = self._one("find_effect", action=row.action, key=row.key)
                if found is None:
                    new[row.action, row.key] = row
                    continue
                known = EffectRow._make(found)
            if known.op_key != row.op_key:
                raise second_cause(row, known)
        return list(new.values())

    def _is_new_event(self, row: InboxRow) -> bool:
        found = self._one("find_event", source=row.source, message=row.message)
        if found is None:
            return True
        known = InboxRow._make(found)
        content = attrgetter("event", "version", "key", "body", "state", "run", "position", "round")
        if content(known) == content(row):
            return False
        raise Conflict(
            f"event {row.message} of {row.source} was received before and is {known.state}",
            remedy="Nothing is to be done: it is taken once",
            source=row.source,
            message_id=row.message,
        )

    def _is_new_taking(self, row: InboxTaken) -> bool:
        found = self._one("find_event", source=row.source, message=row.message)
        known = InboxRow._make(found) if found is not None else None
        if known is not None and known.state == "kept":
            return True
        outcome = attrgetter("state", "run", "position", "round")
        if known is not None and outcome(known) == outcome(row):
            return False
        raise Conflict(
            f"event {row.message} of {row.source} is {known.state if known is not None else 'gone'}, "
            f"so it cannot be {row.state}",
            remedy="Nothing is to be done: it is taken once, and whoever wants one waits for the next",
            source=row.source,
            message_id=row.message,
        )


def contradiction(row: FactRow, label: str, value: str | None) -> Contradiction:
    """Say that a fact denies a recorded one."""
    what = f"{row.label!r}" if label != row.label else f"{row.label!r} with another value"
    return Contradiction(
        f"position {row.position} of run {run_text(row.run)} has the outcome {label!r}, so {what} cannot be recorded",
        remedy="What was recorded first stands; look for what answered twice",
        run=row.run,
        position=row.position,
        round=row.round,
        recorded={"label": label, "value": value},
        refused={"label": row.label, "value": row.value},
    )


def second_cause(row: EffectRow, known: EffectRow) -> SecondCause:
    """Say that an action took effect for a business key already."""
    return SecondCause(
        f"{row.action} took effect for {row.key!r} already, by {known.op_key}, and {row.op_key} causes it again",
        remedy="Drop one of the two causes, or give them different keys",
        action=row.action,
        key=row.key,
        recorded={"op_key": known.op_key, "causes": known.causes},
        refused={"op_key": row.op_key, "causes": row.causes},
    )


def refusal(error: Exception, decision: Decision) -> MinuetError:
    """Say that rows of a decision cannot be stored at all: a wrong type, a number or a text that no column takes."""
    return StoreError(
        f"a decision of run {run_text(decision.run)} cannot be stored: {error}",
        remedy="This is a mistake in Minuet or in what encoded a value; please report it",
        run=decision.run,
    )


def _key_conflict(row: RunRow, other: int) -> KeyConflict:
    return KeyConflict(
        f"key {row.key!r} of {row.workflow} names run {run_text(other)}",
        remedy="Use another key, or wait until that run has ended",
        run=other,
        key=row.key,
        workflow=row.workflow,
    )


def _distinct(rows: Iterable[Any]) -> list[Any]:
    """Leave out repetitions of a row within one decision."""
    return list(dict.fromkeys(rows))


def _last_changes(rows: Iterable[RunChange]) -> list[RunChange]:
    """Keep the last change of each run: a change says everything that may change, and one statement may not say two."""
    return list({row.run: row for row in rows}.values())


def _farthest(rows: Iterable[SeenRow]) -> list[SeenRow]:
    """Keep the largest number of each stream."""
    return list({row[:3]: row for row in sorted(rows)}.values())


def _last_rows(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Keep the last word on each key: a subscription has one column of it, a delivery or activation two."""
    return list({(row[0], row[1]): row for row in rows}.values())
