//! What a replay is to do.

use std::{fmt, sync::Arc, time::Duration};

use crate::{base::observer::Observer, replay::letter::DeadLetter};

/// Sends dead letters back to the queues they came from, to be handled again.
///
/// Each letter goes to its own queue and to no other, as a fresh message under its old id. Its attempts begin at 1, the
/// headers about its death are removed, and the header `x-fluffle-replay` names the replay, so that a consumer with
/// `effectively_once` handles it again. The letter leaves the dead-letter queue only after the broker has confirmed
/// *and* routed the copy. A crash in between leaves both messages, never none.
///
/// | setting | default |
/// |---|---|
/// | [`filter`](Replay::filter) | all letters |
/// | [`limit`](Replay::limit) | as many letters as are in the queue at the beginning |
/// | [`rate`](Replay::rate) | no limit; 64 copies on the wire at a time |
/// | [`dry_run`](Replay::dry_run) | no |
/// | [`id`](Replay::id) | a new UUIDv7 |
/// | [`to_queue`](Replay::to_queue) | the queue that each letter was consumed from |
///
/// The default limit keeps letters that die again during the replay from being replayed in circles.
///
/// Letters that are not replayed stay in the dead-letter queue. The broker may move them to the end of the queue, and
/// marks them as redelivered.
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
    pub(super) queue: String,
    pub(super) filter: Box<dyn Fn(&DeadLetter) -> bool + Send>,
    pub(super) limit: usize,
    pub(super) pause: Option<Duration>,
    pub(super) dry_run: bool,
    pub(super) id: Option<String>,
    pub(super) to_queue: Option<String>,
    pub(super) observers: Vec<Arc<dyn Observer>>,
}

impl Replay {
    /// A replay of the letters in this dead-letter queue.
    pub fn from(queue: impl Into<String>) -> Self {
        Self {
            queue: queue.into(),
            filter: Box::new(|_| true),
            limit: usize::MAX,
            pause: None,
            dry_run: false,
            id: None,
            to_queue: None,
            observers: Vec::new(),
        }
    }

    /// Replays only the letters for which `wanted` returns true.
    #[must_use]
    pub fn filter(mut self, wanted: impl Fn(&DeadLetter) -> bool + Send + 'static) -> Self {
        self.filter = Box::new(wanted);
        self
    }

    /// Looks at no more than this many letters, oldest first.
    #[must_use]
    pub fn limit(mut self, letters: usize) -> Self {
        self.limit = letters;
        self
    }

    /// Sends no more than this many letters a second, so that letters which failed together do not fail together again.
    /// At least 1.
    #[must_use]
    pub fn rate(mut self, per_second: u32) -> Self {
        self.pause = Some(Duration::from_secs(1) / per_second.max(1));
        self
    }

    /// Looks at letters and counts them, but sends nothing.
    #[must_use]
    pub fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// The id of this replay, at most 255 bytes. Repeat an interrupted replay under its old id: then a consumer with
    /// `effectively_once` does not handle again what it has handled of it.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Tells this observer of each letter: see [`Observer::replay`]. A replay that
    /// [`Service::replay`](crate::Service::replay) runs tells the observers of the service, without this.
    #[must_use]
    pub fn observe(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    pub(crate) fn observe_all(&mut self, observers: &[Arc<dyn Observer>]) {
        self.observers.extend_from_slice(observers);
    }

    /// Sends all letters to this queue, wherever they came from, also those that do not say where they came from.
    #[must_use]
    pub fn to_queue(mut self, queue: impl Into<String>) -> Self {
        self.to_queue = Some(queue.into());
        self
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("queue", &self.queue).field("dry_run", &self.dry_run).finish_non_exhaustive()
    }
}
