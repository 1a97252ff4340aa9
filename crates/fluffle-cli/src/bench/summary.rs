//! The complete result of a run. `--json` prints it: keys are stable, and new ones may be added.

use std::collections::BTreeMap;

use fluffle::prelude::Service;
use serde::Serialize;

use crate::units::count;

use crate::bench::{
    ledger::Verification,
    meter::{Meter, Times},
    plan::Workload,
    progress::{End, Measured, Second, micros},
    stages::{EVERY, Stage},
    state::Run,
    usage::{Process, peak_memory},
    verdict::{Incidents, Verdict, judge},
};

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    pub(crate) version: &'static str,
    pub(crate) workload: Workload,
    /// `complete`, `interrupted`, or why the service gave up.
    pub(crate) end: String,
    pub(crate) throughput: Throughput,
    /// `null` without `--batch`, and without consumers.
    pub(crate) batches: Option<Batches>,
    /// From when a message was due (in a closed loop: sent) to its confirm.
    pub(crate) confirm: Option<Latency>,
    /// From when a message was due to the handler's call.
    pub(crate) end_to_end: Option<Latency>,
    /// Mean times of one message in `stages_of_one_in`, in the order of the stages, and of its confirm.
    pub(crate) stages: Vec<StageTime>,
    pub(crate) stages_of_one_in: u64,
    /// `null` if there is no /proc.
    pub(crate) process: Option<Process>,
    /// `null` without consumers.
    pub(crate) verification: Option<Verification>,
    pub(crate) verdict: Verdict,
    pub(crate) incidents: Incidents,
    /// The reasons why publishes failed, with how many.
    pub(crate) publish_failures: BTreeMap<String, u64>,
    /// The run second by second, including warm-up and drain.
    pub(crate) seconds: Vec<Second>,
}

/// The throughput of the measurement. Bytes are those of encoded messages, before gzip.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Throughput {
    pub(crate) seconds: f64,
    pub(crate) published: u64,
    pub(crate) confirmed: u64,
    pub(crate) handled: u64,
    pub(crate) published_per_s: f64,
    pub(crate) confirmed_per_s: f64,
    pub(crate) handled_per_s: f64,
    pub(crate) published_mb_per_s: f64,
    pub(crate) handled_mb_per_s: f64,
    /// Messages of an open loop that were due but not sent when the run was stopped.
    pub(crate) never_sent: u64,
}

/// The batches of the whole run, as consumers received them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Batches {
    pub(crate) received: u64,
    pub(crate) messages_each: f64,
}

/// Times in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p75_us: f64,
    pub(crate) p95_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) max_us: f64,
    /// The whole curve: pairs of a quantile and the time below which that part of the messages is.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// The time of one stage of a message.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StageTime {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) mean_us: f64,
    /// The share in the sum of all stages' means, 0 to 1. `null` for a stage that runs in parallel to them.
    pub(crate) share: Option<f64>,
    /// `null` for a stage that is not measured itself but is the rest between others.
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

impl Summary {
    pub(crate) fn new(
        run: &Run,
        service: &Service,
        workload: Workload,
        end: &End,
        seconds: Vec<Second>,
        measured: &Measured,
    ) -> Self {
        let meter = run.meters.sum();
        let consumed = run.plan.consumers > 0;
        let verification = consumed.then(|| run.ledger.verify());
        let incidents = incidents(service, run.foreign());
        let mut verdict =
            judge(&run.plan.args, run.plan.keeps_order(), &verification.clone().unwrap_or_default(), &incidents);
        if verification.as_ref().is_some_and(|found| found.lost == 0) {
            verdict.notes.extend(fell_behind(&workload, measured));
        }
        verdict.notes.extend(never_sent(run.unsent()));
        Self {
            version: env!("CARGO_PKG_VERSION"),
            workload,
            end: match end {
                End::Complete => "complete".to_owned(),
                End::Interrupted => "interrupted".to_owned(),
                End::ServiceEnded(why) => why.clone(),
            },
            throughput: Throughput::new(measured, run.unsent()),
            batches: verification
                .as_ref()
                .filter(|_| run.plan.args.batch.is_some())
                .and_then(|found| Batches::new(service, found)),
            confirm: Latency::new(&meter.confirm.run),
            end_to_end: Latency::new(&meter.end_to_end.run),
            stages: stages(&meter, consumed),
            stages_of_one_in: EVERY,
            process: measured.usage.map(|usage| {
                let messages = if consumed { measured.counts.handled } else { measured.counts.confirmed };
                let cpu_s = usage.cpu.saturating_sub(usage.broker).as_secs_f64();
                Process {
                    cpu_s,
                    cpu_us_per_message: cpu_s * 1e6 / messages.max(1) as f64,
                    embedded_broker_cpu_s: usage.broker.as_secs_f64(),
                    peak_memory_bytes: peak_memory().unwrap_or_default(),
                }
            }),
            verdict,
            verification,
            incidents,
            publish_failures: run.failures(),
            seconds,
        }
    }
}

impl Throughput {
    fn new(measured: &Measured, never_sent: u64) -> Self {
        let (seconds, counts) = (measured.time.as_secs_f64(), measured.counts);
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        Self {
            seconds,
            published: counts.published,
            confirmed: counts.confirmed,
            handled: counts.handled,
            published_per_s: rate(counts.published),
            confirmed_per_s: rate(counts.confirmed),
            handled_per_s: rate(counts.handled),
            published_mb_per_s: rate(counts.published_bytes) / 1e6,
            handled_mb_per_s: rate(counts.handled_bytes) / 1e6,
            never_sent,
        }
    }
}

impl Batches {
    /// Deliveries are counted when they arrive, so all are counted when their messages have been handled.
    fn new(service: &Service, found: &Verification) -> Option<Self> {
        let received = service.consumers().iter().map(|(_, stats)| stats.received).sum();
        let messages = (found.received + found.duplicates) as f64;
        (received > 0).then(|| Self { received, messages_each: messages / received as f64 })
    }
}

impl Latency {
    fn new(times: &Times) -> Option<Self> {
        let at = |quantile| micros(times.at(quantile));
        (times.count() > 0).then(|| Self {
            count: times.count(),
            mean_us: times.mean() / 1e3,
            p50_us: at(0.5),
            p75_us: at(0.75),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p99_9_us: at(0.999),
            max_us: micros(times.max()),
            curve: times.curve().into_iter().map(|(quantile, nanos)| (quantile, micros(nanos))).collect(),
        })
    }
}

/// The stages in order. The time of the broker and its surroundings is the rest between two measured points, so only
/// its mean is known: means may be subtracted, percentiles must not. Without consumers, the stages end with the
/// confirm, which otherwise runs in parallel to them.
fn stages(meter: &Meter, consumed: bool) -> Vec<StageTime> {
    let left = |later: &Times| (later.mean() - meter.handed_over.mean()).max(0.0) / 1e3;
    let after = [Stage::Broker, Stage::Mailbox, Stage::Decode, Stage::Handle, Stage::Settle];
    let lived = Stage::ALL.into_iter().filter(|stage| consumed || !after.contains(stage));
    let mut stages: Vec<StageTime> = lived
        .map(|stage| {
            let times = meter.times(stage);
            let measured = |quantile| (times.count() > 0).then(|| micros(times.at(quantile)));
            let mean_us = if stage == Stage::Broker { left(&meter.received) } else { times.mean() / 1e3 };
            let (name, about) = (stage.name(), stage.about());
            StageTime { name, about, mean_us, share: None, p50_us: measured(0.5), p99_us: measured(0.99) }
        })
        .collect();
    let mean_us = left(&meter.confirm.run);
    let about = "batch if enabled, outbox, wire, broker, and back";
    let confirm = StageTime { name: "confirm", about, mean_us, share: None, p50_us: None, p99_us: None };
    let sum: f64 = stages.iter().map(|stage| stage.mean_us).sum::<f64>() + if consumed { 0.0 } else { mean_us };
    let shared = stages.len() + usize::from(!consumed);
    stages.push(confirm);
    for stage in stages.iter_mut().take(shared).filter(|_| sum > 0.0) {
        stage.share = Some(stage.mean_us / sum);
    }
    stages
}

/// Latency means little if a queue only grows.
fn fell_behind(workload: &Workload, measured: &Measured) -> Option<String> {
    let counts = measured.counts;
    let behind = counts.published.saturating_sub(counts.handled);
    // If a tenth more is published than handled, messages in flight do not explain the difference.
    let grew = workload.consumers > 0 && behind > counts.published / 10 && behind > u64::from(workload.prefetch);
    grew.then(|| {
        format!(
            "the queues grew by {} messages during the measurement, because handlers were slower than producers: \
             end-to-end latency is mostly waiting in the queues; a --rate below the handled rate shows it without \
             that wait",
            count(behind)
        )
    })
}

/// Messages that were not sent have no latency, but theirs would have been the worst.
fn never_sent(messages: u64) -> Option<String> {
    (messages > 0).then(|| {
        format!(
            "{} messages were due but never sent: the rate is higher than the throughput, and latency would be \
             worse with them",
            count(messages)
        )
    })
}

fn incidents(service: &Service, foreign: u64) -> Incidents {
    let (publishers, consumers) = (service.publishers(), service.consumers());
    let connections = service.connections();
    Incidents {
        reconnects: connections.iter().map(|connection| connection.connects.saturating_sub(1)).sum(),
        away: connections.iter().filter(|connection| !connection.connected).count() as u64,
        republished: publishers.iter().map(|(_, stats)| stats.republished).sum(),
        dropped: consumers.iter().map(|(_, stats)| stats.dropped).sum(),
        dead_lettered: consumers.iter().map(|(_, stats)| stats.dead_lettered).sum(),
        foreign,
    }
}
