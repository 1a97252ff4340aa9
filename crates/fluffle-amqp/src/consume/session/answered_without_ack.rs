//! What a handler answers for a delivery whose ack is no longer to come: it was acked on receipt, or its channel is gone.

use std::sync::{Arc, atomic::AtomicU64};

use futures_util::FutureExt;

use crate::consume::session::session::Session;
use crate::consume::{
    decide::verdict,
    message::received::Received,
    queue::handler_queue::Outcome,
    session::stats::{count, count_more},
    settle::{at_most_once, settler::NextStep},
};

impl Session {
    /// At most once: it is counted, and whoever asked is told.
    pub(super) fn settle_at_most_once(&self, received: Arc<Received>, outcome: Outcome) {
        at_most_once::settle(&received, &outcome, &self.settings.counters);
        if let Some(verdict) = verdict::told(outcome, &received) {
            let settler = Arc::clone(&self.settler);
            self.settling.push(Box::pin(async move {
                settler.tell(&received, verdict).await;
                NextStep::Over
            }));
        }
    }

    /// Work that is done and cannot be acked: counted, and remembered.
    pub(super) fn note_done(&self, received: Arc<Received>, outcome: &Outcome, counter: &AtomicU64) {
        match (outcome, received.contents.get()) {
            (Outcome::Handled(_), _) => {
                count(counter);
                self.remember(received, None);
            }
            (Outcome::Items(items), Some(contents)) => {
                let handled: Vec<usize> = items.handled(contents).collect();
                count_more(counter, handled.len());
                self.remember(received, Some(handled));
            }
            _ => {}
        }
    }

    /// Effectively once: the work is done, of all of it or of these items, though its delivery cannot be acked for it any more.
    pub(super) fn remember(&self, received: Arc<Received>, items: Option<Vec<usize>>) {
        if received.claim.get().is_none() {
            return;
        }
        let settler = Arc::clone(&self.settler);
        // Though this channel ends, too.
        let marking = actix::spawn(async move {
            match items {
                Some(items) => settler.remember_items(&received, items.into_iter()).await,
                None => settler.remember(&received).await,
            }
        });
        self.settling.push(Box::pin(marking.map(|_| NextStep::Over)));
    }
}
