//! The settings of a relay.

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use fluffle_amqp::{Backlog, Forwarder, Retry};
use fluffle_supervise::{ActorSpec, Backoff, ChildSpec};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{actor::RelayActor, rows::Limits, shared::Shared, table::Table};

/// The most rows in hand: the capacity of a forwarder's mailbox.
const MOST_IN_HAND: usize = 1024;

/// The longest time that published rows are kept: ten years, an interval that every database can subtract.
const LONGEST_KEPT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a relay may take to stop: it waits for the confirms of the current batch and marks the rows.
const SHUTDOWN: Duration = Duration::from_secs(12);

/// A backoff of its own, because the default's maximum of 30 s is long for a database that is back.
fn backoff() -> Backoff {
    Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10)).unwrap_or_default()
}

/// Publishes the messages that committed transactions have left in an outbox table. A relay is an actor for
/// `App::supervise`.
///
/// The relay claims the oldest rows that are due and publishes them through its forwarder, in order. While the broker
/// accepts messages, it marks those that have their result and claims others, at most half of [`batch`](Self::batch) at
/// a time. If there is nothing to claim, it sleeps until it is [woken](Self::waker), or for the poll interval. The
/// [crate's page](crate) says what it guarantees.
///
/// | setting | default |
/// |---|---|
/// | [`poll_every`](Self::poll_every) | 200 ms |
/// | [`batch`](Self::batch) | 500 rows |
/// | [`batch_bytes`](Self::batch_bytes) | 16 MiB |
/// | [`retry`](Self::retry) | [`Retry::default`]: refused 5 times, after waits of 1, 5, 25 and 125 s, a row is parked |
/// | [`keep_published`](Self::keep_published) | no: published rows are deleted |
/// | [`backoff`](Self::backoff) | 100 ms to 10 s, full jitter, reset after 10 s |
/// | [`name`](Self::name) | `outbox` |
///
/// Several relays may work on one table, in one process or many: each row is claimed by one of them. Only a single
/// relay keeps the order.
///
/// A row is marked with the next claim after its confirm, at the latest when nothing else is under way. A confirm takes
/// 30 s at most.
///
/// When the service shuts down, the relay claims no more rows, marks those that are confirmed, waits up to 8 s for the
/// other confirms, and gives the rest back to the table. With a shorter `App::drain_within`, or if the handlers took
/// most of it, there may be no time for that: those rows then wait until their lease ends, and are published again.
///
/// ```no_run
/// use std::time::Duration;
/// use fluffle::{App, amqp::Broker};
/// use fluffle_outbox::Relay;
///
/// # async fn run(pool: sqlx::SqlitePool) -> Result<(), Box<dyn std::error::Error>> {
/// let app = App::new(Broker::from_env()?);
/// let relay = Relay::new(pool, app.forwarder("outbox"))
///     .poll_every(Duration::from_millis(50))
///     .keep_published(Duration::from_secs(24 * 3600));
/// app.supervise(relay).run_until_signal().await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a relay works once it is given to a service: `app.supervise(relay)`"]
pub struct Relay {
    name: String,
    backoff: Backoff,
    shared: Shared,
}

impl Relay {
    /// A relay from a table (made from a `PgPool` or a `SqlitePool`) to a forwarder. Give each relay a forwarder of its
    /// own.
    pub fn new(table: impl Into<Table>, forwarder: Forwarder) -> Self {
        Self {
            name: "outbox".to_owned(),
            backoff: backoff(),
            shared: Shared {
                table: table.into(),
                forwarder,
                claimant: Uuid::now_v7().to_string(),
                poll: Duration::from_millis(200),
                limits: Limits { rows: 500, bytes: 16 << 20 },
                retry: Retry::default(),
                keep: None,
                wake: Arc::default(),
                unmarked: Mutex::default(),
            },
        }
    }

    /// How long the relay sleeps if there is nothing to publish and nobody wakes it. At least 1 ms. Each poll is one
    /// query.
    pub fn poll_every(mut self, interval: Duration) -> Self {
        self.shared.poll = interval.max(Duration::from_millis(1));
        self
    }

    /// The most rows in hand: claimed, and not yet marked; 1 to 1024. It is also the most that is published twice if
    /// the process dies. With 1, each row is marked before the next one is claimed.
    pub fn batch(mut self, rows: usize) -> Self {
        self.shared.limits.rows = rows.clamp(1, MOST_IN_HAND);
        self
    }

    /// The most bytes in hand. A message of more than half of it is published when nothing else is in hand.
    pub fn batch_bytes(mut self, bytes: u64) -> Self {
        self.shared.limits.bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self
    }

    /// How often, and after which waits, a message is tried again that the broker refuses for good: the broker returns
    /// it, or closes the channel because of it. After the last try its row is parked: it keeps the error and waits for
    /// a person. If the broker is away or nacks, that does not count here.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.shared.retry = retry;
        self
    }

    /// Keeps the rows of published messages for this long, at most ten years, marked with `published_at`, instead of
    /// deleting them at once. Once a minute the relay deletes rows past this age, 1000 at a time.
    pub fn keep_published(mut self, age: Duration) -> Self {
        self.shared.keep = Some(age.min(LONGEST_KEPT));
        self
    }

    /// The waits between restarts while the database cannot be reached.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The relay's name in the tree: `app/application/outbox`. A second relay of the same service needs another name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Returns a handle that wakes the relay after a commit, so that the messages are sent at once.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(Arc::clone(&self.shared.wake))
    }
}

impl From<Relay> for ChildSpec {
    fn from(relay: Relay) -> Self {
        let shared = Arc::new(relay.shared);
        let backlog: Weak<dyn Backlog> = Arc::<Shared>::downgrade(&shared);
        shared.forwarder.fed_by(backlog);
        let spec = ActorSpec::new(relay.name, move || RelayActor::new(&shared));
        spec.backoff(relay.backoff).shutdown(SHUTDOWN).into()
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("name", &self.name).field("table", &self.shared.table).finish_non_exhaustive()
    }
}

/// Wakes a [`Relay`] of this process. Cheap to clone. Several wakes while the relay works count as one.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Wakes the relay. Call it after the commit, because the relay cannot see the rows before.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}
