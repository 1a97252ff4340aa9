//! A steady flow of numbered messages, and their count.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    panic::resume_unwind,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use examples::{Seen, messages::Tick};
use fluffle::{amqp::PublisherStats, prelude::*};
use tokio::{task::JoinHandle, time::interval};

/// Handles the messages. Each takes some time, so that some are always in flight.
pub(crate) struct Counter {
    pub(crate) seen: Seen,
    pub(crate) redelivered: Arc<AtomicU64>,
    pub(crate) panic_next: Arc<AtomicBool>,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Delivery<Tick>> for Counter {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, tick: Delivery<Tick>, _: &mut Self::Context) -> Self::Result {
        if tick.redelivered() {
            self.redelivered.fetch_add(1, Relaxed);
        }
        if self.panic_next.swap(false, Relaxed) {
            // Like `panic!`, but prints nothing to the terminal.
            resume_unwind(Box::new(format!("message {} was too much for me", tick.number)));
        }
        let seen = self.seen.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(35)).await;
            seen.note(&tick);
            Ok(())
        })
    }
}

/// Publishes a hundred messages a second, each confirmed.
pub(crate) struct Flow {
    out: Publisher<Tick>,
    published: Rc<RefCell<BTreeSet<String>>>,
    stop: Arc<AtomicBool>,
    pub(crate) seen: Seen,
    /// How many deliveries the broker had marked as redelivered.
    pub(crate) redelivered: Arc<AtomicU64>,
    /// Whether the handler panics on the next message.
    pub(crate) panic_next: Arc<AtomicBool>,
}

impl Flow {
    pub(crate) fn new(out: Publisher<Tick>) -> Self {
        Self {
            out,
            published: Rc::default(),
            stop: Arc::default(),
            seen: Seen::new(),
            redelivered: Arc::default(),
            panic_next: Arc::default(),
        }
    }

    /// Starts the flow. While the broker is away, messages wait in the publisher; if its mailbox is full, the flow
    /// waits, too.
    pub(crate) fn run(&self) -> JoinHandle<()> {
        let (out, published, stop) = (self.out.clone(), Rc::clone(&self.published), Arc::clone(&self.stop));
        actix::spawn(async move {
            let mut pace = interval(Duration::from_millis(10));
            for number in 1.. {
                pace.tick().await;
                if stop.load(Relaxed) {
                    return;
                }
                if let Ok(receipt) = out.enqueue(Tick { number }).await {
                    // The receipt can be dropped: `flush` waits for the confirm, and the stats count it.
                    published.borrow_mut().insert(receipt.id().to_owned());
                }
            }
        })
    }

    /// The ids published so far.
    pub(crate) fn published(&self) -> BTreeSet<String> {
        self.published.borrow().clone()
    }

    pub(crate) fn stats(&self) -> PublisherStats {
        self.out.stats()
    }

    /// How many messages are accepted and not confirmed.
    pub(crate) fn waiting(&self) -> u64 {
        let PublisherStats { accepted, confirmed, returned, nacked, failed, .. } = self.out.stats();
        accepted - confirmed - returned - nacked - failed
    }

    /// Ends the flow, waits for the last confirm and the last handler, and counts.
    pub(crate) async fn finish(&self, running: JoinHandle<()>) -> Outcome {
        self.stop.store(true, Relaxed);
        // The task ends by itself, at its next message.
        let _ = running.await;
        self.out.flush().await;
        let published = self.published();
        // Messages that are not handled within a minute are counted as lost.
        let _ = self.seen.all_of(&published).await;
        let lost = self.seen.missing(&published);
        Outcome {
            published: published.len(),
            confirmed: self.out.stats().confirmed,
            handled: published.len() - lost,
            redelivered: self.redelivered.load(Relaxed),
            repeats: self.seen.repeats(),
            lost,
        }
    }
}

/// The result of the flow. `Display` ends with the line of counts.
pub(crate) struct Outcome {
    published: usize,
    confirmed: u64,
    handled: usize,
    redelivered: u64,
    repeats: usize,
    lost: usize,
}

impl Outcome {
    /// Whether every published message was confirmed and handled.
    pub(crate) fn is_whole(&self) -> bool {
        self.lost == 0 && self.confirmed == self.published as u64
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { published, confirmed, handled, redelivered, repeats, lost } = self;
        writeln!(
            f,
            "  {confirmed} of {published} were confirmed, {handled} handled, {repeats} of them twice (at least once).\n"
        )?;
        write!(f, "restart_on_failure: published={published} handled={handled} redelivered={redelivered} lost={lost}")
    }
}
