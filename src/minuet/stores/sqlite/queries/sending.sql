-- name: record_sending
insert into minuet_sending (entry, message, topic, envelope)
values (?, ?, ?, ?)
on conflict (message) do nothing;

-- name: remove_sent
delete from minuet_sending
where (message = ?);

-- name: sending
select entry, message, topic, envelope from minuet_sending
where confirmed_at_ms is null and entry > :after order by entry limit :limit;

-- name: record_confirmed
with confirmed (at_ms, message) as (
    values (?, ?)
)
update minuet_sending
set confirmed_at_ms = confirmed.at_ms
from confirmed
where minuet_sending.message = confirmed.message;

-- name: confirmed
select entry, message, topic, envelope from minuet_sending
where confirmed_at_ms <= :until and entry > :after order by entry limit :limit;
