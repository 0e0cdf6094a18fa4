-- name: record_attempts
insert into minuet_attempt (
    run, position, round, direction, state, attempts, next_at_ms, first_at_ms, last_at_ms, error
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (run, position, round, direction) do update
set
    state = excluded.state, attempts = excluded.attempts, next_at_ms = excluded.next_at_ms,
    first_at_ms = excluded.first_at_ms, last_at_ms = excluded.last_at_ms, error = excluded.error;

-- name: remove_attempts
delete from minuet_attempt
where (run = ? and position = ? and round = ? and direction = ?);

-- name: attempts_of_run
select run, position, round, direction, state, attempts, next_at_ms, first_at_ms, last_at_ms, error
from minuet_attempt
where run = :run;

-- name: attempts_of_runs
select run, position, round, direction, state, attempts, next_at_ms, first_at_ms, last_at_ms, error
from minuet_attempt
where run in (select value from json_each(:runs))
order by run, position, round, direction;

-- name: attempts_due
select a.run, a.position, a.round, a.direction, a.state, a.attempts, a.next_at_ms, a.first_at_ms, a.last_at_ms, a.error
from minuet_attempt as a
inner join minuet_run as r on r.run = a.run
where a.state = 'waiting' and a.next_at_ms <= :until_ms and r.load = 0
order by a.next_at_ms
limit :limit;

-- name: attempts_due_of_shards
select a.run, a.position, a.round, a.direction, a.state, a.attempts, a.next_at_ms, a.first_at_ms, a.last_at_ms, a.error
from minuet_attempt as a
inner join minuet_run as r on r.run = a.run
where a.state = 'waiting' and a.next_at_ms <= :until_ms and r.load = 0 and a.run >> 13 & 255 in (select value from json_each(:shards))
order by a.next_at_ms
limit :limit;

-- name: parked_attempts
select
    r.run, r.workflow, r.digest, r.key, r.input, r.state, r.load, r.paused, r.dirty, r.reason, r.result,
    r.started_at_ms, r.ended_at_ms, r.home,
    a.run, a.position, a.round, a.direction, a.state, a.attempts, a.next_at_ms, a.first_at_ms, a.last_at_ms, a.error
from minuet_attempt as a
inner join minuet_run as r on r.run = a.run
where a.state = 'parked'
order by a.next_at_ms, a.run
limit :limit;

-- name: forget_attempts
delete from minuet_attempt where run in (select value from json_each(:runs));
