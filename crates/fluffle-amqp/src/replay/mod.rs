//! Dead letters go back to where they came from.

mod letter;
mod run;

use std::{fmt, time::Duration};

pub use letter::DeadLetter;
pub use run::{ReplayError, Replayed};

use crate::link::broker::Broker;

/// Sends dead letters back to the queues they came from, to be tried anew.
///
/// Each goes to its own queue and no other, as a fresh message under its old id: its attempts begin at 1, what it tells of
/// its death is taken off, and the header `x-fluffle-replay` says which replay it was, so that a consumer with
/// `effectively_once` takes it for new. It leaves the dead-letter queue only after the broker has confirmed *and* routed
/// the copy: a crash in between leaves both, never none.
///
/// | setting | default |
/// |---|---|
/// | [`filter`](Replay::filter) | all |
/// | [`limit`](Replay::limit) | what is in the queue when it begins: what dies again meanwhile is not replayed in circles |
/// | [`rate`](Replay::rate) | as fast as it goes, 64 at a time |
/// | [`dry_run`](Replay::dry_run) | no |
/// | [`id`](Replay::id) | a new UUIDv7 |
/// | [`to_queue`](Replay::to_queue) | the queue each letter was consumed from |
///
/// What is not replayed stays in the queue. The broker may put it at the queue's end, and marks it as redelivered.
///
/// ```no_run
/// use fluffle_amqp::{Broker, Replay};
/// use fluffle_wire::headers::Reason;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let replayed = Replay::from("orders.dead")
///     .filter(|letter| letter.info().is_some_and(|info| info.reason == Reason::AttemptsExhausted))
///     .rate(100)
///     .run(&Broker::from_env()?)
///     .await?;
/// println!("{replayed}");
/// # Ok(())
/// # }
/// ```
pub struct Replay {
    queue: String,
    filter: Box<dyn Fn(&DeadLetter) -> bool + Send>,
    limit: usize,
    pause: Option<Duration>,
    dry_run: bool,
    id: Option<String>,
    to_queue: Option<String>,
}

impl Replay {
    /// Of what is in this dead-letter queue.
    pub fn from(queue: impl Into<String>) -> Self {
        Self {
            queue: queue.into(),
            filter: Box::new(|_| true),
            limit: usize::MAX,
            pause: None,
            dry_run: false,
            id: None,
            to_queue: None,
        }
    }

    /// Only the letters that `wanted` says yes to.
    #[must_use]
    pub fn filter(mut self, wanted: impl Fn(&DeadLetter) -> bool + Send + 'static) -> Self {
        self.filter = Box::new(wanted);
        self
    }

    /// Looks at this many letters at most, oldest first.
    #[must_use]
    pub fn limit(mut self, letters: usize) -> Self {
        self.limit = letters;
        self
    }

    /// Sends this many a second at most, one at least: what failed together should not fail together again.
    #[must_use]
    pub fn rate(mut self, per_second: u32) -> Self {
        self.pause = Some(Duration::from_secs(1) / per_second.max(1));
        self
    }

    /// Looks and counts, and sends nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// What tells this replay from others, at most 255 bytes. A replay that was interrupted is repeated under its old id:
    /// what was handled of it is not handled again by a consumer with `effectively_once`.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sends all to this queue, wherever they came from; also those that do not say.
    #[must_use]
    pub fn to_queue(mut self, queue: impl Into<String>) -> Self {
        self.to_queue = Some(queue.into());
        self
    }

    /// Does it, on a connection of its own. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the broker cannot be reached, the queue is not there, or the connection is lost on the way; the error has the
    /// counts so far.
    ///
    /// # Cancellation
    /// Dropped, it ends where it is: what was not confirmed stays in the dead-letter queue, and may be in its own too.
    pub async fn run(self, broker: &Broker) -> Result<Replayed, ReplayError> {
        run::run(self, broker).await
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("queue", &self.queue).field("dry_run", &self.dry_run).finish_non_exhaustive()
    }
}
