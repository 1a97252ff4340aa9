//! Connections, channels and consumers: how clients use the broker.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::doctor::{
    args::DoctorArgs,
    finding::{Evidence::ToldByTheManagementApi, Kind, Level, Report},
    json::Object,
    pages,
    snapshot::{Snapshot, shell},
};

static NO_CONFIRMS: Kind = Kind {
    id: "channel.publishes_without_confirms",
    level: Level::Error,
    why: "The publisher is not told whether the broker has its messages. What is in the sockets when a connection \
          fails, or what a full queue refuses, is lost unnoticed.",
    page: pages::CONFIRMS,
};
static UNROUTABLE: Kind = Kind {
    id: "channel.publishes_into_the_void",
    level: Level::Error,
    why: "The broker dropped messages that no binding takes. The publisher does not set `mandatory`, so it is not \
          told.",
    page: pages::UNROUTABLE,
};
static BOTH_WAYS: Kind = Kind {
    id: "connection.publishes_and_consumes",
    level: Level::Warning,
    why: "While the broker blocks publishers, it reads nothing from their connections: acks of consumers on the same \
          connection stand still too, and so do the queues.",
    page: pages::ALARMS,
};
static NO_HEARTBEAT: Kind = Kind {
    id: "connection.no_heartbeat",
    level: Level::Warning,
    why: "If the client's machine or the network dies, the broker notices after minutes or hours. Until then its \
          unacked messages reach nobody else, and exclusive queues stay locked.",
    page: pages::HEARTBEATS,
};
static MANY_CHANNELS: Kind = Kind {
    id: "connection.many_channels",
    level: Level::Warning,
    why: "Mostly a leak: channels that are opened for one message each and never closed. Each costs memory on both \
          sides, until channel_max ends the connection.",
    page: pages::CHANNELS,
};
static UNACKED: Kind = Kind {
    id: "channel.unacked_for_long",
    level: Level::Error,
    why: "RabbitMQ closes the channel (or cancels the consumer, from 4.3 on a quorum queue) when a delivery stays \
          unacked for longer than consumer_timeout. All its deliveries then come again.",
    page: pages::ACK_TIMEOUT,
};
static AUTO_ACK: Kind = Kind {
    id: "consumer.auto_ack",
    level: Level::Error,
    why: "The broker forgets each message as it writes it to the socket. What the consumer has not handled when it \
          ends is lost, and there is no limit to what it is sent.",
    page: pages::CONFIRMS,
};
static UNLIMITED: Kind = Kind {
    id: "consumer.unlimited_prefetch",
    level: Level::Warning,
    why: "The broker sends this consumer the whole queue at once. It may run out of memory, other consumers get \
          nothing, and when it ends, everything comes again.",
    page: pages::PREFETCH,
};
static LARGE: Kind = Kind {
    id: "consumer.large_prefetch",
    level: Level::Advice,
    why: "So many unacked messages fill the memory of the consumer and of the node, and other consumers of the queue \
          go without. RabbitMQ recommends 100 to 300.",
    page: pages::PREFETCH,
};
static ONE: Kind = Kind {
    id: "consumer.prefetch_of_one",
    level: Level::Warning,
    why: "Messages wait, and after each one the consumer idles for the way of its ack to the broker and back.",
    page: pages::PREFETCH,
};
static BATCH: Kind = Kind {
    id: "consumer.prefetch_below_batch",
    level: Level::Error,
    why: "The consumer waits for more messages than the broker sends it unacked, so a batch is never full.",
    page: pages::PREFETCH,
};
static GLOBAL_PREFETCH: Kind = Kind {
    id: "channel.global_prefetch",
    level: Level::Warning,
    why: "A prefetch for the whole channel (global qos) is deprecated, and quorum queues refuse it: the consumer does \
          not start.",
    page: pages::DEPRECATED,
};

/// Beyond this many channels, a connection probably leaks them. Large applications have some dozens.
const CHANNELS: u64 = 100;
/// The default of `consumer_timeout`, in milliseconds.
const CONSUMER_TIMEOUT: u64 = 1_800_000;
/// Messages that wait, from which on a prefetch of 1 costs time.
const WAITING: u64 = 100;

pub(super) fn check(snapshot: &Snapshot, args: &DoctorArgs, now: u64, report: &mut Report) {
    for connection in &snapshot.connections {
        check_connection(connection, report);
    }
    check_directions(snapshot, report);
    for channel in &snapshot.channels {
        check_channel(snapshot, channel, now, report);
    }
    for consumer in &snapshot.consumers {
        check_consumer(snapshot, consumer, report);
    }
    for (queue, batch) in &args.batches {
        check_batch(snapshot, queue, *batch, report);
    }
}

/// The client's own name of its connection, or else the broker's name for it.
fn named(snapshot: &Snapshot, connection: &str) -> String {
    let of = snapshot.connections.iter().find(|other| other.text("name") == connection);
    match of.map(|of| of.text("client_properties/connection_name")) {
        Some(name) if !name.is_empty() => format!("{name} ({connection})"),
        _ => connection.to_owned(),
    }
}

fn check_connection(connection: &Object, report: &mut Report) {
    let name = match connection.text("client_properties/connection_name") {
        "" => connection.text("name").to_owned(),
        own => format!("{own} ({})", connection.text("name")),
    };
    let entity = format!("connection {name}");
    if connection.number("timeout") == Some(0) && connection.text("type") != "direct" {
        let mend = "let the client ask for 10 to 60 s (amqp://…?heartbeat=30), and the broker propose them";
        report.find(&NO_HEARTBEAT, ToldByTheManagementApi, &entity, "it has no heartbeat", mend).conf("heartbeat = 60");
    }
    if let Some(channels) = connection.number("channels").filter(|channels| *channels > CHANNELS) {
        let mend = "let the client keep one channel for each thread that publishes and each consumer, and close others";
        report
            .find(&MANY_CHANNELS, ToldByTheManagementApi, &entity, format!("{channels} channels are open"), mend)
            .conf("channel_max = 128");
    }
}

/// Connections that publish and consume.
fn check_directions(snapshot: &Snapshot, report: &mut Report) {
    let mut publishing: BTreeSet<&str> = BTreeSet::new();
    let mut consuming: BTreeMap<&str, u64> = BTreeMap::new();
    for channel in &snapshot.channels {
        let connection = channel.text("connection_details/name");
        if channel.number("message_stats/publish").unwrap_or(0) > 0 {
            publishing.insert(connection);
        }
        *consuming.entry(connection).or_default() += channel.number("consumer_count").unwrap_or(0);
    }
    for (connection, consumers) in consuming {
        if consumers > 0 && publishing.contains(connection) {
            let entity = format!("connection {}", named(snapshot, connection));
            let what = format!("it publishes, and has {consumers} consumers");
            let mend = "let the client open one connection to publish and one to consume";
            report.find(&BOTH_WAYS, ToldByTheManagementApi, entity, what, mend);
        }
    }
}

fn check_channel(snapshot: &Snapshot, channel: &Object, now: u64, report: &mut Report) {
    let connection = named(snapshot, channel.text("connection_details/name"));
    let entity = format!("channel {} of connection {connection}", channel.number("number").unwrap_or(0));
    let told = ToldByTheManagementApi;
    let published = channel.number("message_stats/publish").unwrap_or(0);
    if published > 0 && channel.flag("confirm") == Some(false) && !channel.is("transactional") {
        let mend = "let the client call confirm.select on the channel, and wait for the confirm before it forgets a \
                    message";
        report.find(&NO_CONFIRMS, told, &entity, format!("{published} messages published without confirms"), mend);
    }
    if let Some(dropped) = channel.number("message_stats/drop_unroutable").filter(|dropped| *dropped > 0) {
        let mend = "bind a queue for their keys; set `mandatory`, so that the publisher is told; or give the exchange \
                    an alternate-exchange";
        report.find(&UNROUTABLE, told, &entity, format!("{dropped} messages reached no queue"), mend);
    }
    if let Some(most) = channel.number("global_prefetch_count").filter(|most| *most > 0) {
        let mend = "let the client call basic.qos with global = false, before basic.consume";
        report.find(&GLOBAL_PREFETCH, told, &entity, format!("a global prefetch of {most}"), mend);
    }
    check_unacked(snapshot, channel, &entity, now, report);
}

/// A channel that does nothing, with unacked messages: these are at least as old as its idleness.
fn check_unacked(snapshot: &Snapshot, channel: &Object, entity: &str, now: u64, report: &mut Report) {
    let unacked = channel.number("messages_unacknowledged").unwrap_or(0);
    let Some(since) = idle_since(channel).filter(|_| unacked > 0) else { return };
    let age = now.saturating_sub(since);
    let name = channel.text("name");
    let timeouts = snapshot.consumers.iter().filter(|consumer| consumer.text("channel_details/name") == name);
    // Told for each consumer by the latest versions; settable for each queue since RabbitMQ 3.12.
    let of_queue = |consumer: &Object| {
        let queue = snapshot.queues.iter().find(|queue| queue.text("name") == consumer.text("queue/name"))?;
        u64::try_from(queue.setting_number("consumer-timeout")?).ok()
    };
    let own = timeouts.filter_map(|consumer| consumer.number("consumer_timeout").or_else(|| of_queue(consumer))).min();
    let timeout = own.or(snapshot.consumer_timeout).unwrap_or(CONSUMER_TIMEOUT);
    if age.saturating_mul(2) <= timeout {
        return;
    }
    let time = |ms: u64| humantime::format_duration(Duration::from_millis(ms / 100 * 100));
    let what = format!(
        "{unacked} messages unacked for at least {}, with a consumer_timeout of {}{}",
        time(age),
        time(timeout),
        if own.or(snapshot.consumer_timeout).is_none() { " (the default: --conf was not given)" } else { "" },
    );
    let mend = "find out what the consumer hangs on; let it ack as soon as a message is handled, and prefetch only \
                what it can handle in that time";
    report
        .find(&UNACKED, ToldByTheManagementApi, entity, what, mend)
        .conf(format!("consumer_timeout = {}", timeout.saturating_mul(2)));
}

/// Since when the channel does nothing, in milliseconds since 1970: `2026-11-29T01:02:03.004+00:00`, or before RabbitMQ
/// 3.12 `2026-11-29 1:02:03`, in UTC.
pub(crate) fn idle_since(channel: &Object) -> Option<u64> {
    let text = channel.text("idle_since");
    let (date, time) = text.split_once(['T', ' '])?;
    let (time, offset) = match time.find(['+', 'Z']) {
        Some(at) => time.split_at(at),
        None => (time, ""),
    };
    if !["", "Z", "+00:00"].contains(&offset) {
        return None;
    }
    let time = if time.find(':') == Some(1) { format!("0{time}") } else { time.to_owned() };
    let since = humantime::parse_rfc3339(&format!("{date}T{time}Z")).ok()?;
    let since = since.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

fn check_consumer(snapshot: &Snapshot, consumer: &Object, report: &mut Report) {
    let told = ToldByTheManagementApi;
    let queue_name = consumer.text("queue/name");
    let queue = snapshot.queues.iter().find(|queue| queue.text("name") == queue_name);
    let connection = named(snapshot, consumer.text("channel_details/connection_name"));
    let entity = format!("consumer {} of queue {queue_name}, {connection}", consumer.text("consumer_tag"));
    let is_temporary = queue.is_none_or(|queue| queue.is("exclusive") || queue.is("auto_delete"));
    if consumer.flag("ack_required") == Some(false) {
        // A copy of what passes may be lost.
        if !is_temporary {
            let mend = "let the client consume with no_ack = false, and ack each message after it is handled";
            report.find(&AUTO_ACK, told, entity, "it consumes without acks", mend);
        }
        return;
    }
    let waiting = queue.and_then(|queue| queue.number("messages_ready")).unwrap_or(0);
    match consumer.number("prefetch_count") {
        // A prefetch for the channel is a finding of its own.
        Some(0) if global_prefetch(snapshot, consumer).is_none_or(|most| most == 0) => {
            let mend = "let the client call basic.qos with 100 to 300 before basic.consume";
            let what = match global_prefetch(snapshot, consumer) {
                Some(_) => "it has no prefetch limit".to_owned(),
                None => {
                    report.unknown(
                        format!("whether the channel of {entity} has a global prefetch"),
                        "rabbitmqctl list_channels name global_prefetch_count (since RabbitMQ 4 the API is silent)",
                    );
                    "it has no prefetch limit of its own, and one of its channel would be deprecated".to_owned()
                }
            };
            report
                .find(&UNLIMITED, told, entity, what, mend)
                .conf("default_consumer_prefetch.count = 250\ndefault_consumer_prefetch.global = false");
        }
        Some(1) if waiting >= WAITING => {
            let mend = "let the client prefetch 10 or more, unless a message takes minutes";
            let what = format!("a prefetch of 1, while {waiting} messages wait");
            report.find(&ONE, told, entity, what, mend);
        }
        Some(prefetch) if prefetch > 5_000 => {
            let mend = "let the client prefetch less: what it handles in about a second";
            report.find(&LARGE, told, entity, format!("a prefetch of {prefetch}"), mend);
        }
        _ => {}
    }
}

/// The prefetch of the consumer's whole channel; `None` if the API does not tell it, as since RabbitMQ 4.
fn global_prefetch(snapshot: &Snapshot, consumer: &Object) -> Option<u64> {
    let name = consumer.text("channel_details/name");
    let channel = snapshot.channels.iter().find(|channel| channel.text("name") == name);
    channel.and_then(|channel| channel.number("global_prefetch_count"))
}

fn check_batch(snapshot: &Snapshot, queue: &str, batch: u64, report: &mut Report) {
    for consumer in snapshot.consumers.iter().filter(|consumer| consumer.text("queue/name") == queue) {
        let Some(prefetch) = consumer.number("prefetch_count").filter(|most| *most > 0 && *most < batch) else {
            continue;
        };
        let entity = format!("consumer {} of queue {queue}", consumer.text("consumer_tag"));
        let what = format!("a prefetch of {prefetch}, and batches of {batch} (--batch {}={batch})", shell(queue));
        let mend = format!("let the client prefetch {} or more: two batches", batch.saturating_mul(2));
        report.find(&BATCH, ToldByTheManagementApi, entity, what, mend);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_time_of_idleness_is_read_as_each_version_writes_it() {
        let since = |text: &str| idle_since(&Object::new(json!({ "idle_since": text })));
        assert_eq!(since("1970-01-01T00:00:01.500+00:00"), Some(1_500));
        assert_eq!(since("1970-01-01 0:00:02"), Some(2_000));
        assert_eq!(since("1970-01-01 00:00:02"), Some(2_000));
        assert_eq!(since(""), None);
        assert_eq!(since("1970-01-01T00:00:01.500+02:00"), None);
    }
}
