-- name: record_early
insert into minuet_early (message, digest, topic, envelope, at_ms, reason)
values (?, ?, ?, ?, ?, ?)
on conflict (message) do update set digest = excluded.digest, reason = excluded.reason;

-- name: remove_early
delete from minuet_early
where (message = ?);

-- name: early
select message, digest, topic, envelope, at_ms, reason
from minuet_early
where digest = :digest
order by arrival
limit :limit;

-- name: early_of_any_plan
select message, digest, topic, envelope, at_ms, reason from minuet_early order by arrival limit :limit;
