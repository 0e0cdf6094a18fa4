-- name: record_subscriptions
insert into minuet_subscription (subscription, name, event, position, active, since_ms, began, also, late)
values (?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (subscription) do update
set
    event = excluded.event, position = excluded.position, active = excluded.active, began = excluded.began,
    also = excluded.also, late = excluded.late;

-- name: subscriptions
select subscription, name, event, position, active, since_ms, began, also, late
from minuet_subscription
order by subscription;
