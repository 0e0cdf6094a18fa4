-- name: record_plans
insert into minuet_plan (digest, workflow, body, created_at_ms)
values (?, ?, ?, ?)
on conflict do nothing;

-- name: plans
select digest, workflow, body, created_at_ms from minuet_plan order by created_at_ms, digest;

-- name: remove_plans
delete from minuet_plan
where (digest = ?);

-- name: record_activations
insert into minuet_activation (digest, participant, asked_at_ms, acknowledged_at_ms)
values (?, ?, ?, ?)
on conflict (digest, participant) do update
set asked_at_ms = excluded.asked_at_ms, acknowledged_at_ms = excluded.acknowledged_at_ms;

-- name: remove_activations
delete from minuet_activation
where (digest = ?);

-- name: activations
select digest, participant, asked_at_ms, acknowledged_at_ms from minuet_activation order by digest, participant;
