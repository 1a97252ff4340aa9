//! The duty to answer for an attempt.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::consume::attempt::{attempt::Attempt, crash::Crash, outcome::Outcome};

/// An answered ticket on its way back to the session.
pub(crate) struct Completion {
    pub(crate) attempt: Arc<Attempt>,
    pub(crate) outcome: Outcome,
}

/// The channel on which answers go back to the session.
pub(crate) type Completions = mpsc::UnboundedSender<Completion>;

/// The duty to answer for one attempt, exactly once. Answering consumes the ticket. Dropping an unanswered ticket
/// answers that the handler crashed, or that no handler began the attempt.
pub(crate) struct Ticket {
    /// `None` once it is answered.
    attempt: Option<Arc<Attempt>>,
    started: bool,
    completions: Completions,
}

impl Ticket {
    pub(crate) fn new(attempt: Arc<Attempt>, completions: Completions) -> Self {
        Self { attempt: Some(attempt), started: false, completions }
    }

    pub(crate) fn completions(&self) -> &Completions {
        &self.completions
    }

    /// A handler is given the message. From now on a dropped ticket means that the handler crashed with the message in
    /// hand.
    pub(crate) fn start(&mut self) {
        self.started = true;
    }

    pub(crate) fn answer(mut self, outcome: Outcome) {
        self.send(outcome);
    }

    fn send(&mut self, outcome: Outcome) {
        let Some(attempt) = self.attempt.take() else { return };
        attempt.answer();
        // After a failure or a crash the session decides whether the next attempt keeps the key locked. After any other
        // answer the key is freed here, so that the next message of the key need not wait for the session's thread.
        if !matches!(outcome, Outcome::Failed(_) | Outcome::Crashed(_)) {
            attempt.permits.free_key();
        }
        // Fails only if the service has stopped; then the broker delivers the message to another consumer.
        let _ = self.completions.send(Completion { attempt, outcome });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.attempt.is_some() {
            self.send(if self.started { Outcome::Crashed(Crash::of_the_actor()) } else { Outcome::NotStarted });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::failure::Failure,
        consume::attempt::{
            attempt::tests::attempt,
            permits::{KeyLock, tests::Freed},
        },
    };

    fn answered(act: impl FnOnce(Ticket)) -> Outcome {
        let (completions, mut answers) = mpsc::unbounded_channel();
        act(Ticket::new(Arc::new(attempt(1)), completions));
        let outcome = answers.try_recv().unwrap().outcome;
        assert!(answers.try_recv().is_err(), "one answer");
        outcome
    }

    #[test]
    fn a_ticket_is_answered_once_whatever_happens_to_it() {
        assert!(matches!(answered(|ticket| ticket.answer(Outcome::Expired)), Outcome::Expired));
        assert!(matches!(answered(drop), Outcome::NotStarted));
        assert!(matches!(answered(|mut ticket| ticket.start()), Outcome::Crashed(_)));
    }

    #[test]
    fn a_failure_keeps_the_key_for_the_next_attempt_and_any_other_answer_frees_it() {
        for (outcome, kept) in [
            (Outcome::Failed(Failure::retry("no")), true),
            (Outcome::Crashed(Crash::default()), true),
            (Outcome::Handled(None), false),
            (Outcome::NotStarted, false),
        ] {
            let (freed, attempt) = (Arc::new(Freed::default()), Arc::new(attempt(1)));
            let keys = Arc::downgrade(&freed);
            attempt.permits.take_key(KeyLock::new(keys, 7));
            let (completions, _answers) = mpsc::unbounded_channel();
            Ticket::new(Arc::clone(&attempt), completions).answer(outcome);
            assert_eq!(attempt.permits.key().is_some(), kept);
        }
    }
}
