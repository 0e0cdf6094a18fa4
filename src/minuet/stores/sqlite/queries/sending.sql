-- name: record_sending
insert into minuet_sending (entry, message, topic, envelope)
values (?, ?, ?, ?)
on conflict (message) do nothing;

-- name: remove_sent
delete from minuet_sending
where (message = ?);

-- name: sending
select entry, message, topic, envelope from minuet_sending where entry > :after order by entry limit :limit;
