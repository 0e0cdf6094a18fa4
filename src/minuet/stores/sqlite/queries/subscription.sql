-- name: record_subscriptions
insert into minuet_subscription (subscription, name, event, position, active, since_ms)
values (?, ?, ?, ?, ?, ?)
on conflict (subscription) do update
set event = excluded.event, position = excluded.position, active = excluded.active;

-- name: subscriptions
select subscription, name, event, position, active, since_ms from minuet_subscription order by subscription;
