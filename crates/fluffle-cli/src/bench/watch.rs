//! Watches a run: prints a line every second, and detects the end.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fluffle::prelude::Service;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{MissedTickBehavior, interval, interval_at, sleep_until},
};

use crate::bench::{
    live::Live,
    meter::{Counts, Times},
    progress::{End, Measured, Phase, Second, micros},
    state::Run,
    usage::Usage,
};

/// How often to check whether the last messages have arrived.
const LOOK: Duration = Duration::from_millis(10);

/// A shorter interval is not reported if nothing happened in it.
const SHORTEST: Duration = Duration::from_millis(100);

/// Watches one run.
pub(crate) struct Watcher<'a> {
    run: &'a Arc<Run>,
    service: &'a Service,
    live: Live,
    start: Instant,
    from: Instant,
    seconds: Vec<Second>,
    last: (Instant, Counts),
    /// The counts and usage when the measurement began.
    begin: Option<(Counts, Option<Usage>)>,
    end: Option<(Instant, Counts, Option<Usage>)>,
    interrupts: Signal,
    /// Whether all producers are done.
    published: bool,
}

impl<'a> Watcher<'a> {
    pub(crate) fn new(
        run: &'a Arc<Run>,
        service: &'a Service,
        live: Live,
        start: Instant,
        from: Instant,
    ) -> std::io::Result<Self> {
        let last = (start, Counts::default());
        let interrupts = signal(SignalKind::interrupt())?;
        // Without a warm-up, the measurement begins with the first message.
        let begin = (from == start).then(|| (Counts::default(), Usage::now()));
        let seconds = Vec::new();
        Ok(Self { run, service, live, start, from, seconds, last, begin, end: None, interrupts, published: false })
    }

    /// Watches until every message is published and has arrived, or until nothing arrives any more.
    pub(crate) async fn watch(&mut self, mut done: oneshot::Receiver<()>) -> End {
        let mut end = self.load(&mut done).await;
        if end != End::Complete || self.run.plan.schedule().is_none() {
            self.run.stop();
        }
        self.end = Some((Instant::now(), self.run.meters.counts(), Usage::now()));
        self.tick();
        if let End::Complete | End::Interrupted = end
            && let Some(other) = self.drain(&mut done).await
        {
            end = other;
        }
        self.tick();
        end
    }

    /// Waits until nothing more is to be published.
    async fn load(&mut self, done: &mut oneshot::Receiver<()>) -> End {
        let second = Duration::from_secs(1);
        let mut ticks = interval_at((self.start + second).into(), second);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let until = self.run.plan.args.count.is_none().then(|| self.from + self.run.plan.time);
        loop {
            tokio::select! {
                biased;
                () = sleep_until(self.from.into()), if self.begin.is_none() => {
                    self.begin = Some((self.run.meters.counts(), Usage::now()));
                }
                () = at(until) => return End::Complete,
                _ = &mut *done, if until.is_none() => {
                    self.published = true;
                    return End::Complete;
                }
                _ = ticks.tick() => self.tick(),
                _ = self.interrupts.recv() => return End::Interrupted,
                ended = self.service.wait() => return service_ended(ended),
            }
        }
    }

    /// Waits until every message has arrived, or until nothing arrived for the time of `--drain`. If the run ends in
    /// another way, returns how.
    async fn drain(&mut self, done: &mut oneshot::Receiver<()>) -> Option<End> {
        let (mut looks, mut ticks) = (interval(LOOK), interval(Duration::from_secs(1)));
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        ticks.reset();
        let (mut progress, mut since) = (self.run.meters.counts(), Instant::now());
        // Overdue messages of an open loop are still sent, because without them the worst latencies would be missing.
        let patience = since + self.run.plan.args.drain;
        loop {
            tokio::select! {
                biased;
                _ = &mut *done, if !self.published => self.published = true,
                _ = looks.tick() => {
                    let counts = self.run.meters.counts();
                    if !self.published && Instant::now() > patience {
                        self.run.stop();
                    }
                    if counts != progress {
                        (progress, since) = (counts, Instant::now());
                    }
                    let arrived = || self.run.plan.consumers == 0 || self.run.ledger.verify().lost == 0;
                    if self.published && arrived() || since.elapsed() > self.run.plan.args.drain {
                        return None;
                    }
                }
                _ = ticks.tick() => self.tick(),
                _ = self.interrupts.recv() => return Some(End::Interrupted),
                ended = self.service.wait() => return Some(service_ended(ended)),
            }
        }
    }

    /// Reports the time since the last call, unless that was just now and nothing has happened since.
    fn tick(&mut self) {
        let (now, counts) = (Instant::now(), self.run.meters.counts());
        if now - self.last.0 < SHORTEST && counts == self.last.1 {
            return;
        }
        let phase = self.phase(self.last.0 + (now - self.last.0) / 2);
        let (confirm, end_to_end) = self.run.meters.second();
        let new = counts.since(self.last.1);
        let elapsed = (now - self.last.0).as_secs_f64().max(1e-9);
        self.last = (now, counts);
        let rate = |count: u64| count as f64 / elapsed;
        let consumed = self.run.plan.consumers > 0;
        let shown = if consumed { &end_to_end } else { &confirm };
        let (us, settled) = (
            |times: &Times, quantile: f64| micros(times.at(quantile)),
            if consumed { counts.handled } else { counts.confirmed },
        );
        let second = Second {
            at_s: (now - self.start).as_secs_f64(),
            phase,
            published_per_s: rate(new.published),
            confirmed_per_s: rate(new.confirmed),
            handled_per_s: rate(new.handled),
            published_mb_per_s: rate(new.published_bytes) / 1e6,
            handled_mb_per_s: rate(new.handled_bytes) / 1e6,
            p50_us: us(shown, 0.5),
            p95_us: us(shown, 0.95),
            p99_us: us(shown, 0.99),
            max_us: micros(shown.max()),
            confirm_p50_us: us(&confirm, 0.5),
            confirm_p99_us: us(&confirm, 0.99),
            in_flight: counts.published.saturating_sub(settled),
        };
        self.live.show(&second, &counts, &self.service.connections());
        self.seconds.push(second);
    }

    fn phase(&self, at: Instant) -> Phase {
        match &self.end {
            Some((end, ..)) if at >= *end => Phase::Drain,
            _ if at < self.from => Phase::WarmUp,
            _ => Phase::Measure,
        }
    }

    /// Returns the seconds, and the totals between the warm-up and the end.
    pub(crate) fn finish(self) -> (Vec<Second>, Measured) {
        self.live.finish();
        let now = Instant::now();
        let (begin, used) = self.begin.unwrap_or_default();
        let (mut until, mut counts, mut usage) = self.end.unwrap_or((now, self.run.meters.counts(), Usage::now()));
        if self.run.plan.args.count.is_some() || self.run.plan.args.guarantees {
            // Messages that arrive during the drain count too, so the measurement ends with the last of them. Otherwise
            // a way whose messages take longer than the measurement would have handled none.
            (counts, usage) = (self.run.meters.counts(), Usage::now());
            until = self.run.meters.last().unwrap_or(now);
        }
        let usage = usage.zip(used).map(|(usage, used)| usage.since(used));
        let time = until.saturating_duration_since(self.from);
        (self.seconds, Measured { time, counts: counts.since(begin), usage })
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}

fn service_ended<E: std::fmt::Display>(ended: Result<(), E>) -> End {
    match ended {
        Ok(()) => End::ServiceEnded("it was shut down".to_owned()),
        Err(why) => End::ServiceEnded(why.to_string()),
    }
}
