-- name: record_timers
insert into minuet_timer (run, position, round, purpose, due_at_ms)
values (?, ?, ?, ?, ?)
on conflict (run, position, round, purpose) do update set due_at_ms = excluded.due_at_ms;

-- name: remove_timers
delete from minuet_timer
where (run = ? and position = ? and round = ? and purpose = ?);

-- name: timers_of_run
select run, position, round, purpose, due_at_ms from minuet_timer where run = :run;

-- name: timers_of_runs
select run, position, round, purpose, due_at_ms
from minuet_timer
where run in (select value from json_each(:runs))
order by run, position, round, purpose;

-- name: timers_due
select run, position, round, purpose, due_at_ms
from minuet_timer
where due_at_ms <= :until_ms
order by due_at_ms, run, position, round, purpose
limit :limit;

-- name: timers_due_of_shards
select run, position, round, purpose, due_at_ms
from minuet_timer
where due_at_ms <= :until_ms and run >> 13 & 255 in (select value from json_each(:shards))
order by due_at_ms, run, position, round, purpose
limit :limit;

-- name: forget_timers
delete from minuet_timer where run in (select value from json_each(:runs));
