-- name: record_applied
insert into minuet_applied (subscription, entry)
values (?, ?);

-- name: remove_applied
delete from minuet_applied
where (subscription = ? and entry <= ?);

-- name: find_applied
select 1 from minuet_applied where subscription = :subscription and entry = :entry;

-- name: record_deliveries
insert into minuet_delivery (
    subscription, entry, key, state, attempts, next_at_ms, first_at_ms, last_at_ms, errors, reason, fingerprint, body
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (subscription, entry) do update
set
    state = excluded.state, attempts = excluded.attempts, next_at_ms = excluded.next_at_ms,
    first_at_ms = excluded.first_at_ms, last_at_ms = excluded.last_at_ms, errors = excluded.errors,
    reason = excluded.reason, fingerprint = excluded.fingerprint, body = excluded.body;

-- name: remove_deliveries
delete from minuet_delivery
where (subscription = ? and entry = ?);

-- name: deliveries_due
select
    d.subscription, d.entry, d.key, d.state, d.attempts, d.next_at_ms, d.first_at_ms, d.last_at_ms, d.errors, d.reason, d.fingerprint, d.body,
    o.entry, o.source, o.message, o.event, o.version, o.key, o.body, o.hops, o.causes, o.time_ms, o.at_ms, o.sequence, o.previous,
    s.name
from minuet_delivery as d indexed by minuet_delivery_due
inner join minuet_outbox as o on o.entry = d.entry
inner join minuet_subscription as s on s.subscription = d.subscription
where d.subscription = :subscription and d.state = 'waiting' and d.next_at_ms <= :until_ms
order by d.next_at_ms, d.entry
limit :limit;

-- name: next_delivery_due
select min(next_at_ms) from minuet_delivery where subscription = :subscription and state = 'waiting';

-- name: deliveries_held
select
    d.subscription, d.entry, d.key, d.state, d.attempts, d.next_at_ms, d.first_at_ms, d.last_at_ms, d.errors, d.reason, d.fingerprint, d.body,
    o.entry, o.source, o.message, o.event, o.version, o.key, o.body, o.hops, o.causes, o.time_ms, o.at_ms, o.sequence, o.previous,
    s.name
from minuet_delivery as d indexed by minuet_delivery_key
inner join minuet_outbox as o on o.entry = d.entry
inner join minuet_subscription as s on s.subscription = d.subscription
where d.subscription = :subscription and d.key = :key and d.state = 'held'
order by d.entry
limit :limit;

-- name: deliveries_open
select key, entry, state from minuet_delivery where subscription = :subscription and state in ('waiting', 'running', 'dead')
union all
select key, min(entry), 'held' from minuet_delivery where subscription = :subscription and state = 'held' group by key;

-- name: deliveries_running
select
    d.subscription, d.entry, d.key, d.state, d.attempts, d.next_at_ms, d.first_at_ms, d.last_at_ms, d.errors, d.reason, d.fingerprint, d.body,
    o.entry, o.source, o.message, o.event, o.version, o.key, o.body, o.hops, o.causes, o.time_ms, o.at_ms, o.sequence, o.previous,
    s.name
from minuet_delivery as d
inner join minuet_outbox as o on o.entry = d.entry
inner join minuet_subscription as s on s.subscription = d.subscription
where d.subscription = :subscription and d.state = 'running'
order by d.entry
limit :limit;

-- name: dead_letters
select
    d.subscription, d.entry, d.key, d.state, d.attempts, d.next_at_ms, d.first_at_ms, d.last_at_ms, d.errors, d.reason, d.fingerprint, d.body,
    o.entry, o.source, o.message, o.event, o.version, o.key, o.body, o.hops, o.causes, o.time_ms, o.at_ms, o.sequence, o.previous,
    s.name
from minuet_delivery as d
inner join minuet_outbox as o on o.entry = d.entry
inner join minuet_subscription as s on s.subscription = d.subscription
where
    d.state in ('dead', 'skipped')
    and (:name is null or s.name = :name)
    and (:entry is null or d.entry = :entry)
    and (:reason is null or d.reason = :reason)
    and (:fingerprint is null or d.fingerprint = :fingerprint)
    and (d.last_at_ms, d.subscription, d.entry) > (:after_ms, :after_subscription, :after_entry)
order by d.last_at_ms, d.subscription, d.entry
limit :limit;

-- name: deliveries_of
select
    d.subscription, d.entry, d.key, d.state, d.attempts, d.next_at_ms, d.first_at_ms, d.last_at_ms, d.errors, d.reason, d.fingerprint, d.body,
    o.entry, o.source, o.message, o.event, o.version, o.key, o.body, o.hops, o.causes, o.time_ms, o.at_ms, o.sequence, o.previous,
    s.name
from minuet_delivery as d
inner join minuet_outbox as o on o.entry = d.entry
inner join minuet_subscription as s on s.subscription = d.subscription
where d.subscription = :subscription and d.entry in (select value from json_each(:entries));

-- name: deliveries_streamed
select d.entry, d.key, d.state, d.reason, d.first_at_ms, o.source, o.event, o.key, o.sequence, o.previous
from minuet_delivery as d
inner join minuet_outbox as o on o.entry = d.entry
where d.subscription = :subscription and o.sequence is not null
order by d.entry;

-- name: record_seen
insert into minuet_seen (subscription, source, key, sequence)
values (?, ?, ?, ?)
on conflict (subscription, source, key) do update
set sequence = max(sequence, excluded.sequence);

-- name: seen
select s.source, s.key, s.sequence
from json_each(:streams) as given
cross join minuet_seen as s
where
    s.subscription = :subscription
    and s.source = json_extract(given.value, '$[0]') and s.key = json_extract(given.value, '$[1]');
