-- name: record_runs
insert into minuet_run (
    run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?);

-- name: change_runs
with change (state, load, paused, dirty, reason, result, ended_at_ms, run) as (
    values (?, ?, ?, ?, ?, ?, ?, ?)
)
update minuet_run
set
    state = change.state, load = change.load, paused = change.paused, dirty = change.dirty,
    reason = change.reason, result = change.result, ended_at_ms = change.ended_at_ms
from change
where minuet_run.run = change.run;

-- name: load_run
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where run = :run;

-- name: load_runs
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where run in (select value from json_each(:runs));

-- name: find_run
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where run = (select max(run) from minuet_run where key = :key and workflow = :workflow);

-- name: find_run_of_any_workflow
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where run = (select max(run) from minuet_run where key = :key);

-- name: newest_of_key
select coalesce(max(run), 0) from minuet_run where key = :key and workflow = :workflow;

-- name: find_open_run
select run
from minuet_run
where key = :key and workflow = :workflow and load is not null and home is null;

-- name: list_runs
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where
    run >= :since and run < :before
    and (:states is null or state in (select value from json_each(:states)))
    and (:paused is null or paused = :paused)
order by run desc
limit :limit;

-- name: list_runs_of_workflow
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where
    workflow = :workflow and run >= :since and run < :before
    and (:states is null or state in (select value from json_each(:states)))
    and (:paused is null or paused = :paused)
order by run desc
limit :limit;

-- name: list_runs_of_key
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where
    key = :key and run >= :since and run < :before
    and (:workflow is null or workflow = :workflow)
    and (:states is null or state in (select value from json_each(:states)))
    and (:paused is null or paused = :paused)
order by run desc
limit :limit;

-- name: list_paused_runs
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where
    paused = 1 and run >= :since and run < :before
    and (:workflow is null or workflow = :workflow)
    and (:states is null or state in (select value from json_each(:states)))
order by run desc
limit :limit;

-- name: list_runs_of_rare_states
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where
    state in (select value from json_each(:states)) and state not in ('running', 'completed')
    and run >= :since and run < :before
    and (:workflow is null or workflow = :workflow)
    and (:paused is null or paused = :paused)
order by run desc
limit :limit;

-- name: list_open_runs
select * from (
    select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
    from minuet_run
    where
        load = 0 and run >= :since and run < :before
        and (:workflow is null or workflow = :workflow)
        and state in (select value from json_each(:states))
        and (:paused is null or paused = :paused)
    order by run desc
    limit :limit
)
union all
select * from (
    select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
    from minuet_run
    where
        load = 1 and run >= :since and run < :before
        and (:workflow is null or workflow = :workflow)
        and state in (select value from json_each(:states))
        and (:paused is null or paused = :paused)
    order by run desc
    limit :limit
)
order by run desc
limit :limit;

-- name: count_runs
select workflow, state, count(*) from minuet_run indexed by minuet_run_load where load is not null group by workflow, state;

-- name: open_digests
select digest, count(*) from minuet_run indexed by minuet_run_load where load is not null group by digest;

-- name: runs_to_load
select run from minuet_run where load = 1 and run > :after order by run limit :limit;

-- name: runs_to_load_of_shards
select run
from minuet_run
where load = 1 and run > :after and run >> 13 & 255 in (select value from json_each(:shards))
order by run
limit :limit;

-- name: unfinished_runs
select * from (select run from minuet_run where load = 0 and run > :after order by run limit :limit)
union all
select * from (select run from minuet_run where load = 1 and run > :after order by run limit :limit)
order by run
limit :limit;

-- name: unfinished_runs_of_shards
select * from (
    select run
    from minuet_run
    where load = 0 and run > :after and run >> 13 & 255 in (select value from json_each(:shards))
    order by run
    limit :limit
)
union all
select * from (
    select run
    from minuet_run
    where load = 1 and run > :after and run >> 13 & 255 in (select value from json_each(:shards))
    order by run
    limit :limit
)
order by run
limit :limit;

-- name: runs_of_others
select run, home
from minuet_run
where home is not null and load is not null and run > :after
order by run
limit :limit;

-- name: parked_runs
select run, workflow, digest, key, input, state, load, paused, dirty, reason, result, started_at_ms, ended_at_ms, home
from minuet_run
where
    state in ('quarantined', 'stuck')
    and state not in ('running', 'completed')
    and not exists (
        select 1
        from minuet_attempt
        where minuet_attempt.run = minuet_run.run and minuet_attempt.state = 'parked'
    )
order by run
limit :limit;

-- name: runs_to_forget
select run from minuet_run where load is null and ended_at_ms < :ended_before_ms order by run limit :limit;

-- name: forget_runs
delete from minuet_run where run in (select value from json_each(:runs));
