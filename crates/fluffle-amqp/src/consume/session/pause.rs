//! The application's own switch of a consumer.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use tokio::sync::watch;

/// The application's own switch of one consumer. It outlives every channel of the consumer, so a lost connection does
/// not resume it.
#[derive(Default)]
pub(crate) struct Pause {
    on: AtomicBool,
    /// The consumer is being removed and its time is over: the broker delivers again what is in hand.
    cut_off: AtomicBool,
    /// One for each running session: a value sent makes the session look at this switch again. A session waits for its
    /// drain on the same channel, so a consumer that nobody pauses has nothing more to poll.
    sessions: Mutex<Vec<watch::Sender<bool>>>,
}

impl Pause {
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(SeqCst)
    }

    /// Sets the switch and wakes the sessions of this consumer. True if it was set otherwise before.
    pub(crate) fn set(&self, on: bool) -> bool {
        let changed = self.on.swap(on, SeqCst) != on;
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        // The value does not change: it says whether the session drains.
        sessions.iter().for_each(|session| session.send_modify(|_| {}));
        changed
    }

    /// Gives what is in hand no more time.
    pub(crate) fn cut_off(&self) {
        self.cut_off.store(true, SeqCst);
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.cut_off.load(SeqCst)
    }

    /// Tells `session` of every change from now on, until its receiver is dropped.
    pub(crate) fn tell(&self, session: watch::Sender<bool>) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.receiver_count() > 0);
        sessions.push(session);
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
        assert_eq!(pause.sessions.lock().unwrap().len(), 1, "the last one, which has not been looked at since");
    }
}
