//! Messages that may be ending their process: each is handled alone, so that the next death has one suspect.
//!
//! A quorum queue counts how often it has handed a message out in vain (`x-delivery-count`), and a death counts against
//! everything the process held: the message that killed it, and up to a prefetch of others in each of its consumers. So
//! the count alone convicts nobody. From half of the limit on a message is a suspect, and everything on its channel
//! goes back: by closing the channel, for `basic.nack` puts it behind the rest of a queue without an
//! `x-delivery-limit`. It comes again one by one, to one consumer of the process at a time. What is unsuspected then
//! comes as ever, on another fresh channel: a quorum queue may deliver to a consumer that is just cancelled, and nobody
//! would see it.
//!
//! Going back counts once, and so does a death, but nobody pays for both who is not alone in the room when it comes. So
//! the one that kills its process has used up what was left to it twice as fast as those that stood beside it.

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

/// Where a suspect is alone. It is the process that dies, so there is one, whatever services live in it.
static ROOM: Semaphore = Semaphore::const_new(1);

/// The prefetch of who is alone.
const ALONE: u16 = 1;

/// What a suspect has left at least, so that others who went back as often as it was killed have something left at its
/// end.
const LEAST_LEFT: u32 = 3;

/// When nothing has come for so long, what went back is with somebody else, or was handled.
const QUIET: Duration = Duration::from_secs(1);

/// Whether the suspects of one consumer are handled alone. It outlives every channel of it.
pub(crate) struct Quarantine {
    /// From this delivery count on a message is a suspect.
    from: u32,
    /// It lasts until so many deliveries in a row were none: what went back with a suspect comes again first.
    length: u16,
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

/// A consumer's way into the room and out of it, on one channel.
pub(crate) struct Isolation {
    quarantine: Arc<Quarantine>,
    entering: Option<LocalBoxFuture<'static, SemaphorePermit<'static>>>,
    inside: Option<SemaphorePermit<'static>>,
    /// Since when nothing has come and nothing was in hand, inside.
    quiet: Instant,
    /// It came to an end here: a suspect has come among others, or there are none any more.
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

    /// Looks at what has arrived.
    pub(crate) fn look(&mut self, received: &Received) -> Arrived {
        let deliveries = received.in_vain.charged();
        let arrived = self.arrived(deliveries);
        if deliveries >= self.quarantine.from && arrived == Arrived::Here {
            tracing::warn!(
                queue = %received.queue, message_id = received.message_id().unwrap_or("-"), deliveries,
                "delivered again and again and never settled, perhaps for it ends the process: it is handled alone"
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

    /// How many deliveries may be unacked, of those that would be otherwise.
    pub(crate) fn allows(&self, otherwise: Option<u16>) -> Option<u16> {
        if !self.quarantine.is_on() { otherwise } else { otherwise.and(self.inside.as_ref().map(|_| ALONE)) }
    }

    /// Whether the channel is to be closed, when all that is in hand is settled, and nothing more is begun on it.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Something is in hand.
    pub(crate) fn is_busy(&mut self) {
        if self.inside.is_some() {
            self.quiet = Instant::now();
        }
    }

    /// Whether there is anything to wait for.
    pub(crate) fn is_on(&self) -> bool {
        self.entering.is_some() || self.inside.is_some()
    }

    /// Waits until the room is free, and then until it is needed no more. Cancellation safe.
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

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It is handled here: nothing is said against it, or it is alone.
    Here,
    /// The first suspect among others: with all that no handler has begun it goes back, to come again alone.
    First,
    /// It came after that one, or after the last that came alone, and goes back in its place.
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

    /// Of the next channel, which has the room to itself if it needs it.
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
        assert_eq!(other.allows(Some(2)), None, "it takes nothing meanwhile");
        tokio::time::advance(QUIET).await;
        one.is_busy();
        assert!(one.changed().now_or_never().is_none(), "with something in hand it is not over");
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

    /// What is left to those that stood beside it, which go back once in each life, or die with it.
    fn left_beside(limit: u32) -> Option<u32> {
        let from = Quarantine::new(Some(limit), 1).from;
        let (mut poison, mut beside) = (from, from);
        while poison < limit {
            (poison, beside) = (poison + 1, beside + 1);
            if poison >= limit {
                return (limit - 1).checked_sub(beside);
            }
            // Alone, it ends the process.
            poison += 1;
        }
        // It is buried as it comes; they go back.
        (limit - 1).checked_sub(beside + 1)
    }

    #[test]
    fn whatever_the_limit_a_poison_is_buried_before_those_that_stood_beside_it() {
        assert!((4..=20).all(|limit| left_beside(limit).is_some()));
        // As docs/SEMANTICS.md has it.
        assert_eq!([10, 20, 8, 3].map(left_beside), [Some(1), Some(3), Some(0), None]);
    }
}
