-- name: record_passed
insert into minuet_passed (message, shard, envelope, at_ms, answer)
values (?, ?, ?, ?, ?)
on conflict (message) do update set answer = excluded.answer
where minuet_passed.answer is null;

-- name: remove_passed
delete from minuet_passed
where (message = ?);

-- name: passed
select message, shard, envelope, at_ms, answer
from minuet_passed
where answer is null and shard in (select value from json_each(:shards))
order by arrival
limit :limit;

-- name: answer_of
select answer from minuet_passed where message = :message;
