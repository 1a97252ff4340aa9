//! The publishers, and their settings.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use fluffle::{
    amqp::{Confirmed, Payload, Receipt, Republish, WhenFull},
    prelude::*,
    store::AppendErrorKind,
};
use tokio::task::JoinSet;

use crate::{
    fact::{Fact, Facts},
    handlers::Types,
    id::{BodyType, Id, Lane},
    script::Script,
};

/// How a publisher publishes.
///
/// A new kind is a new variant. It needs a [`Route`] in `Post::route`, its handling of results in [`Post::run`], and
/// a row in [`STEADY`] or [`MORTAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublisherKind {
    /// `publish`, one message at a time. Some messages that were refused, or whose result is unknown, are published
    /// again under the same id.
    Awaited,
    /// `enqueue` into a window: many in flight.
    Windowed,
    /// `enqueue` with `Confirms::Each`: one on the wire, more in the mailbox.
    Each,
    /// `enqueue` into a small journal, which may be full. A message on the disk is promised, whatever happens to the
    /// process, and the publisher waits for nothing more.
    Journaled(WhenFull),
    /// `Confirms::Off`: nothing is promised once the message is written to the socket.
    Off,
}

/// One publisher.
#[derive(Clone, Copy, Debug)]
pub struct Post {
    kind: PublisherKind,
    lane: Lane,
    gzip: bool,
    batches: bool,
}

const fn post(kind: PublisherKind, lane: Lane, gzip: bool) -> Post {
    Post { kind, lane, gzip, batches: false }
}

/// A publisher that publishes in batches.
const fn batches(kind: PublisherKind, lane: Lane, gzip: bool) -> Post {
    Post { kind, lane, gzip, batches: true }
}

/// The publishers of the surviving process.
pub const STEADY: [Post; 17] = [
    post(PublisherKind::Awaited, Lane::Wild, false),
    post(PublisherKind::Windowed, Lane::Wild, true),
    post(PublisherKind::Each, Lane::Order, false),
    post(PublisherKind::Awaited, Lane::Order, true),
    post(PublisherKind::Windowed, Lane::Once, true),
    post(PublisherKind::Awaited, Lane::Once, false),
    post(PublisherKind::Journaled(WhenFull::Error), Lane::Once, false),
    post(PublisherKind::Off, Lane::Most, true),
    batches(PublisherKind::Windowed, Lane::Wild, true),
    batches(PublisherKind::Each, Lane::Order, false),
    batches(PublisherKind::Journaled(WhenFull::Error), Lane::Once, true),
    batches(PublisherKind::Windowed, Lane::Bulk, false),
    post(PublisherKind::Windowed, Lane::Bulk, true),
    post(PublisherKind::Awaited, Lane::Both, true),
    batches(PublisherKind::Windowed, Lane::Both, false),
    post(PublisherKind::Windowed, Lane::Story, true),
    batches(PublisherKind::Windowed, Lane::Story, false),
];

/// The publishers of the killed process.
pub const MORTAL: [Post; 8] = [
    post(PublisherKind::Windowed, Lane::Wild, false),
    post(PublisherKind::Each, Lane::Order, true),
    post(PublisherKind::Awaited, Lane::Once, true),
    post(PublisherKind::Journaled(WhenFull::Wait), Lane::Wild, true),
    batches(PublisherKind::Journaled(WhenFull::Wait), Lane::Bulk, true),
    batches(PublisherKind::Windowed, Lane::Order, false),
    batches(PublisherKind::Journaled(WhenFull::Wait), Lane::Both, true),
    post(PublisherKind::Journaled(WhenFull::Wait), Lane::Story, false),
];

/// The largest size of a journal: about sixty messages, so that it is full when a broker is away for a second.
const JOURNAL: u64 = 64 << 10;

/// The most messages, and bytes, of a batch.
const BATCH: u64 = 8;
const BATCH_BYTES: usize = 16 << 10;

/// How long a publisher works.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// The end of the shift.
    pub until: Instant,
    /// The most messages it publishes.
    pub messages: u64,
    /// The average pause between two messages.
    pub pause: Duration,
}

impl Post {
    /// The lane to which it publishes.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    fn route<T: Payload>(&self, adaptive: bool) -> Route<T> {
        let route = Route::queue(self.lane.queue())
            .deadline(self.deadline())
            .confirm_timeout(Duration::from_secs(1))
            .gzip(if self.gzip { Gzip::on() } else { Gzip::Off });
        let batching = if adaptive { Batching::adaptive() } else { Batching::default() };
        let batching = batching.max_items(BATCH as usize).max_bytes(BATCH_BYTES);
        let route = if self.batches { route.batch(batching) } else { route };
        // What a queue refuses goes back to the sender: published again, it may be overtaken by what was on the wire
        // beside it.
        let is_overtaken = (self.kind, self.lane) == (PublisherKind::Windowed, Lane::Order);
        let route = if is_overtaken { route.republish(Republish::Never) } else { route };
        route.confirms(match self.kind {
            PublisherKind::Awaited | PublisherKind::Windowed | PublisherKind::Journaled(_) => Confirms::Window(64),
            PublisherKind::Each => Confirms::Each,
            PublisherKind::Off => Confirms::Off,
        })
    }

    /// An awaited message often ends as unknown; the others have time to outlive the boot of a node.
    fn deadline(&self) -> Duration {
        match self.kind {
            PublisherKind::Awaited => Duration::from_secs(2),
            PublisherKind::Windowed | PublisherKind::Each | PublisherKind::Journaled(_) | PublisherKind::Off => {
                Duration::from_secs(30)
            }
        }
    }

    /// Adds the publisher to the application. `name` determines with the script whether its batches form by themselves,
    /// if it has any. `journal` is the path of its journal, if its kind has one.
    ///
    /// # Errors
    /// If the journal cannot be opened. An earlier life has released it when it was killed.
    pub fn publisher(&self, app: &App, name: &str, script: Script, journal: &Path) -> Result<Out, fluffle::Error> {
        let adaptive = script.batches_are_adaptive(name);
        Ok(match self.lane {
            Lane::Both => Out::OfBoth(self.typed(app, adaptive, journal)?),
            _ => Out::OfText(self.typed(app, adaptive, journal)?),
        })
    }

    fn typed<T: Payload>(&self, app: &App, adaptive: bool, journal: &Path) -> Result<Publisher<T>, fluffle::Error> {
        let mut route = self.route(adaptive);
        if let Some(journal) = self.journal(journal)? {
            route = route.journal(journal);
        }
        Ok(app.publisher(route))
    }

    /// Opens its journal, if its kind has one.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn journal(&self, path: &Path) -> Result<Option<Journal>, fluffle::Error> {
        let PublisherKind::Journaled(when_full) = self.kind else { return Ok(None) };
        let options = Journal::options().max_bytes(JOURNAL).when_full(when_full);
        Ok(Some(options.open(path).map_err(fluffle::Error::other)?))
    }

    /// Publishes until the shift is over and every answer has come. Then reports that it is quiet.
    pub async fn run(self, out: Out, source: String, script: Script, facts: Facts, shift: Shift) {
        match out {
            Out::OfText(out) => self.run_typed(out, source, script, facts, shift).await,
            Out::OfBoth(out) => self.run_typed(out, source, script, facts, shift).await,
        }
    }

    async fn run_typed<T: Body>(self, out: Publisher<T>, source: String, script: Script, facts: Facts, shift: Shift) {
        let mut answers = JoinSet::new();
        let mut random = Rng::new();
        for number in 0..shift.messages {
            if Instant::now() >= shift.until {
                break;
            }
            let id = Id { lane: self.lane, source: source.clone(), number };
            let sending = Sending::begin(&out, &id, self.batches, script, &facts);
            match self.kind {
                PublisherKind::Awaited => sending.until_it_is_there(id.is_calm()).await,
                PublisherKind::Off => drop(sending.publish().await),
                PublisherKind::Journaled(_) => {
                    if let Some(receipt) = sending.enqueue().await {
                        answers.spawn_local(async move { sending.promised(receipt.journaled().await) });
                    }
                }
                PublisherKind::Windowed | PublisherKind::Each => {
                    if let Some(receipt) = sending.enqueue().await {
                        answers.spawn_local(async move { sending.answered(receipt.confirmed().await) });
                    }
                }
            }
            while answers.try_join_next().is_some() {}
            // Publish a batch at a time, and now and then less than a full one.
            let at_once = if self.batches { random.u64(1..=BATCH) } else { 1 };
            if (number + 1).is_multiple_of(at_once) {
                tokio::time::sleep(shift.pause.mul_f64(2.0 * at_once as f64 * random.f64())).await;
            }
        }
        while answers.join_next().await.is_some() {}
        facts.tell(&Fact::Quiet(source));
    }
}

/// The publisher of a post.
#[derive(Clone)]
pub enum Out {
    /// Of texts.
    OfText(Publisher<String>),
    /// Of the lane with two types.
    OfBoth(Publisher<OneOf<Types>>),
}

/// A body in the type of its publisher.
trait Body: Payload {
    fn of(id: &Id, text: String) -> Self;
}

impl Body for String {
    fn of(_: &Id, text: String) -> Self {
        text
    }
}

impl Body for OneOf<Types> {
    fn of(id: &Id, text: String) -> Self {
        match id.body_type() {
            BodyType::Text => OneOf::new(text),
            BodyType::Bytes => OneOf::new(text.into_bytes()),
        }
    }
}

/// A message being published.
struct Sending<T> {
    out: Publisher<T>,
    id: Id,
    /// Whether it is in a batch, which chooses its id.
    batched: bool,
    script: Script,
    facts: Facts,
    republished: u64,
}

/// The most times that one message is published.
const TRIES: u32 = 3;

impl<T: Body> Sending<T> {
    fn begin(out: &Publisher<T>, id: &Id, batched: bool, script: Script, facts: &Facts) -> Self {
        let republished = out.stats().republished;
        Self { out: out.clone(), id: id.clone(), batched, script, facts: facts.clone(), republished }
    }

    fn body(&self) -> T {
        T::of(&self.id, self.script.body(&self.id))
    }

    fn options(&self) -> MessageOptions {
        MessageOptions::new().id(self.id.to_string())
    }

    /// Publishes the message. Returns whether the broker has it.
    async fn publish(&self) -> bool {
        self.facts.tell(&Fact::Try(self.id.clone()));
        self.answered(self.out.publish_with(self.body(), self.options()).await)
    }

    async fn until_it_is_there(&self, once: bool) {
        // Only every second message is tried again. The others check that a refused message does not arrive.
        let tries = if once || self.id.number.is_multiple_of(2) { 1 } else { TRIES };
        for _ in 0..tries {
            if self.publish().await {
                return;
            }
        }
    }

    async fn enqueue(&self) -> Option<Receipt<T>> {
        self.facts.tell(&Fact::Try(self.id.clone()));
        let body = self.body();
        let accepted =
            if self.batched { self.out.enqueue(body).await } else { self.out.enqueue_with(body, self.options()).await };
        match accepted {
            Ok(receipt) => Some(receipt),
            Err(error) => {
                self.answered(Err(error));
                None
            }
        }
    }

    /// The message is on the disk: the publisher is responsible for it from here on.
    fn promised(&self, promise: Result<Receipt<T>, PublishError<T>>) -> bool {
        let receipt = promise.map(|receipt| Confirmed { id: receipt.id().into() });
        self.answered(receipt)
    }

    fn answered(&self, answer: Result<Confirmed, PublishError<T>>) -> bool {
        let id = self.id.clone();
        let fact = match answer {
            Ok(confirmed) => {
                self.facts.tell(&Fact::Named(id.clone(), confirmed.id.into()));
                Fact::Yes(id)
            }
            Err(error) if matches!(error.kind(), PublishErrorKind::Journal(AppendErrorKind::Store(_))) => {
                Fact::Unwritten(id, error.kind().to_string())
            }
            Err(error) => {
                let why = error.kind().to_string();
                let sure = match error.kind() {
                    _ if error.is_certainly_not_sent() => true,
                    // A message published twice may have arrived, even if the second publish was refused.
                    PublishErrorKind::Nacked | PublishErrorKind::Returned(_) => {
                        self.out.stats().republished == self.republished
                    }
                    _ => false,
                };
                if sure { Fact::No(id, why) } else { Fact::Maybe(id, why) }
            }
        };
        self.facts.tell(&fact);
        matches!(fact, Fact::Yes(_))
    }
}
