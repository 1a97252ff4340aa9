//! What makes a relay.

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use fluffle_amqp::{Backlog, Forwarder, Retry};
use fluffle_supervise::{ActorSpec, Backoff, ChildSpec};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::{
    actor::{RelayActor, Shared},
    table::Table,
};

/// Most rows in a batch: as many as a forwarder's mailbox takes.
const LARGEST_BATCH: usize = 1024;

/// Longest that published rows are kept: ten years, for an interval that any database can subtract.
const LONGEST_KEPT: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long a relay may take to stop: for the confirms of the batch in hand, and to mark them.
const SHUTDOWN: Duration = Duration::from_secs(12);

/// Its own, since the default's 30 s are long for a database that is back.
fn backoff() -> Backoff {
    Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10)).unwrap_or_default()
}

/// Publishes what committed transactions have left in an outbox table: an actor, for `App::supervise`.
///
/// It claims the oldest rows that are due, publishes them through its forwarder, all at once and in order, and when all
/// have their verdict marks them and claims the next. With nothing to claim it sleeps until it is
/// [woken](Self::waker), or for the poll interval. It holds one batch in memory. What it promises is on the
/// [crate's page](crate).
///
/// | setting | default |
/// |---|---|
/// | [`poll_every`](Self::poll_every) | 200 ms |
/// | [`batch`](Self::batch) | 200 rows |
/// | [`batch_bytes`](Self::batch_bytes) | 16 MiB |
/// | [`retry`](Self::retry) | [`Retry::default`]: refused 5 times, after waits of 1, 5, 25 and 125 s, a row is parked |
/// | [`keep_published`](Self::keep_published) | no: published rows are deleted |
/// | [`backoff`](Self::backoff) | 100 ms to 10 s, full jitter, reset after 10 s |
/// | [`name`](Self::name) | `outbox` |
///
/// Several relays may work on one table, in one process or many: each row is claimed by one of them. A relay on its own keeps
/// the order.
///
/// A batch takes as long as its slowest confirm, 30 s at most.
///
/// When the service shuts down the relay claims nothing more, waits up to 8 s for the confirms of its batch, and gives the
/// rest back to the table. Under a shorter `App::drain_within`, or after handlers that took most of it, there may be no time for
/// that: the rows wait for their lease.
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
    /// A relay from a table (made from a `PgPool` or a `SqlitePool`) to a forwarder, best one of its own.
    pub fn new(table: impl Into<Table>, forwarder: Forwarder) -> Self {
        Self {
            name: "outbox".to_owned(),
            backoff: backoff(),
            shared: Shared {
                table: table.into(),
                forwarder,
                claimant: Uuid::now_v7().to_string(),
                poll: Duration::from_millis(200),
                batch: 200,
                batch_bytes: 16 << 20,
                retry: Retry::default(),
                keep: None,
                wake: Arc::default(),
                unmarked: Mutex::default(),
            },
        }
    }

    /// How long it sleeps when there is nothing to publish and nobody wakes it; at least 1 ms. Each poll is one query.
    pub fn poll_every(mut self, interval: Duration) -> Self {
        self.shared.poll = interval.max(Duration::from_millis(1));
        self
    }

    /// Most rows at a time, 1 to 1024.
    pub fn batch(mut self, rows: usize) -> Self {
        self.shared.batch = rows.clamp(1, LARGEST_BATCH) as i64;
        self
    }

    /// Most bytes at a time; a message that is larger goes alone.
    pub fn batch_bytes(mut self, bytes: u64) -> Self {
        self.shared.batch_bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self
    }

    /// How often, and how long apart, a message is tried that the broker refuses for good: it returns it, closes the channel
    /// over it. Then its row is parked: it keeps the error and waits for a person. A broker that is away or nacks counts for
    /// nothing here.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.shared.retry = retry;
        self
    }

    /// Keeps the rows of published messages for this long, at most ten years, marked with `published_at`, instead of deleting
    /// them at once. The relay looks each minute for those to delete, and does so 1000 at a time.
    pub fn keep_published(mut self, age: Duration) -> Self {
        self.shared.keep = Some(age.min(LONGEST_KEPT));
        self
    }

    /// The waits between restarts while the database is away.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// What it goes by in the tree: `app/application/outbox`. A second relay of a service needs another name.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Wakes it from outside: after a commit, for its messages to leave at once.
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

/// Wakes a [`Relay`] of this process. Cheap to clone; wakes that come while it works are one wake.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Call it after the commit: before, there is nothing to see.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}
