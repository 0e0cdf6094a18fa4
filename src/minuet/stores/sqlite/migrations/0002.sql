-- What participants of other stores need: messages on their way, plans that are not known everywhere, and effects.

-- `home`: who observes the end of a run that ends elsewhere. Its key is unique there, and need not be here.
alter table minuet_run add column home text;

drop index minuet_run_open_key;
create unique index minuet_run_open_key on minuet_run (key, workflow)
where key is not null and load is not null and home is null;
create index minuet_run_home on minuet_run (run) where home is not null and load is not null;

-- Messages that the broker has not confirmed. `autoincrement`: they go, and an entry is never used again.
create table minuet_sending (
    entry integer primary key autoincrement,
    message text not null unique,
    topic text not null,
    envelope text not null
) strict;

-- The values that came with a fact.
create table minuet_carry (
    run integer not null,
    seq integer not null,
    carried text not null,
    primary key (run, seq)
) strict, without rowid;

-- Messages that cannot be taken yet, and why. `arrival` counts while they are kept.
create table minuet_early (
    arrival integer primary key,
    message text not null unique,
    digest text not null,
    topic text not null,
    envelope text not null,
    at_ms integer not null,
    reason text not null
) strict;

create index minuet_early_digest on minuet_early (digest, arrival);

create table minuet_activation (
    digest text not null,
    participant text not null,
    asked_at_ms integer not null,
    acknowledged_at_ms integer,
    primary key (digest, participant)
) strict, without rowid;

-- The key itself lets an action take effect once for a business key, until it is taken back.
create table minuet_effect (
    action text not null,
    key text not null,
    op_key text not null,
    causes text not null,
    arguments text not null,
    result text,
    at_ms integer not null,
    primary key (action, key)
) strict;
