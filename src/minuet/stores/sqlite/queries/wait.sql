-- name: record_waits
insert into minuet_wait (event, key, run, position, round, since_ms)
values (?, ?, ?, ?, ?, ?)
on conflict do nothing;

-- name: remove_waits
delete from minuet_wait
where (event = ? and key = ? and run = ? and position = ? and round = ?);

-- name: waits_of_run
select event, key, run, position, round, since_ms from minuet_wait where run = :run;

-- name: waits_of_runs
select event, key, run, position, round, since_ms
from minuet_wait
where run in (select value from json_each(:runs))
order by run, position, round, event, key;

-- name: waits_for
select event, key, run, position, round, since_ms
from minuet_wait
where event = :event and key = :key
order by since_ms, run, position, round;

-- name: waits_for_of_shards
select event, key, run, position, round, since_ms
from minuet_wait
where event = :event and key = :key and run >> 13 & 255 in (select value from json_each(:shards))
order by since_ms, run, position, round;

-- name: keys_that_meet
select distinct event, key
from minuet_wait
where
    (event, key) > (:event, :key)
    and exists (
        select 1
        from minuet_inbox as kept
        where kept.event = minuet_wait.event and kept.key = minuet_wait.key and kept.state = 'kept'
    )
order by event, key
limit :limit;

-- name: keys_that_meet_of_shards
select distinct event, key
from minuet_wait
where
    (event, key) > (:event, :key)
    and run >> 13 & 255 in (select value from json_each(:shards))
    and exists (
        select 1
        from minuet_inbox as kept
        where kept.event = minuet_wait.event and kept.key = minuet_wait.key and kept.state = 'kept'
    )
order by event, key
limit :limit;

-- name: which_meet
with asked as materialized (
    select json_extract(value, '$[0]') as event, json_extract(value, '$[1]') as key from json_each(:keys)
)
select event, key
from asked
where
    exists (select 1 from minuet_wait where minuet_wait.event = asked.event and minuet_wait.key = asked.key)
    and exists (
        select 1
        from minuet_inbox as kept
        where kept.event = asked.event and kept.key = asked.key and kept.state = 'kept'
    );

-- name: forget_waits
delete from minuet_wait where run in (select value from json_each(:runs));
