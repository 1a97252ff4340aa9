//! What is read from the service when somebody asks, because it is a state and no event.

use std::{collections::BTreeMap, time::Duration};

use fluffle_amqp::{ConsumerState, ConsumerStatus, Health, ServiceStatus};
use fluffle_supervise::{NodeSnapshot, State};

use crate::{depths::Depths, metrics::group::LIMIT, names, reading::Reading};

/// Every state that a consumer may be in, with its word.
pub(crate) const CONSUMER_STATES: [(ConsumerState, &str); 7] = [
    (ConsumerState::Consuming, "consuming"),
    (ConsumerState::Unsubscribed, "unsubscribed"),
    (ConsumerState::Paused, "paused"),
    (ConsumerState::Isolating, "isolating"),
    (ConsumerState::Probing, "probing"),
    (ConsumerState::BreakerOpen, "breaker_open"),
    (ConsumerState::Killed, "killed"),
];

/// The word for a consumer's state.
pub(crate) fn word(state: ConsumerState) -> &'static str {
    CONSUMER_STATES.iter().find(|(one, _)| *one == state).map_or("other", |(_, word)| word)
}

/// Every state that a node of the tree may be in.
const NODE_STATES: [State; 7] = [
    State::Waiting,
    State::Starting,
    State::Running,
    State::BackingOff,
    State::Stopping,
    State::Stopped,
    State::Failed,
];

pub(crate) fn read(status: &ServiceStatus, tree: &NodeSnapshot, into: &mut Reading) {
    for (queue, consumers) in by_queue(&status.consumers) {
        read_queue(queue, &consumers, into);
    }
    for publisher in status.publishers.iter().take(LIMIT) {
        let name = &[&*publisher.name][..];
        into.amount(&names::PUBLISH_OUTSTANDING, name, publisher.stats.outstanding);
        into.amount(&names::PUBLISH_IN_FLIGHT, name, publisher.in_flight);
        into.amount(&names::PUBLISH_WINDOW, name, publisher.window);
        if let Some(journal) = &publisher.journal {
            into.number(&names::JOURNAL_UNCONFIRMED, name, number(journal.unconfirmed));
            into.number(&names::JOURNAL_BYTES, name, number(journal.bytes));
            into.number(&names::JOURNAL_AGE, name, seconds(journal.oldest));
        }
    }
    for thread in status.threads.iter().take(LIMIT) {
        into.number(&names::ARBITER_LAG, &[&thread.name], thread.lag.as_secs_f64());
    }
    read_node(tree, &mut LIMIT.clone(), into);
}

pub(crate) fn read_health(health: &Health, into: &mut Reading) {
    into.number(&names::READY, &[], f64::from(u8::from(health.is_ready())));
    into.number(&names::ALIVE, &[], f64::from(u8::from(health.is_alive())));
}

/// What waits in outbox tables and dead-letter queues. A table that does not answer has no value.
pub(crate) fn read_depths(depths: &Depths, into: &mut Reading) {
    for (publisher, outbox) in depths.outboxes.iter().take(LIMIT) {
        if let Ok(outbox) = outbox {
            into.number(&names::OUTBOX_PENDING, &[publisher], number(outbox.messages));
            into.number(&names::OUTBOX_AGE, &[publisher], seconds(outbox.oldest));
        }
    }
    for (queue, ready) in depths.dead_letters.iter().take(LIMIT) {
        into.number(&names::DEAD_LETTERS_READY, &[queue], number(*ready));
    }
}

/// 0 if nothing waits.
fn seconds(oldest: Option<Duration>) -> f64 {
    oldest.unwrap_or_default().as_secs_f64()
}

fn read_queue(queue: &str, consumers: &[&ConsumerStatus], into: &mut Reading) {
    let sum = |of: fn(&ConsumerStatus) -> usize| consumers.iter().map(|consumer| of(consumer)).sum();
    into.amount(&names::IN_HAND, &[queue], sum(|consumer| consumer.in_hand));
    into.amount(&names::PREFETCH, &[queue], sum(|consumer| usize::from(consumer.prefetch)));
    into.amount(&names::WAITING, &[queue], sum(|consumer| consumer.waiting));
    into.amount(&names::HANDLERS, &[queue], sum(|consumer| consumer.handlers));
    for stream in consumers.iter().filter_map(|consumer| consumer.stream.as_ref()) {
        for (name, offset) in [
            (&names::STREAM_NEXT, stream.next),
            (&names::STREAM_DELIVERED, stream.delivered),
            (&names::STREAM_KEPT, stream.kept),
        ] {
            if let Some(offset) = offset {
                into.number(name, &[queue], number(offset));
            }
        }
    }
    for (state, word) in CONSUMER_STATES {
        let in_it = consumers.iter().filter(|consumer| consumer.state == state).count();
        into.amount(&names::CONSUMER_STATE, &[queue, word], in_it);
    }
}

/// The node and those below it, until `left` nodes are read.
fn read_node(node: &NodeSnapshot, left: &mut usize, into: &mut Reading) {
    if *left == 0 {
        return;
    }
    *left -= 1;
    for state in NODE_STATES {
        let is_in = f64::from(u8::from(node.state == state));
        into.number(&names::NODE_STATE, &[&node.path, &state.to_string().replace(' ', "_")], is_in);
    }
    if let Some(mailbox) = &node.mailbox {
        into.amount(&names::MAILBOX_DEPTH, &[&node.path], mailbox.waiting);
        into.amount(&names::MAILBOX_CAPACITY, &[&node.path], mailbox.capacity);
    }
    node.children.iter().for_each(|child| read_node(child, left, into));
}

/// The consumers of each queue.
pub(crate) fn by_queue(consumers: &[ConsumerStatus]) -> BTreeMap<&str, Vec<&ConsumerStatus>> {
    let mut queues = BTreeMap::<&str, Vec<_>>::new();
    for consumer in consumers {
        if queues.len() < LIMIT || queues.contains_key(&*consumer.queue) {
            queues.entry(&consumer.queue).or_default().push(consumer);
        }
    }
    queues
}

#[allow(clippy::cast_precision_loss, reason = "numbers of messages, bytes and offsets are far below 2^53")]
fn number(value: u64) -> f64 {
    value as f64
}
