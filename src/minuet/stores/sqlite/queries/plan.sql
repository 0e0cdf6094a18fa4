-- name: record_plans
insert into minuet_plan (digest, workflow, body, created_at_ms)
values (?, ?, ?, ?)
on conflict do nothing;

-- name: plans
select digest, workflow, body, created_at_ms from minuet_plan order by created_at_ms, digest;
