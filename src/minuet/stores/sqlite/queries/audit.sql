-- name: record_audit
insert into minuet_audit (at_ms, who, verb, subject, outcome, note)
values (?, ?, ?, ?, ?, ?);

-- name: audit
select at_ms, who, verb, subject, outcome, note from minuet_audit order by entry desc limit :limit;
