//! Shows what happens to the tree and to the messages during a failure.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use examples::wrapped;
use fluffle::{
    Error,
    amqp::{ConsumerStats, PublisherStats},
    prelude::*,
    supervise::{Event, EventStream, What},
};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::flow::Flow;

/// How long a part may take to end, and how long to recover.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most characters of a line of the tree that are shown.
const WIDTH: usize = 92;

/// Watches one part of the tree from before a failure until the part has recovered.
pub(crate) struct Watch<'a> {
    service: &'a Service,
    flow: &'a Flow,
    part: &'static str,
    began: Instant,
    events: Arc<Mutex<Vec<Event>>>,
    deaths: watch::Receiver<usize>,
    listening: JoinHandle<()>,
    before: Counts,
}

/// The counts at one moment.
struct Counts {
    publisher: PublisherStats,
    consumer: ConsumerStats,
    redelivered: u64,
    repeats: usize,
}

impl Counts {
    fn now(service: &Service, flow: &Flow) -> Self {
        let consumers = service.consumers();
        let ticks = consumers.into_iter().find(|(name, _)| name == "ticks").map(|(_, stats)| stats);
        Self {
            publisher: flow.stats(),
            consumer: ticks.unwrap_or_default(),
            redelivered: flow.redelivered.load(std::sync::atomic::Ordering::Relaxed),
            repeats: flow.seen.repeats(),
        }
    }
}

impl<'a> Watch<'a> {
    /// Shows the part of the tree at the path `part`, and begins to listen to its events.
    pub(crate) async fn begin(service: &'a Service, flow: &'a Flow, part: &'static str) -> Result<Self, Error> {
        // Wait until messages flow, so that some are in flight.
        flow.seen.count(flow.seen.distinct() + 50).await?;
        let events = Arc::<Mutex<Vec<Event>>>::default();
        let (died, deaths) = watch::channel(0);
        let listening = actix::spawn(listen(service.events(), Arc::clone(&events), died));
        let before = Counts::now(service, flow);
        let watch = Self { service, flow, part, began: Instant::now(), events, deaths, listening, before };
        println!("\n  before:\n");
        watch.draw();
        Ok(watch)
    }

    /// Prints the current state of the part of the tree.
    pub(crate) fn draw(&self) {
        let tree = self.service.snapshot();
        let part = tree.find(self.part).unwrap_or(&tree).to_string();
        for line in part.lines() {
            // The reasons are shown in full below, and each child of an ended part was "stopped on request".
            let line = line.trim_end_matches("  last exit: stopped on request");
            let long = line.chars().count() > WIDTH;
            println!("    {}{}", line.chars().take(WIDTH).collect::<String>(), if long { "…" } else { "" });
        }
    }

    /// Waits until `deaths` actors have ended, all parts run again, and all published messages are handled. Then prints
    /// the result.
    pub(crate) async fn end(mut self, deaths: usize) -> Result<(), Error> {
        let died = timeout(PATIENCE, self.deaths.wait_for(|died| *died >= deaths)).await;
        died.map_err(|_| Error::other("no part ended"))?.map_err(Error::other)?;
        let ready = timeout(PATIENCE, self.service.ready()).await;
        ready.map_err(|_| Error::other("it did not recover"))??;
        let recovered = self.began.elapsed();
        self.flow.seen.all_of(&self.flow.published()).await?;
        // Redelivered messages come a little later.
        self.flow.seen.count(self.flow.seen.distinct() + 40).await?;
        self.listening.abort();

        println!("\n  what ended, and the waits before its restarts:\n");
        self.tell_events();
        println!("\n  after, {:.2} s later:\n", recovered.as_secs_f64());
        self.draw();
        self.tell_messages();
        Ok(())
    }

    fn tell_events(&self) {
        let mut reasons: BTreeMap<Arc<str>, (Instant, String, Vec<Duration>)> = BTreeMap::new();
        for Event { at, path, what } in self.events.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            match what {
                What::Exited { reason } if !reason.is_normal() => {
                    reasons.entry(Arc::clone(path)).or_insert_with(|| (*at, reason.to_string(), Vec::new()));
                }
                What::Backoff { delay, .. } => {
                    if let Some((_, _, waits)) = reasons.get_mut(path) {
                        waits.push(*delay);
                    }
                }
                _ => {}
            }
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, (at, _, _))| *at);
        for (path, (at, reason, waits)) in reasons {
            println!("    {:6.3} s  {path}", at.saturating_duration_since(self.began).as_secs_f64());
            println!("{}", wrapped(&reason, 14));
            let waits: Vec<String> = waits.iter().map(|wait| format!("{} ms", wait.as_millis())).collect();
            if !waits.is_empty() {
                println!("{}", wrapped(&format!("waited {}", waits.join(", then ")), 14));
            }
        }
    }

    fn tell_messages(&self) {
        let (before, now) = (&self.before, Counts::now(self.service, self.flow));
        println!("\n  the messages meanwhile:\n");
        let confirmed = now.publisher.confirmed - before.publisher.confirmed;
        println!("    {confirmed:>5} confirmed and handled");
        for (count, what) in [
            (
                now.consumer.crashed - before.consumer.crashed,
                "in hand of the actor that crashed, each charged one attempt",
            ),
            (now.consumer.retried - before.consumer.retried, "sent through the retry queue"),
            (
                now.publisher.republished - before.publisher.republished,
                "published again under the same id: the connection was lost before their confirm",
            ),
            (now.redelivered - before.redelivered, "delivered again by the broker"),
            ((now.repeats - before.repeats) as u64, "handled twice: their handler finished, but its ack was lost"),
        ] {
            if count > 0 {
                println!("    {count:>5} {what}");
            }
        }
    }
}

/// Records the events, and counts the actors that ended.
async fn listen(mut stream: EventStream, events: Arc<Mutex<Vec<Event>>>, died: watch::Sender<usize>) {
    while let Some(next) = stream.next().await {
        // A slow reader misses events, but this one only records them.
        let Ok(event) = next else { continue };
        if matches!(&event.what, What::Exited { reason } if !reason.is_normal()) {
            died.send_modify(|deaths| *deaths += 1);
        }
        events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}
