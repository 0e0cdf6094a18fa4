-- name: record_outbox
insert into minuet_outbox (entry, source, message, event, version, key, body, hops, causes, time_ms, at_ms, sequence, previous)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (message, source) do nothing;

-- name: events_after
select entry, source, message, event, version, key, body, hops, causes, time_ms, at_ms, sequence, previous
from minuet_outbox
where event = :event and entry > :after
order by entry
limit :limit;

-- name: log_after
select entry, source, message, event, version, key, body, hops, causes, time_ms, at_ms, sequence, previous
from minuet_outbox
where entry > :after
order by entry
limit :limit;

-- name: events_between
select entry, source, message, event, version, key, body, hops, causes, time_ms, at_ms, sequence, previous
from minuet_outbox
where event = :event and entry between :first and :last
order by entry
limit :limit;

-- name: events_unapplied
select o.entry, o.source, o.message, o.event, o.version, o.key, o.body, o.hops, o.causes, o.time_ms, o.at_ms, o.sequence, o.previous
from minuet_outbox as o
where
    o.event = :event and o.entry > :after
    and not exists (select 1 from minuet_applied as a where a.subscription = :subscription and a.entry = o.entry)
    and not exists (select 1 from minuet_delivery as d where d.subscription = :subscription and d.entry = o.entry)
order by o.entry
limit :limit;

-- name: last_entry
select coalesce((select seq from sqlite_sequence where name = 'minuet_outbox'), 0);

-- name: newest_of
select max(entry) from minuet_outbox where event = :event;

-- name: first_event_from
select entry, at_ms from minuet_outbox where entry >= :entry order by entry limit 1;

-- name: find_published
select entry, source, message, event, version, key, body, hops, causes, time_ms, at_ms, sequence, previous
from minuet_outbox
where message = :message and source = :source;

-- name: find_published_of_any_source
select entry, source, message, event, version, key, body, hops, causes, time_ms, at_ms, sequence, previous
from minuet_outbox
where message = :message
order by entry
limit 1;

-- name: published_by
select entry, source, message, event, version, key, body, hops, causes, time_ms, at_ms, sequence, previous
from minuet_outbox
where message >= :first and message < :beyond
order by entry;

-- name: previous_of
select coalesce(
    (
        select max(p.entry)
        from minuet_outbox as p
        where p.key = o.key and p.event = o.event and p.source = o.source and p.entry < o.entry
    ),
    0
)
from json_each(:entries) as given
left join minuet_outbox as o on o.entry = given.value
order by given.key;

-- name: forget_events
delete from minuet_outbox
where entry in (
    select o.entry
    from minuet_outbox as o
    where
        o.entry <= :until
        and not exists (
            select 1
            from minuet_subscription as s
            where (s.event = o.event or s.also = o.event) and s.active = 1 and s.position < o.entry
        )
        and not exists (select 1 from minuet_delivery as d where d.entry = o.entry)
    order by o.entry
    limit :limit
);

-- name: forget_discarded
delete from minuet_delivery where entry <= :until and state = 'discarded';
