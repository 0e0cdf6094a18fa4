-- The tables of release 1. Names begin with minuet_, since users keep their own tables in the same file.
-- Column order is the order of the rows in engine/row.py, which are bound as they are.

create table minuet_store (
    name text not null primary key,
    value text not null
) strict, without rowid;

create table minuet_plan (
    digest text not null primary key,
    workflow text not null,
    body text not null,
    created_at_ms integer not null
) strict;

-- Run ids grow with time, so the rows of the runs in flight lie together at the hot end.
create table minuet_run (
    run integer primary key,
    workflow text not null,
    digest text not null,
    key text,
    input text,
    state text not null,
    load integer,
    paused integer not null,
    dirty integer not null,
    reason text,
    result text,
    started_at_ms integer not null,
    ended_at_ms integer
) strict;

-- Unfinished runs: found at start, counted, listed; costs nothing once a run has ended.
create index minuet_run_load on minuet_run (load, run) where load is not null;
-- One unfinished run a key: the reuse policy of the engine stands on it.
create unique index minuet_run_open_key on minuet_run (key, workflow) where key is not null and load is not null;
create index minuet_run_key on minuet_run (key, workflow, run) where key is not null;
create index minuet_run_workflow on minuet_run (workflow, run);
-- Most runs are running, then completed: they never touch these two.
create index minuet_run_state on minuet_run (state, run) where state not in ('running', 'completed');
create index minuet_run_paused on minuet_run (run) where paused = 1;

-- All outcomes share slot 0, so the key itself lets a position and round have one outcome.
create table minuet_fact (
    run integer not null,
    position text not null,
    round text not null,
    slot integer not null,
    label text not null,
    value text,
    seq integer not null,
    at_ms integer not null,
    primary key (run, position, round, slot)
) strict, without rowid;

create table minuet_attempt (
    run integer not null,
    position text not null,
    round text not null,
    direction text not null,
    state text not null,
    attempts integer not null,
    next_at_ms integer not null,
    first_at_ms integer not null,
    last_at_ms integer not null,
    error text,
    primary key (run, position, round, direction)
) strict, without rowid;

create index minuet_attempt_state on minuet_attempt (state, next_at_ms);

create table minuet_timer (
    run integer not null,
    position text not null,
    round text not null,
    purpose text not null,
    due_at_ms integer not null,
    primary key (run, position, round, purpose)
) strict, without rowid;

create index minuet_timer_due on minuet_timer (due_at_ms);

create table minuet_wait (
    event text not null,
    key text not null,
    run integer not null,
    position text not null,
    round text not null,
    since_ms integer not null,
    primary key (run, position, round, event, key)
) strict, without rowid;

create index minuet_wait_event on minuet_wait (event, key, since_ms);

-- `arrival` counts: an event that comes later has a larger one.
create table minuet_inbox (
    arrival integer primary key,
    source text not null,
    message text not null,
    event text not null,
    version integer not null,
    key text not null,
    body text not null,
    state text not null,
    run integer,
    position text,
    round text,
    received_at_ms integer not null,
    expires_at_ms integer not null
) strict;

create unique index minuet_inbox_identity on minuet_inbox (source, message);
create index minuet_inbox_kept on minuet_inbox (event, key) where state = 'kept';
create index minuet_inbox_expiry on minuet_inbox (expires_at_ms) where state = 'kept';
create index minuet_inbox_parked on minuet_inbox (arrival) where state = 'parked';
create index minuet_inbox_run on minuet_inbox (run) where run is not null;

-- Every published event, in the order of commits: one writer, so a larger `entry` was never committed earlier.
-- `autoincrement`: retention removes from the beginning, and an entry is never used again.
create table minuet_outbox (
    entry integer primary key autoincrement,
    source text not null,
    message text not null,
    event text not null,
    version integer not null,
    key text not null,
    body text not null,
    hops integer not null,
    causes text not null,
    time_ms integer not null,
    at_ms integer not null
) strict;

-- A message of a source is published once; causes are looked up by the message alone.
create unique index minuet_outbox_identity on minuet_outbox (message, source);
create index minuet_outbox_event on minuet_outbox (event, entry);

-- All entries up to `position` are applied, or have a delivery row. `active`: some reaction of the program has it.
create table minuet_subscription (
    subscription integer primary key,
    name text not null unique,
    event text not null,
    position integer not null,
    active integer not null,
    since_ms integer not null
) strict;

-- What a subscription has applied beyond its position; the key itself lets it be applied once.
create table minuet_applied (
    subscription integer not null,
    entry integer not null,
    primary key (subscription, entry)
) strict, without rowid;

-- What could not be applied at once: waiting, running, held, dead or skipped.
create table minuet_delivery (
    subscription integer not null,
    entry integer not null,
    key text not null,
    state text not null,
    attempts integer not null,
    next_at_ms integer not null,
    first_at_ms integer not null,
    last_at_ms integer not null,
    errors text not null,
    reason text,
    fingerprint text,
    body text,
    primary key (subscription, entry)
) strict, without rowid;

create index minuet_delivery_due on minuet_delivery (subscription, next_at_ms) where state = 'waiting';
create index minuet_delivery_key on minuet_delivery (subscription, key, entry) where state = 'held';
create index minuet_delivery_dead on minuet_delivery (last_at_ms) where state in ('dead', 'skipped');
create index minuet_delivery_entry on minuet_delivery (entry);

create table minuet_audit (
    entry integer primary key,
    at_ms integer not null,
    who text not null,
    verb text not null,
    subject text not null,
    outcome text not null,
    note text
) strict;
