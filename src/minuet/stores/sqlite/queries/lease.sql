-- name: create_leases
insert into minuet_lease (shard, owner, epoch, until_ms)
select value, null, 0, 0
from json_each(:shards)
where true
on conflict do nothing;

-- name: free_shards
select shard from minuet_lease where owner is null or until_ms <= :now_ms order by until_ms, shard limit :wanted;

-- name: claim_shard
update minuet_lease
set owner = :owner, epoch = epoch + 1, until_ms = :until_ms
where shard = :shard and (owner is null or until_ms <= :now_ms)
returning epoch;

-- name: renew_lease
update minuet_lease
set until_ms = :until_ms
where shard = :shard and owner = :owner and epoch = :epoch;

-- name: give_back_lease
update minuet_lease
set owner = null, until_ms = min(until_ms, :now_ms)
where shard = :shard and owner = :owner and epoch = :epoch;

-- name: owners
select owner, count(*) from minuet_lease where owner is not null and until_ms > :now_ms group by owner order by owner;

-- name: epoch_of_shard
select epoch from minuet_lease where shard = :shard;

-- name: time_ms
select cast((julianday('now') - 2440587.5) * 86400000 as integer);
