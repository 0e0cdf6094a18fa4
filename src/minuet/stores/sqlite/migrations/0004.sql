-- Owners, where several participants have one store open: leases of shards, and messages left for whoever owns one.
-- Brokers that may forget: what they have confirmed is kept for a while.

-- `owner`: null where nobody owns it. `epoch`: raised by each taking, never given twice. `until_ms`: by the clock of the
-- store.
create table minuet_lease (
    shard integer primary key,
    owner text,
    epoch integer not null,
    until_ms integer not null
) strict;

-- `arrival` counts while they are kept. `answer`: what the owner has said, for whoever left it and waits for that.
create table minuet_passed (
    arrival integer primary key,
    message text not null unique,
    shard integer not null,
    envelope text not null,
    at_ms integer not null,
    answer text
) strict;

-- When a broker confirmed it that may still forget it: then it is kept for a while, and sent again; null: not yet.
alter table minuet_sending add column confirmed_at_ms integer;

create index minuet_sending_open on minuet_sending (entry) where confirmed_at_ms is null;

create index minuet_passed_open on minuet_passed (shard, arrival) where answer is null;
