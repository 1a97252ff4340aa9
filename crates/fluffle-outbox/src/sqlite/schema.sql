create table if not exists fluffle_outbox (
    id           integer primary key autoincrement,
    message_id   text not null,
    message      blob not null,
    enqueued_at  integer not null default (cast((julianday('now') - 2440587.5) * 86400000 as integer)),
    due_at       integer not null default (cast((julianday('now') - 2440587.5) * 86400000 as integer)),
    claimed_by   text,
    attempts     integer not null default 0,
    error        text,
    parked_at    integer,
    published_at integer
);
create index if not exists fluffle_outbox_waiting on fluffle_outbox (id)
    where parked_at is null and published_at is null;
create index if not exists fluffle_outbox_published on fluffle_outbox (published_at)
    where published_at is not null;

create table if not exists fluffle_seen (
    consumer   text not null,
    message_id text not null,
    seen_at    integer not null default (cast((julianday('now') - 2440587.5) * 86400000 as integer)),
    primary key (consumer, message_id)
);
create index if not exists fluffle_seen_at on fluffle_seen (seen_at);

create table if not exists fluffle_offsets (
    stream  text not null,
    reader  text not null,
    next    integer not null,
    kept_at integer not null default (cast((julianday('now') - 2440587.5) * 86400000 as integer)),
    primary key (stream, reader)
);
