-- name: record_facts
insert into minuet_fact (run, position, round, slot, label, value, seq, at_ms)
values (?, ?, ?, ?, ?, ?, ?, ?);

-- name: find_fact
select label, value
from minuet_fact
where run = :run and position = :position and round = :round and slot = :slot;

-- name: facts_of_run
select run, position, round, slot, label, value, seq, at_ms from minuet_fact where run = :run order by seq;

-- name: facts_of_runs
select run, position, round, slot, label, value, seq, at_ms
from minuet_fact
where run in (select value from json_each(:runs))
order by run, seq;

-- name: forget_facts
delete from minuet_fact where run in (select value from json_each(:runs));

-- name: record_carried
insert into minuet_carry (run, seq, carried)
values (?, ?, ?);

-- name: carried_of_run
select run, seq, carried from minuet_carry where run = :run order by seq;

-- name: carried_of_runs
select run, seq, carried
from minuet_carry
where run in (select value from json_each(:runs))
order by run, seq;

-- name: forget_carried
delete from minuet_carry where run in (select value from json_each(:runs));
