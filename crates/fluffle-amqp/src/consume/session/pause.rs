//! A consumer that the application has paused: the switch, and how a session follows it.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::sync::watch;

use crate::consume::{
    session::session::{End, Session},
    spec::consume::Guarantee,
};

/// The application's own switch of one consumer. It outlives every channel of the consumer, so a lost connection does
/// not resume it.
#[derive(Default)]
pub(crate) struct Pause {
    on: AtomicBool,
    /// The consumer is being removed, and has had its time: what is in hand is the broker's again.
    cut_off: AtomicBool,
    /// One for each session of now: a value sent has the session look at this switch again. A session waits for its
    /// drain on the same channel, so that a consumer which nobody pauses has nothing more to poll.
    sessions: Mutex<Vec<watch::Sender<bool>>>,
}

impl Pause {
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(SeqCst)
    }

    /// Switches it, and wakes the sessions of this consumer. Whether it stood otherwise before.
    pub(crate) fn set(&self, on: bool) -> bool {
        let changed = self.on.swap(on, SeqCst) != on;
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // The value stays: it says whether the session drains.
        sessions.iter().for_each(|session| session.send_modify(|_| {}));
        changed
    }

    /// Leaves what is in hand no more time.
    pub(crate) fn cut_off(&self) {
        self.cut_off.store(true, SeqCst);
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(SeqCst)
    }

    /// `session` is told of every change from now on, until nobody listens to it any more.
    pub(crate) fn tell(&self, session: watch::Sender<bool>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.receiver_count() > 0);
        sessions.push(session);
    }
}

impl Session {
    /// Whether the application has paused this consumer, or this session has begun to let go and must end with it.
    pub(super) fn is_paused(&self) -> bool {
        self.letting_go || self.settings.guard.pause.is_on()
    }

    /// Paused: takes nothing more, finishes what handlers have begun, and gives back the rest by closing the channel.
    /// The next session waits, without a subscription, until the consumer is resumed.
    ///
    /// The subscription ends with the channel and is not cancelled before, because both `basic.nack` and `basic.cancel`
    /// put messages behind the rest of a quorum queue without an `x-delivery-limit`, out of their order: RabbitMQ
    /// itself requeues what it was about to deliver to a subscription that is cancelled. Until the channel closes, the
    /// prefetch bounds what comes and is left alone.
    pub(super) async fn let_go(&mut self) -> Option<End> {
        if !self.subscription.is_engaged() {
            // Nothing was ever delivered on this channel.
            return None;
        }
        if !self.letting_go {
            self.letting_go = true;
            match self.settings.guarantee {
                Guarantee::AtLeastOnce => self.forget_unbegun(),
                // What waits is acked already, and what would go back would be refused as delivered again: all of it is
                // handled.
                Guarantee::AtMostOnce => match self.subscription.end().await {
                    Ok(left) => left.into_iter().for_each(|delivery| self.accept(delivery)),
                    Err(error) => return Some(End::ChannelLost(error)),
                },
            }
            self.settings.handler_queue.announce();
            let begun = self.in_flight.iter().filter(|(_, received)| received.started.get().is_some()).count();
            tracing::info!(
                queue = %self.settings.queue, in_hand = begun + self.settling.len(),
                "paused by the application: takes no more messages and finishes those in hand; all others go back \
                 to the queue"
            );
        }
        self.settings.held.store(self.unsettled(), SeqCst);
        if self.unsettled() > 0 {
            return None;
        }
        self.acker.ack_all().await;
        self.subscription.close_channel().await;
        tracing::info!(
            queue = %self.settings.queue, in_hand = 0,
            "paused: everything in hand is settled, the channel is closed; the consumer waits to be resumed"
        );
        Some(End::Paused)
    }

    /// Takes back what no handler has begun, and forgets what waits for an answer of the store or for another attempt
    /// here. The broker has all of it again when the channel closes.
    fn forget_unbegun(&mut self) {
        self.looked_up.clear();
        self.held_up.clear();
        self.resting.clear();
        self.settings.handler_queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_session_of_a_consumer_hears_of_a_change_and_keeps_what_it_was_told_of_its_drain() {
        let pause = Pause::default();
        let drains = [watch::Sender::new(false), watch::Sender::new(true)];
        let mut sessions = drains.each_ref().map(watch::Sender::subscribe);
        drains.into_iter().for_each(|drain| pause.tell(drain));
        assert!(pause.set(true) && pause.is_on());
        assert!(!pause.set(true), "it was paused before");
        for session in &mut sessions {
            session.changed().await.unwrap();
        }
        assert_eq!(sessions.each_ref().map(|session| *session.borrow()), [false, true]);
        assert!(pause.set(false) && !pause.is_on());
    }

    #[test]
    fn sessions_that_are_over_are_forgotten() {
        let pause = Pause::default();
        for _ in 0..100 {
            let drain = watch::Sender::new(false);
            let session = drain.subscribe();
            pause.tell(drain);
            drop(session);
        }
        assert_eq!(pause.sessions.lock().unwrap().len(), 1, "the last one, which nobody has looked at since");
    }
}
