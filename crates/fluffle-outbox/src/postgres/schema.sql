create table if not exists fluffle_outbox (
    id           bigint generated always as identity primary key,
    message_id   text not null,
    message      bytea not null,
    enqueued_at  timestamptz not null default now(),
    due_at       timestamptz not null default now(),
    claimed_by   text,
    attempts     integer not null default 0,
    error        text,
    parked_at    timestamptz,
    published_at timestamptz
);
create index if not exists fluffle_outbox_waiting on fluffle_outbox (id)
    where parked_at is null and published_at is null;
create index if not exists fluffle_outbox_published on fluffle_outbox (published_at)
    where published_at is not null;

create table if not exists fluffle_seen (
    consumer   text not null,
    message_id text not null,
    seen_at    timestamptz not null default now(),
    primary key (consumer, message_id)
);
create index if not exists fluffle_seen_at on fluffle_seen (seen_at);

create table if not exists fluffle_offsets (
    stream  text not null,
    reader  text not null,
    next    bigint not null,
    kept_at timestamptz not null default now(),
    primary key (stream, reader)
);
