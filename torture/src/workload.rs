//! Who publishes and who consumes, and on which terms.

use std::{
    path::Path,
    process,
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use fluffle::{
    amqp::{Confirmed, SeenError, WhenFull},
    prelude::*,
    store::AppendErrorKind,
    wire::headers,
};
use futures_util::future::{BoxFuture, FutureExt, ready};
use tokio::task::JoinSet;

use crate::{
    fact::{Fact, Facts},
    id::{Id, Lane},
    script::{ATTEMPTS, Act, DELIVERIES, Script},
};

/// How a publisher publishes.
///
/// A new kind is a new variant: its [`Route`] in [`Post::route`], its way with outcomes in [`Post::run`], and a row in
/// [`STEADY`] or [`MORTAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublisherKind {
    /// `publish`: one message at a time. What was refused, or is unknown, is published again under its id, now and then.
    Awaited,
    /// `enqueue` into a window: many in flight.
    Windowed,
    /// `enqueue` with `Confirms::Each`: one on the wire, more in the mailbox.
    Each,
    /// `enqueue` into a small journal, which may be full: what is on the disk is promised, whatever becomes of the process, and
    /// nobody waits for more.
    Journaled(WhenFull),
    /// `Confirms::Off`: nothing is promised past the socket.
    Off,
}

/// One publisher.
#[derive(Clone, Copy, Debug)]
pub struct Post {
    kind: PublisherKind,
    lane: Lane,
    gzip: bool,
}

const fn post(kind: PublisherKind, lane: Lane, gzip: bool) -> Post {
    Post { kind, lane, gzip }
}

/// The publishers of the process that lives through it all.
pub const STEADY: [Post; 8] = [
    post(PublisherKind::Awaited, Lane::Wild, false),
    post(PublisherKind::Windowed, Lane::Wild, true),
    post(PublisherKind::Each, Lane::Order, false),
    post(PublisherKind::Awaited, Lane::Order, true),
    post(PublisherKind::Windowed, Lane::Once, true),
    post(PublisherKind::Awaited, Lane::Once, false),
    post(PublisherKind::Journaled(WhenFull::Error), Lane::Once, false),
    post(PublisherKind::Off, Lane::Most, true),
];

/// The publishers of the process that is killed.
pub const MORTAL: [Post; 4] = [
    post(PublisherKind::Windowed, Lane::Wild, false),
    post(PublisherKind::Each, Lane::Order, true),
    post(PublisherKind::Awaited, Lane::Once, true),
    post(PublisherKind::Journaled(WhenFull::Wait), Lane::Wild, true),
];

/// The most bytes of a journal: about sixty messages, so that it is full when a broker is away for a second.
const JOURNAL: u64 = 64 << 10;

/// The consumers of the process that lives through it all.
///
/// Effectively once is among them because its mark is in memory: between an effect and its mark a killed process repeats the
/// effect, unless the application writes both in one transaction.
pub const STEADY_CONSUMERS: [Lane; 1] = [Lane::Once];

/// The consumers of the process that is killed.
pub const MORTAL_CONSUMERS: [Lane; 3] = [Lane::Wild, Lane::Order, Lane::Most];

/// How long one publisher goes on.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// Until then.
    pub until: Instant,
    /// Or until it has published so many.
    pub messages: u64,
    /// The pause between two messages, on average.
    pub pause: Duration,
}

/// A configuration that notices and mends fast, so that a short run sees much.
///
/// # Errors
/// When the URL is none.
pub fn client(url: &str, name: &str) -> Result<Broker, fluffle::Error> {
    let waits = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(300))?;
    let broker = Broker::new(url)?.name(name).reconnect(waits);
    Ok(broker.heartbeat(Duration::from_secs(1)).connect_timeout(Duration::from_secs(2)))
}

/// A queue for each lane. The ordered one has a single active consumer: while a broker does not know yet that a connection is
/// dead it has messages on it, and a second consumer would be given later ones.
pub fn topology() -> Topology {
    Lane::ALL.into_iter().fold(Topology::new(), |topology, lane| {
        let queue = Queue::quorum(lane.queue());
        topology.queue(match lane {
            Lane::Wild | Lane::Once => queue.dead_letter(),
            Lane::Order => queue.dead_letter().single_active_consumer(),
            Lane::Most => queue,
        })
    })
}

/// Adds the consumers of these lanes.
///
/// # Errors
/// None with the settings below.
pub fn consume(
    mut app: App,
    lanes: &[Lane],
    store: &Arc<Store>,
    script: Script,
    facts: &Facts,
) -> Result<App, fluffle::Error> {
    let retry = Retry::exponential(ATTEMPTS, Duration::from_millis(20), 2.0)?;
    let crashed = Backoff::exponential(Duration::from_millis(5), Duration::from_millis(100))?;
    for lane in lanes {
        let consume = Consume::queue(lane.queue()).prefetch(32).handler_backoff(crashed);
        let consume = consume.retry(retry.clone()).delivery_limit(DELIVERIES);
        let consume = match lane {
            Lane::Wild => consume.instances(2).handler_timeout(Duration::from_secs(1)),
            Lane::Order => consume.concurrency(1),
            Lane::Once => consume.instances(2).effectively_once(store.clone()),
            Lane::Most => consume.guarantee(AtMostOnce),
        };
        let facts = facts.clone();
        app = app.consume(consume, move || Scripted { script, facts: facts.clone() });
    }
    Ok(app)
}

/// Reads the dead letters of every lane that has some.
///
/// # Errors
/// None with the settings below.
pub fn bury(broker: Broker, facts: &Facts) -> App {
    Lane::ALL.into_iter().filter(|lane| lane.loses_nothing()).fold(App::new(broker), |app, lane| {
        let facts = facts.clone();
        let consume = Consume::queue(format!("{}.dead", lane.queue())).retry(Retry::none());
        app.consume(consume, move || Undertaker { facts: facts.clone() })
    })
}

impl Post {
    /// Where it publishes to.
    pub fn lane(&self) -> Lane {
        self.lane
    }

    fn route(&self) -> Route<String> {
        let route = Route::queue(self.lane.queue())
            .deadline(self.deadline())
            .confirm_timeout(Duration::from_secs(1))
            .gzip(if self.gzip { Gzip::on() } else { Gzip::Off });
        route.confirms(match self.kind {
            PublisherKind::Awaited | PublisherKind::Windowed | PublisherKind::Journaled(_) => Confirms::Window(64),
            PublisherKind::Each => Confirms::Each,
            PublisherKind::Off => Confirms::Off,
        })
    }

    /// Awaited ones are often unsure whether the broker has a message; the others outlive a node's boot.
    fn deadline(&self) -> Duration {
        match self.kind {
            PublisherKind::Awaited => Duration::from_secs(2),
            PublisherKind::Windowed | PublisherKind::Each | PublisherKind::Journaled(_) | PublisherKind::Off => {
                Duration::from_secs(30)
            }
        }
    }

    /// Adds its publisher to the application; `journal` is where it keeps its journal, if it is of that kind.
    ///
    /// # Errors
    /// When the journal cannot be opened: an earlier life, killed, has let go of it.
    pub fn publisher(&self, app: &App, journal: &Path) -> Result<Publisher<String>, fluffle::Error> {
        let mut route = self.route();
        if let Some(journal) = self.journal(journal)? {
            route = route.journal(journal);
        }
        Ok(app.publisher(route))
    }

    /// Its journal, if it is of that kind.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn journal(&self, path: &Path) -> Result<Option<Journal>, fluffle::Error> {
        let PublisherKind::Journaled(when_full) = self.kind else { return Ok(None) };
        let options = Journal::options().max_bytes(JOURNAL).when_full(when_full);
        Ok(Some(options.open(path).map_err(fluffle::Error::other)?))
    }

    /// Publishes until the shift is over and every answer is there, then says that it is quiet.
    pub async fn run(self, out: Publisher<String>, source: String, script: Script, facts: Facts, shift: Shift) {
        let mut answers = JoinSet::new();
        let mut random = Rng::new();
        for number in 0..shift.messages {
            if Instant::now() >= shift.until {
                break;
            }
            let id = Id { lane: self.lane, source: source.clone(), number };
            let sending = Sending::begin(&out, &id, script, &facts);
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
            tokio::time::sleep(shift.pause.mul_f64(2.0 * random.f64())).await;
        }
        while answers.join_next().await.is_some() {}
        facts.tell(&Fact::Quiet(source));
    }
}

/// One message on its way.
struct Sending {
    out: Publisher<String>,
    id: Id,
    script: Script,
    facts: Facts,
    republished: u64,
}

/// The most times one message is published.
const TRIES: u32 = 3;

impl Sending {
    fn begin(out: &Publisher<String>, id: &Id, script: Script, facts: &Facts) -> Self {
        let republished = out.stats().republished;
        Self { out: out.clone(), id: id.clone(), script, facts: facts.clone(), republished }
    }

    fn options(&self) -> MessageOptions {
        MessageOptions::new().id(self.id.to_string())
    }

    /// Whether it is there.
    async fn publish(&self) -> bool {
        self.facts.tell(&Fact::Try(self.id.clone()));
        self.answered(self.out.publish_with(self.script.body(&self.id), self.options()).await)
    }

    async fn until_it_is_there(&self, once: bool) {
        // Every second one: for the others it must hold that what was refused is not there.
        let tries = if once || self.id.number.is_multiple_of(2) { 1 } else { TRIES };
        for _ in 0..tries {
            if self.publish().await {
                return;
            }
        }
    }

    async fn enqueue(&self) -> Option<fluffle::amqp::Receipt<String>> {
        self.facts.tell(&Fact::Try(self.id.clone()));
        match self.out.enqueue_with(self.script.body(&self.id), self.options()).await {
            Ok(receipt) => Some(receipt),
            Err(error) => {
                self.answered(Err(error));
                None
            }
        }
    }

    /// It is on the disk: the publisher answers for it from here on, and is left alone with it.
    fn promised(&self, promise: Result<fluffle::amqp::Receipt<String>, PublishError<String>>) -> bool {
        let receipt = promise.map(|receipt| Confirmed { id: receipt.id().into() });
        self.answered(receipt)
    }

    fn answered(&self, answer: Result<Confirmed, PublishError<String>>) -> bool {
        let id = self.id.clone();
        let fact = match answer {
            Ok(_) => Fact::Yes(id),
            Err(error) if matches!(error.kind(), PublishErrorKind::Journal(AppendErrorKind::Store(_))) => {
                Fact::Unwritten(id, error.kind().to_string())
            }
            Err(error) => {
                let why = error.kind().to_string();
                let sure = match error.kind() {
                    PublishErrorKind::Full | PublishErrorKind::Overloaded | PublishErrorKind::Journal(_) => true,
                    // What was published twice may be there though the second was refused.
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

/// Does with each message what the script says, and tells.
struct Scripted {
    script: Script,
    facts: Facts,
}

/// What scripted panics say, for those who need not be told.
pub const PANIC: &str = "scripted panic";

impl Actor for Scripted {
    type Context = Context<Self>;
}

#[allow(clippy::panic, reason = "handlers that panic are what is tortured with")]
impl Handler<Delivery<String>> for Scripted {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, body: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (script, facts) = (self.script, self.facts.clone());
        let id: Id = match body.message_id().unwrap_or_default().parse() {
            Ok(id) => id,
            Err(error) => return Box::pin(async { Err(Failure::reject(error)) }),
        };
        let attempt = body.attempt();
        facts.tell(&Fact::Begin(id.clone(), attempt));
        if *body != script.body(&id) {
            facts.tell(&Fact::Garbled(id.clone()));
        }
        let act = script.act(&id, attempt);
        match act {
            Act::Panic => panic!("{PANIC}"),
            Act::Abort => process::abort(),
            _ => {}
        }
        Box::pin(async move {
            match act {
                Act::Ack => {}
                Act::Slow(time) => tokio::time::sleep(time).await,
                Act::Retry => return Err(Failure::retry("scripted failure")),
                Act::Reject => return Err(Failure::reject("scripted rejection")),
                Act::Panic | Act::PanicLater => panic!("{PANIC}"),
                Act::Abort => process::abort(),
                Act::Hang => std::future::pending().await,
            }
            facts.tell(&Fact::Done(id.clone(), attempt));
            // At most once it was acked before, and nothing more becomes of it.
            if id.lane != Lane::Most {
                let settled = body.settled();
                actix::spawn(async move {
                    if settled.await == Settled::Acked {
                        facts.tell(&Fact::Acked(id, attempt));
                    }
                });
            }
            Ok(())
        })
    }
}

/// Tells of dead letters.
struct Undertaker {
    facts: Facts,
}

impl Actor for Undertaker {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Undertaker {
    type Result = Result<(), Failure>;

    fn handle(&mut self, letter: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let id = letter.message_id().unwrap_or_default().parse().map_err(Failure::reject)?;
        let why = letter.header(headers::REASON).unwrap_or_default().to_owned();
        // `attempt` is what it would be if it were tried again.
        let attempts = letter.header_integer(headers::ATTEMPT).and_then(|attempts| attempts.try_into().ok());
        self.facts.tell(&Fact::Dead(id, attempts.unwrap_or_default(), why));
        Ok(())
    }
}

/// Remembers in memory: for a process that is not killed.
#[derive(Debug, Default)]
pub struct Store(std::sync::Mutex<std::collections::HashSet<String>>);

impl Store {
    fn keys(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<String>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl SeenStore for Store {
    fn contains<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, SeenError>> {
        ready(Ok(self.keys().contains(key))).boxed()
    }

    fn insert<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), SeenError>> {
        self.keys().insert(key.to_owned());
        ready(Ok(())).boxed()
    }
}
