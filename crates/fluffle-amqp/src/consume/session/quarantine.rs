//! Handles a message alone if it may be killing the process, so that the next crash of the process has one suspect.
//!
//! A quorum queue counts how often it delivered a message that was then not settled (`x-delivery-count`). When a
//! process dies, the count rises for every message it held: the one that killed it, and up to a prefetch of others in
//! each of its consumers. The count alone therefore does not tell which message is the poison.
//!
//! A message becomes a suspect when its count reaches half of the limit. Then:
//!
//! 1. The session waits until everything in hand is settled, and closes its channel. That returns everything that no
//!    handler has begun. It does not use `basic.nack`, because in a queue without an `x-delivery-limit` that puts
//!    messages behind all others.
//! 2. On a new channel the consumer takes one message at a time. Only one consumer of the process does so at a time.
//! 3. When enough messages in a row were no suspects, or nothing has arrived for [`QUIET`], the session closes this
//!    channel too, and the next one takes a full prefetch again. The session does not just cancel and subscribe again,
//!    because a quorum queue may still deliver to a consumer that is being cancelled, and nothing would receive that
//!    delivery.
//!
//! Returning to the queue raises a message's count by one, and so does a death. Only the message that is handled alone
//! is charged for both. The poison therefore reaches the limit twice as fast as the messages that were near it.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, sleep_until},
};

use crate::consume::message::received::Received;

/// The right to handle messages one at a time. It is one for the whole process, shared by all services in it, because
/// the process is what dies.
static ROOM: Semaphore = Semaphore::const_new(1);

/// The prefetch of a consumer that handles messages one at a time.
const ALONE: u16 = 1;

/// The least number of deliveries between becoming a suspect and the limit. It lets the messages that were returned
/// together with a poison message stay below the limit until the poison has reached it.
const LEAST_LEFT: u32 = 3;

/// If nothing arrives for this long while the consumer is idle, isolation ends: the returned messages are at other
/// consumers, or were handled.
const QUIET: Duration = Duration::from_secs(1);

/// Whether one consumer handles its messages one at a time at present. It outlives the consumer's channels.
pub(crate) struct Quarantine {
    /// A message with at least this delivery count is a suspect.
    from: u32,
    /// The quarantine ends after this many deliveries in a row that were no suspects. It is the prefetch, because that
    /// many messages may have been returned together with a suspect, and they are delivered first.
    length: u16,
    /// How many of those deliveries are left; 0 if the quarantine is off.
    left: AtomicU16,
}

impl Quarantine {
    /// For a limit of `limit` deliveries and a prefetch of `prefetch`. Without a limit there are no suspects.
    pub(crate) fn new(limit: Option<u32>, prefetch: u16) -> Self {
        let half = |limit: u32| (limit / 2).min(limit.saturating_sub(LEAST_LEFT)).max(1);
        Self { from: limit.map_or(u32::MAX, half), length: prefetch, left: AtomicU16::new(0) }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.left.load(Relaxed) > 0
    }
}

/// The part of one channel in its consumer's quarantine: waiting for [`ROOM`], being in it, leaving it.
pub(crate) struct Isolation {
    quarantine: Arc<Quarantine>,
    entering: Option<LocalBoxFuture<'static, SemaphorePermit<'static>>>,
    inside: Option<SemaphorePermit<'static>>,
    /// While `inside`: since when nothing has arrived and nothing was in hand.
    quiet: Instant,
    /// This channel must be closed: a suspect arrived among other messages, or the quarantine has ended.
    over: bool,
}

impl Isolation {
    pub(crate) fn new(quarantine: &Arc<Quarantine>) -> Self {
        Self::into_room(quarantine, &ROOM)
    }

    fn into_room(quarantine: &Arc<Quarantine>, room: &'static Semaphore) -> Self {
        let enter = async move {
            match room.acquire().await {
                Ok(permit) => permit,
                // Unreachable: nobody closes this semaphore.
                Err(_) => pending().await,
            }
        };
        let entering = quarantine.is_on().then(|| enter.boxed_local());
        Self { quarantine: Arc::clone(quarantine), entering, inside: None, quiet: Instant::now(), over: false }
    }

    /// Decides what becomes of a delivery that has arrived, and logs a suspect that is handled alone.
    pub(crate) fn look(&mut self, received: &Received) -> Arrived {
        let deliveries = received.in_vain.charged();
        let arrived = self.arrived(deliveries);
        if deliveries >= self.quarantine.from && arrived == Arrived::Here {
            tracing::warn!(
                queue = %received.queue, message_id = received.id_or_dash(), deliveries,
                attempt = received.attempt_number.get(), trace_id = received.trace_id(),
                "delivered again and again and never settled, perhaps because it ends the process: it is handled alone"
            );
        }
        arrived
    }

    fn arrived(&mut self, delivery_count: u32) -> Arrived {
        let is_suspect = delivery_count >= self.quarantine.from;
        if self.over {
            return Arrived::Later;
        }
        if self.inside.is_some() {
            match is_suspect {
                true => self.quarantine.left.store(self.quarantine.length, Relaxed),
                false if self.quarantine.left.fetch_sub(1, Relaxed) == 1 => self.leave(),
                false => {}
            }
            return Arrived::Here;
        }
        if !is_suspect {
            return Arrived::Here;
        }
        self.quarantine.left.store(self.quarantine.length, Relaxed);
        self.over = true;
        Arrived::First
    }

    fn leave(&mut self) {
        self.quarantine.left.store(0, Relaxed);
        self.inside = None;
        self.over = true;
    }

    /// How many deliveries may be unacked, if `otherwise` says how many may be without a quarantine.
    pub(crate) fn allows(&self, otherwise: Option<u16>) -> Option<u16> {
        if !self.quarantine.is_on() { otherwise } else { otherwise.and(self.inside.as_ref().map(|_| ALONE)) }
    }

    /// Whether the channel must be closed as soon as everything in hand is settled. Nothing more is begun on it.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Notes that the session has deliveries in hand, so it is not idle.
    pub(crate) fn is_busy(&mut self) {
        if self.inside.is_some() {
            self.quiet = Instant::now();
        }
    }

    /// Whether there is anything to wait for.
    pub(crate) fn is_on(&self) -> bool {
        self.entering.is_some() || self.inside.is_some()
    }

    /// Waits until this channel may enter the [`ROOM`]; once it is inside, waits until it has been idle for [`QUIET`],
    /// and leaves. Cancellation safe.
    pub(crate) async fn changed(&mut self) {
        match &mut self.entering {
            Some(entering) => {
                self.inside = Some(entering.await);
                self.entering = None;
                self.quiet = Instant::now();
            }
            None => {
                sleep_until(self.quiet + QUIET).await;
                self.leave();
            }
        }
    }
}

/// What the quarantine decides about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It is handled on this channel: it is no suspect, or it is alone.
    Here,
    /// It is the first suspect among other messages. It goes back together with everything that no handler has begun,
    /// and comes again alone.
    First,
    /// It arrived after the channel was found to need closing. It goes back to its place in the queue.
    Later,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> &'static Semaphore {
        Box::leak(Box::new(Semaphore::new(1)))
    }

    fn quarantine(limit: u32, prefetch: u16) -> Arc<Quarantine> {
        Arc::new(Quarantine::new(Some(limit), prefetch))
    }

    /// The isolation of the next channel. It has a room of its own, and is inside if the quarantine is on.
    fn alone(quarantine: &Arc<Quarantine>) -> Isolation {
        let mut isolation = Isolation::into_room(quarantine, room());
        if isolation.entering.is_some() {
            isolation.changed().now_or_never().unwrap();
        }
        isolation
    }

    #[test]
    fn from_the_first_suspect_on_everything_goes_back_and_comes_again_one_by_one() {
        let quarantine = quarantine(10, 3);
        let mut among = alone(&quarantine);
        assert_eq!(among.arrived(4), Arrived::Here);
        assert_eq!((among.allows(Some(3)), among.is_over()), (Some(3), false));
        assert_eq!([5, 0, 6].map(|count| among.arrived(count)), [Arrived::First, Arrived::Later, Arrived::Later]);
        assert!(among.is_over());

        let mut alone = alone(&quarantine);
        assert_eq!(alone.allows(Some(3)), Some(ALONE));
        assert_eq!([6, 1, 7].map(|count| alone.arrived(count)), [Arrived::Here; 3]);
        assert!(!alone.is_over());
    }

    #[test]
    fn it_ends_after_a_prefetch_of_others_and_begins_anew_with_each_suspect() {
        let quarantine = quarantine(10, 2);
        alone(&quarantine).arrived(9);
        let mut isolation = alone(&quarantine);
        assert_eq!([0, 5, 0].map(|count| isolation.arrived(count)), [Arrived::Here; 3]);
        assert!(quarantine.is_on() && !isolation.is_over());
        assert_eq!([0, 0].map(|count| isolation.arrived(count)), [Arrived::Here, Arrived::Later]);
        assert!(!quarantine.is_on() && isolation.is_over());
        assert_eq!(alone(&quarantine).allows(Some(2)), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn one_consumer_at_a_time_is_in_the_room_until_nothing_comes_any_more() {
        let room = room();
        let consumers = [quarantine(10, 2), quarantine(10, 2)];
        let [mut one, mut other] = consumers.each_ref().map(|consumer| {
            Isolation::into_room(consumer, room).arrived(5);
            Isolation::into_room(consumer, room)
        });
        one.changed().await;
        assert_eq!(one.allows(Some(2)), Some(ALONE));
        assert!(other.changed().now_or_never().is_none());
        assert_eq!(other.allows(Some(2)), None, "it takes nothing while the first one is in the room");
        tokio::time::advance(QUIET).await;
        one.is_busy();
        assert!(one.changed().now_or_never().is_none(), "a consumer with a message in hand is not idle");
        one.changed().await;
        assert!(!consumers[0].is_on());
        other.changed().await;
        assert_eq!(other.allows(Some(2)), Some(ALONE));
    }

    #[test]
    fn an_open_breaker_stays_open_and_without_a_limit_nobody_is_a_suspect() {
        let quarantine = quarantine(2, 2);
        alone(&quarantine).arrived(1);
        assert_eq!(alone(&quarantine).allows(None), None);
        let none = Arc::new(Quarantine::new(None, 2));
        assert_eq!(alone(&none).arrived(1_000), Arrived::Here);
    }

    /// How many deliveries a bystander has left when the poison is dead-lettered. A bystander is charged once in each
    /// life of the process: because it was returned, or because it was in hand at the death. `None` if it reaches the
    /// limit first.
    fn left_beside(limit: u32) -> Option<u32> {
        let from = Quarantine::new(Some(limit), 1).from;
        let (mut poison, mut beside) = (from, from);
        while poison < limit {
            (poison, beside) = (poison + 1, beside + 1);
            if poison >= limit {
                return (limit - 1).checked_sub(beside);
            }
            // The poison is handled alone and ends the process.
            poison += 1;
        }
        // The poison is dead-lettered on arrival; the messages behind it are returned once more.
        (limit - 1).checked_sub(beside + 1)
    }

    #[test]
    fn whatever_the_limit_a_poison_is_buried_before_those_that_stood_beside_it() {
        assert!((4..=20).all(|limit| left_beside(limit).is_some()));
        // docs/SEMANTICS.md states these numbers.
        assert_eq!([10, 20, 8, 3].map(left_beside), [Some(1), Some(3), Some(0), None]);
    }
}
