-- Order of events from elsewhere, and events that are taken back.

-- Of an event from elsewhere: its number at its source, and that of the one before it of its type and key.
alter table minuet_outbox add column sequence integer;
alter table minuet_outbox add column previous integer;

-- What came before an event of its type and key: asked by whoever sends it elsewhere.
create index minuet_outbox_key on minuet_outbox (key, event, source, entry);

-- It hears what lies beyond `began`. `also`: the type of the notices that it hears beside its events. `late`: how many
-- events were left out because a newer one of their key had been applied.
alter table minuet_subscription add column began integer not null default 0;
alter table minuet_subscription add column also text;
alter table minuet_subscription add column late integer not null default 0;

-- Up to which number a subscription has applied, or left, what a source says of a key.
create table minuet_seen (
    subscription integer not null,
    source text not null,
    key text not null,
    sequence integer not null,
    primary key (subscription, source, key)
) strict, without rowid;
