"""Hot queries use the index that was made for them, whatever is in the tables."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

import minuet.stores.sqlite.store as sqlite_store
from minuet.stores.query import load_queries
from minuet.stores.sqlite.connection import open_writer
from minuet.stores.sqlite.rows import ROWS_MAX, RowWriter
from minuet.stores.sqlite.schema import open_schema

QUERIES = load_queries(Path(sqlite_store.__file__).parent / "queries")
INDEXED = {
    "load_run": "minuet_run USING INTEGER PRIMARY KEY",
    "load_runs": "minuet_run USING INTEGER PRIMARY KEY",
    "find_run": "minuet_run USING COVERING INDEX minuet_run_key (key=? AND workflow=?)",
    "find_run_of_any_workflow": "minuet_run USING COVERING INDEX minuet_run_key (key=?)",
    "newest_of_key": "minuet_run USING COVERING INDEX minuet_run_key (key=? AND workflow=?)",
    "find_open_run": "minuet_run USING INDEX minuet_run_open_key (key=? AND workflow=?)",
    "list_runs": "minuet_run USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
    "list_runs_of_workflow": "minuet_run USING INDEX minuet_run_workflow (workflow=? AND run>? AND run<?)",
    "list_runs_of_key": "minuet_run USING INDEX minuet_run_key (key=?",
    "list_paused_runs": "minuet_run USING INDEX minuet_run_paused (run>? AND run<?)",
    "list_runs_of_rare_states": "minuet_run USING INDEX minuet_run_state (state=?",
    "list_open_runs": "minuet_run USING INDEX minuet_run_load (load=? AND run>? AND run<?)",
    "count_runs": "minuet_run USING INDEX minuet_run_load",
    "open_digests": "minuet_run USING INDEX minuet_run_load",
    "runs_to_load": "minuet_run USING COVERING INDEX minuet_run_load (load=? AND run>?)",
    "unfinished_runs": "minuet_run USING COVERING INDEX minuet_run_load (load=? AND run>?)",
    "runs_to_load_of_shards": "minuet_run USING COVERING INDEX minuet_run_load (load=? AND run>?)",
    "unfinished_runs_of_shards": "minuet_run USING COVERING INDEX minuet_run_load (load=? AND run>?)",
    "runs_of_others": "minuet_run USING INDEX minuet_run_home (run>?)",
    "parked_runs": "minuet_run USING INDEX minuet_run_state (state=?)",
    "find_fact": "minuet_fact USING PRIMARY KEY (run=? AND position=? AND round=? AND slot=?)",
    "facts_of_run": "minuet_fact USING PRIMARY KEY (run=?)",
    "facts_of_runs": "minuet_fact USING PRIMARY KEY (run=?)",
    "carried_of_run": "minuet_carry USING PRIMARY KEY (run=?)",
    "carried_of_runs": "minuet_carry USING PRIMARY KEY (run=?)",
    "attempts_of_run": "minuet_attempt USING PRIMARY KEY (run=?)",
    "attempts_of_runs": "minuet_attempt USING PRIMARY KEY (run=?)",
    "attempts_due": "a USING INDEX minuet_attempt_state (state=? AND next_at_ms<?)",
    "attempts_due_of_shards": "a USING INDEX minuet_attempt_state (state=? AND next_at_ms<?)",
    "parked_attempts": "a USING INDEX minuet_attempt_state (state=?)",
    "timers_of_run": "minuet_timer USING PRIMARY KEY (run=?)",
    "timers_of_runs": "minuet_timer USING PRIMARY KEY (run=?)",
    "timers_due": "minuet_timer USING COVERING INDEX minuet_timer_due (due_at_ms<?)",
    "timers_due_of_shards": "minuet_timer USING COVERING INDEX minuet_timer_due (due_at_ms<?)",
    "waits_of_run": "minuet_wait USING PRIMARY KEY (run=?)",
    "waits_of_runs": "minuet_wait USING PRIMARY KEY (run=?)",
    "waits_for": "minuet_wait USING COVERING INDEX minuet_wait_event (event=? AND key=?)",
    "waits_for_of_shards": "minuet_wait USING COVERING INDEX minuet_wait_event (event=? AND key=?)",
    "keys_that_meet_of_shards": "kept USING INDEX minuet_inbox_kept (event=? AND key=?)",
    "keys_that_meet": "kept USING INDEX minuet_inbox_kept (event=? AND key=?)",
    "which_meet": "minuet_wait USING COVERING INDEX minuet_wait_event (event=? AND key=?)",
    "find_event": "minuet_inbox USING INDEX minuet_inbox_identity (source=? AND message=?)",
    "kept_events": "minuet_inbox USING INDEX minuet_inbox_kept (event=? AND key=?)",
    "expired_events": "minuet_inbox USING INDEX minuet_inbox_expiry (expires_at_ms<?)",
    "parked_events": "minuet_inbox USING INDEX minuet_inbox_parked",
    "events_after": "minuet_outbox USING INDEX minuet_outbox_event (event=? AND entry>?)",
    "log_after": "minuet_outbox USING INTEGER PRIMARY KEY (rowid>?)",
    "events_between": "minuet_outbox USING INDEX minuet_outbox_event (event=? AND entry>? AND entry<?)",
    "events_unapplied": "a USING PRIMARY KEY (subscription=? AND entry=?)",
    "newest_of": "minuet_outbox USING COVERING INDEX minuet_outbox_event (event=?)",
    "first_event_from": "minuet_outbox USING INTEGER PRIMARY KEY (rowid>?)",
    "find_published": "minuet_outbox USING INDEX minuet_outbox_identity (message=? AND source=?)",
    "find_published_of_any_source": "minuet_outbox USING INDEX minuet_outbox_identity (message=?)",
    "find_applied": "minuet_applied USING PRIMARY KEY (subscription=? AND entry=?)",
    "deliveries_due": "d USING INDEX minuet_delivery_due (subscription=? AND next_at_ms<?)",
    "next_delivery_due": "minuet_delivery USING INDEX minuet_delivery_due (subscription=?)",
    "deliveries_held": "d USING INDEX minuet_delivery_key (subscription=? AND key=?)",
    "deliveries_of": "d USING PRIMARY KEY (subscription=? AND entry=?)",
    "seen": "s USING PRIMARY KEY (subscription=? AND source=? AND key=?)",
    "published_by": "minuet_outbox USING INDEX minuet_outbox_identity (message>? AND message<?)",
    "previous_of": "p USING COVERING INDEX minuet_outbox_key (key=? AND event=? AND source=? AND entry<?)",
    "forget_discarded": "minuet_delivery USING INDEX minuet_delivery_entry (entry<?)",
    "sending": "minuet_sending USING INDEX minuet_sending_open (entry>?)",
    "confirmed": "minuet_sending USING INTEGER PRIMARY KEY (rowid>?)",
    "record_confirmed": "sqlite_autoindex_minuet_sending_1 (message=?)",
    "early": "minuet_early USING INDEX minuet_early_digest (digest=?)",
    "find_effect": "sqlite_autoindex_minuet_effect_1 (action=? AND key=?)",
    "passed": "minuet_passed USING INDEX minuet_passed_open (shard=?)",
    "answer_of": "sqlite_autoindex_minuet_passed_1 (message=?)",
    "epoch_of_shard": "minuet_lease USING INTEGER PRIMARY KEY",
    "claim_shard": "minuet_lease USING INTEGER PRIMARY KEY",
    "renew_lease": "minuet_lease USING INTEGER PRIMARY KEY",
    "give_back_lease": "minuet_lease USING INTEGER PRIMARY KEY",
    "forget_events": "d USING COVERING INDEX minuet_delivery_entry (entry=?)",
    "forget_runs": "minuet_run USING INTEGER PRIMARY KEY",
    "forget_facts": "minuet_fact USING PRIMARY KEY (run=?)",
    "forget_carried": "minuet_carry USING PRIMARY KEY (run=?)",
    "forget_attempts": "minuet_attempt USING PRIMARY KEY (run=?)",
    "forget_timers": "minuet_timer USING PRIMARY KEY (run=?)",
    "forget_waits": "minuet_wait USING PRIMARY KEY (run=?)",
    "forget_inbox": "minuet_inbox USING INDEX minuet_inbox_run (run=?)",
}
# Of many rows in one statement.
INDEXED_IN_CHUNKS = {
    "change_runs": "minuet_run USING INTEGER PRIMARY KEY",
    "change_inbox": "minuet_inbox USING INDEX minuet_inbox_identity (source=? AND message=?)",
    "remove_applied": "minuet_applied USING PRIMARY KEY (subscription=? AND entry<?)",
    "remove_attempts": "minuet_attempt USING PRIMARY KEY (run=? AND position=? AND round=? AND direction=?)",
    "remove_plans": "sqlite_autoindex_minuet_plan_1 (digest=?)",
    "remove_activations": "minuet_activation USING PRIMARY KEY (digest=?)",
    "remove_sent": "sqlite_autoindex_minuet_sending_1 (message=?)",
    "remove_early": "sqlite_autoindex_minuet_early_1 (message=?)",
    "remove_passed": "sqlite_autoindex_minuet_passed_1 (message=?)",
    "remove_effects": "sqlite_autoindex_minuet_effect_1 (action=? AND key=?)",
    "remove_timers": "minuet_timer USING PRIMARY KEY (run=? AND position=? AND round=? AND purpose=?)",
    "remove_waits": "minuet_wait USING PRIMARY KEY (run=? AND position=? AND round=? AND event=? AND key=?)",
}
# Small tables, or asked by a person or in the background: all others have their index above.
UNINDEXED = {
    "plans",
    "activations",
    "early_of_any_plan",
    "audit",
    "runs_to_forget",
    "subscriptions",
    "dead_letters",
    "deliveries_open",
    "deliveries_running",
    "deliveries_streamed",
    "free_shards",  # at most 256
    "owners",
}
# Either of two indexes serves, the key or that of the entry.
UNINDEXED |= {"remove_deliveries"}


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    connection = open_writer(None)
    open_schema(connection, QUERIES, "memory")
    yield connection
    connection.close()


def steps(connection: sqlite3.Connection, text: str) -> list[str]:
    marks = text.count("?")
    arguments = [1] * marks if marks else dict.fromkeys(re.findall(r":(\w+)", text), 1)
    return [row[3] for row in connection.execute(f"explain query plan {text}", arguments)]


@pytest.mark.parametrize("name", sorted(INDEXED))
def test_a_hot_query_uses_its_index(connection: sqlite3.Connection, name: str) -> None:
    found = steps(connection, QUERIES[name])
    assert any(INDEXED[name] in step for step in found), found
    assert [step for step in found if step.startswith("SCAN minuet_") and "USING" not in step] == []


@pytest.mark.parametrize("size", [1, 2, ROWS_MAX])
@pytest.mark.parametrize("name", sorted(INDEXED_IN_CHUNKS))
def test_a_change_of_many_rows_finds_each_by_its_key(connection: sqlite3.Connection, name: str, size: int) -> None:
    found = steps(connection, RowWriter(connection, QUERIES)._text(name, size))
    assert any(INDEXED_IN_CHUNKS[name] in step for step in found), found
    assert [step for step in found if step.startswith("SCAN minuet_")] == []


def test_no_query_of_our_tables_is_left_out() -> None:
    about = {name for name, text in QUERIES.items() if re.search(r"(from|update) minuet_(?!migration|store)", text)}
    assert about - set(INDEXED) - set(INDEXED_IN_CHUNKS) - UNINDEXED == set()


def test_a_run_of_three_steps_costs_few_rows(connection: sqlite3.Connection) -> None:
    """Nothing but the run, its facts, and what of a run is needed to find it again."""
    indexes = connection.execute("select name from sqlite_master where type = 'index' and tbl_name = 'minuet_fact'")
    assert [name for (name,) in indexes if not name.startswith("sqlite_autoindex")] == []
    # A plain run (no key, running, then completed) enters two indexes, and is found in one of them once it has ended.
    unconditional = connection.execute(
        "select name from sqlite_master where type = 'index' and tbl_name = 'minuet_run' and sql not like '%where%'"
    )
    assert [name for (name,) in unconditional] == ["minuet_run_workflow"]
