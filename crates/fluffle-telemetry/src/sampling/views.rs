//! A service's own words for its parts, as the words of the picture.

use std::{collections::HashMap, time::Duration};

use fluffle_amqp::{
    ConnectionStatus, ConsumerState, ConsumerStatus, JournalStatus, PublisherStatus, ServiceStatus, StoreDepth,
};
use fluffle_supervise::{ExitReason, NodeKind, NodeSnapshot};

use crate::{
    insight::{
        samples::{Sample, Why},
        verdict::{self, Seen, State},
    },
    metrics::{consumer::ConsumerMetrics, gauges::word},
    sampling::{clock::Clock, trend::QueueTrend},
    status::picture::{
        ArbiterView, ConnectionView, MessageView, NodeView, OutcomeView, PublisherView, QueueView, StageView,
        StoreView, VerdictView,
    },
};

/// A node, with the traffic of what is below it. `rates` are by the path of the consumer's or publisher's actor.
pub(crate) fn node(node: &NodeSnapshot, clock: &Clock, rates: &HashMap<String, f64>) -> NodeView {
    let children: Vec<_> = node.children.iter().map(|child| self::node(child, clock, rates)).collect();
    let below = children.iter().filter_map(|child| child.rate).reduce(|a, b| a + b);
    let last_exit = node.last_exit.as_ref().filter(|reason| !matches!(reason, ExitReason::Stopped));
    NodeView {
        id: node.id.to_string(),
        path: node.path.to_string(),
        kind: match node.kind {
            NodeKind::Supervisor(strategy) => strategy.to_string(),
            _ => "actor".to_owned(),
        },
        state: node.state.to_string(),
        since: clock.unix(node.since),
        restarts: node.restarts,
        restart_at: node.next_restart_at.map(|at| clock.unix(at)),
        last_exit: last_exit.map(ToString::to_string),
        mailbox: node.mailbox.as_ref().map(|mailbox| [mailbox.waiting, mailbox.capacity]),
        note: node.note.clone(),
        rate: rates.get(&*node.path).copied().or(below),
        children,
    }
}

/// The consumers of one queue.
pub(crate) fn queue(
    name: &str,
    consumers: &[&ConsumerStatus],
    metrics: &ConsumerMetrics,
    trend: &QueueTrend,
    lag: f64,
    samples: Vec<(Why, Sample)>,
    clock: &Clock,
) -> QueueView {
    let sum = |of: fn(&ConsumerStatus) -> usize| consumers.iter().map(|consumer| of(consumer)).sum::<usize>();
    let worst = consumers.iter().max_by_key(|consumer| state(consumer.state));
    let (rates, stages) = (trend.rates(), trend.stages());
    let median = |stage| Some(stages.iter().find(|view| view.stage == stage)?.p50? / 1e3);
    let prefetch = sum(|consumer| usize::from(consumer.prefetch));
    let handlers = sum(|consumer| consumer.handlers);
    let seen = Seen {
        state: worst.map_or(State::Away, |consumer| state(consumer.state)),
        received: rates.received,
        settled: rates.settled,
        failed: rates.failed,
        crashed: trend.crashed_in_a_minute(),
        in_hand: sum(|consumer| consumer.in_hand),
        prefetch,
        waiting: sum(|consumer| consumer.waiting),
        handlers,
        at_work: rates.at_work,
        concurrency: consumers.iter().map(|consumer| consumer.concurrency).max().unwrap_or(1),
        broker_wait: median("broker"),
        handle: median("handle"),
        settle: median("settle"),
        lag,
    };
    let verdict::Verdict { kind, words, advice } = verdict::of(&seen);
    let most = (handlers * seen.concurrency.max(1)).min(prefetch).max(1);
    #[allow(clippy::cast_precision_loss, reason = "numbers of handlers")]
    let busy = (rates.at_work / most as f64).min(1.0);
    QueueView {
        name: name.to_owned(),
        consumers: consumers.iter().map(|consumer| consumer.name.clone()).collect(),
        state: worst.map_or_else(|| "gone".to_owned(), |consumer| word(consumer.state).replace('_', " ")),
        since: worst.map(|consumer| clock.unix(consumer.since)),
        received_rate: rates.received,
        settled_rate: rates.settled,
        failed_rate: rates.failed,
        in_hand: seen.in_hand,
        prefetch,
        waiting: seen.waiting,
        handlers,
        busy,
        stages,
        outcomes: outcomes(&metrics.outcomes()),
        crashed: metrics.totals().crashed,
        verdict: VerdictView { kind, words, advice },
        dead_letters: None,
        messages: samples.into_iter().map(|(why, sample)| message(why, sample, clock)).collect(),
    }
}

fn message(why: Why, sample: Sample, clock: &Clock) -> MessageView {
    MessageView {
        why: match why {
            Why::Failed => "failed",
            Why::Slow => "slow",
            Why::Sampled => "sampled",
        },
        at: clock.unix(sample.at),
        id: sample.id,
        trace: sample.trace,
        attempt: sample.attempt,
        kind: sample.kind,
        bytes: sample.bytes,
        outcome: sample.outcome,
        failure: sample.failure,
        waterfall: sample.stages.into_iter().map(|(stage, took)| (stage, took.as_secs_f64() * 1e3)).collect(),
        detail: sample.detail,
    }
}

fn state(state: ConsumerState) -> State {
    match state {
        ConsumerState::Consuming => State::Consuming,
        ConsumerState::Probing => State::Probing,
        ConsumerState::Paused => State::Paused,
        ConsumerState::Isolating => State::Isolating,
        ConsumerState::BreakerOpen => State::BreakerOpen,
        ConsumerState::Killed => State::Killed,
        _ => State::Away,
    }
}

/// One publisher. `outbox` is what waits in the tables that feed it; `rates` are accepted and settled a second.
pub(crate) fn publisher(
    status: &PublisherStatus,
    outbox: Option<&Result<StoreDepth, String>>,
    rates: [f64; 2],
    stages: Vec<StageView>,
) -> PublisherView {
    let stats = &status.stats;
    PublisherView {
        name: status.name.clone(),
        accepted_rate: rates[0],
        settled_rate: rates[1],
        outstanding: stats.outstanding,
        window: status.window,
        outcomes: outcomes(&[
            ("confirmed", stats.confirmed),
            ("returned", stats.returned),
            ("nacked", stats.nacked),
            ("failed", stats.failed),
            ("withdrawn", stats.withdrawn),
        ]),
        republished: stats.republished,
        stages,
        store: status.journal.as_ref().map(journal).or_else(|| outbox.map(self::outbox)),
    }
}

fn journal(journal: &JournalStatus) -> StoreView {
    StoreView {
        kind: "journal",
        messages: Some(journal.unconfirmed),
        bytes: Some(journal.bytes),
        oldest: journal.oldest.map(milliseconds),
        error: None,
    }
}

fn outbox(depth: &Result<StoreDepth, String>) -> StoreView {
    let counted = depth.as_ref().ok();
    StoreView {
        kind: "outbox",
        messages: counted.map(|depth| depth.messages),
        bytes: None,
        oldest: counted.and_then(|depth| depth.oldest).map(milliseconds),
        error: depth.as_ref().err().cloned(),
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn connection(status: &ConnectionStatus, all: &ServiceStatus, clock: &Clock) -> ConnectionView {
    let open = all.channels.iter().filter(|channel| channel.is_open && channel.connection == status.name).count();
    ConnectionView {
        name: status.name.clone(),
        endpoint: status.endpoint.clone(),
        up: status.connected,
        since: Some(clock.unix(status.since)),
        connects: status.connects,
        channels: open,
        blocked: status.blocked.clone(),
        blocked_since: status.blocked_since.map(|since| clock.unix(since)),
    }
}

pub(crate) fn arbiters(status: &ServiceStatus) -> Vec<ArbiterView> {
    let view = |thread: &fluffle_amqp::ThreadStatus| ArbiterView {
        name: thread.name.clone(),
        lag: thread.lag.as_secs_f64() * 1e3,
    };
    status.threads.iter().map(view).collect()
}

fn outcomes(counts: &[(&'static str, u64)]) -> Vec<OutcomeView> {
    counts.iter().map(|(outcome, messages)| OutcomeView { outcome, messages: *messages }).collect()
}
