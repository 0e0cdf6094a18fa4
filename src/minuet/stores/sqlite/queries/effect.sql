-- name: record_effects
insert into minuet_effect (action, key, op_key, causes, arguments, result, at_ms)
values (?, ?, ?, ?, ?, ?, ?);

-- name: remove_effects
delete from minuet_effect
where (action = ? and key = ? and op_key = ?);

-- name: find_effect
select action, key, op_key, causes, arguments, result, at_ms from minuet_effect where action = :action and key = :key;
