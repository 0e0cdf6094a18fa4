-- name: begin
begin immediate;

-- name: commit
commit;

-- name: rollback
rollback;

-- name: open_savepoint
savepoint minuet_part;

-- name: undo_savepoint
rollback to minuet_part;

-- name: release_savepoint
release minuet_part;

-- name: begin_reading
begin;

-- name: has_migrations
select count(*) from sqlite_master where type = 'table' and name = 'minuet_migration';

-- name: create_migrations
create table if not exists minuet_migration (
    number integer primary key,
    checksum text not null,
    applied_at_ms integer not null
) strict;

-- name: migrations
select number, checksum from minuet_migration order by number;

-- name: record_migration
insert into minuet_migration (number, checksum, applied_at_ms)
values (:number, :checksum, cast((julianday('now') - 2440587.5) * 86400000 as integer));

-- name: create_incarnation
insert into minuet_store (name, value) values ('incarnation', lower(hex(randomblob(16)))) on conflict do nothing;

-- name: raise_epoch
insert into minuet_store (name, value) values ('epoch', '1')
on conflict (name) do update set value = cast(cast(value as integer) + 1 as text)
returning cast(value as integer);

-- name: incarnation
select value from minuet_store where name = 'incarnation';

-- name: rows_changed
select changes();
