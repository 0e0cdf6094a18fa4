-- name: record_inbox
insert into minuet_inbox (
    source, message, event, version, key, body, state, run, position, round, received_at_ms, expires_at_ms
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: change_inbox
with change (state, run, position, round, source, message) as (
    values (?, ?, ?, ?, ?, ?)
)
update minuet_inbox
set state = change.state, run = change.run, position = change.position, round = change.round
from change
where
    minuet_inbox.source = change.source and minuet_inbox.message = change.message
    and minuet_inbox.state = 'kept';

-- name: find_event
select source, message, event, version, key, body, state, run, position, round, received_at_ms, expires_at_ms
from minuet_inbox
where source = :source and message = :message;

-- name: kept_events
select source, message, event, version, key, body, state, run, position, round, received_at_ms, expires_at_ms
from minuet_inbox
where event = :event and key = :key and state = 'kept'
order by arrival;

-- name: expired_events
select source, message, event, version, key, body, state, run, position, round, received_at_ms, expires_at_ms
from minuet_inbox
where state = 'kept' and expires_at_ms <= :until_ms
order by expires_at_ms
limit :limit;

-- name: parked_events
select source, message, event, version, key, body, state, run, position, round, received_at_ms, expires_at_ms
from minuet_inbox
where state = 'parked'
order by arrival
limit :limit;

-- name: forget_inbox
delete from minuet_inbox where run in (select value from json_each(:runs));
