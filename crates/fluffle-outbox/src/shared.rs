//! The settings and the state of a relay, which outlive its actor: publishing one row, marking, claiming, deleting.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fluffle_amqp::{Backlog, BacklogError, Forwarder, Prepared, Retry, StoreDepth};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use crate::{
    error::RelayError,
    outcome::{Outcome, decide, told},
    rows::{Claim, Limits, PRUNED, Row},
    table::Table,
};

/// How often the relay looks for published rows past their age.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// State shared by all incarnations of one relay.
pub(crate) struct Shared {
    pub(crate) table: Table,
    pub(crate) forwarder: Forwarder,
    /// The relay's id, written into the rows that it claims.
    pub(crate) claimant: String,
    pub(crate) poll: Duration,
    pub(crate) limits: Limits,
    pub(crate) retry: Retry,
    pub(crate) keep: Option<Duration>,
    pub(crate) wake: Arc<Notify>,
    /// Outcomes that are known but not in the table yet, oldest first. Never more than the relay may have in hand: all
    /// that are known are written whenever rows are claimed.
    pub(crate) unmarked: Mutex<Vec<(i64, Outcome)>>,
}

impl Backlog for Shared {
    fn waiting(&self) -> BoxFuture<'_, Result<StoreDepth, BacklogError>> {
        Box::pin(async { self.table.waiting().await.map_err(BacklogError::from) })
    }

    fn hurry(&self) {
        self.wake.notify_one();
    }
}

impl Shared {
    /// Waits for this time, or until the relay is woken or told to stop.
    pub(crate) async fn pause(&self, longest: Duration, stop: &mut watch::Receiver<bool>) {
        tokio::select! {
            () = sleep(longest) => {}
            () = self.wake.notified() => {}
            _ = stop.wait_for(|asked| *asked) => {}
        }
    }

    /// Publishes one row.
    pub(crate) async fn forward(&self, row: Row) -> (i64, Outcome) {
        let attempts = u32::try_from(row.attempts).unwrap_or(0);
        let outcome = match Prepared::from_bytes(row.message.into()) {
            Ok(message) => decide(self.forwarder.publish(message).await, attempts, &self.retry),
            Err(damage) => Outcome::Parked { attempts, error: told(&damage) },
        };
        match &outcome {
            Outcome::Later { attempts, error, wait } => {
                tracing::warn!(
                    row = row.id, attempts, ?wait, %error,
                    "the broker did not accept an outbox message; it is tried again after the wait"
                );
            }
            Outcome::Parked { attempts, error } => tracing::error!(
                row = row.id, attempts, %error,
                "an outbox message is parked: set parked_at to null and attempts to 0 to retry it, or delete the row"
            ),
            Outcome::Published | Outcome::Again => {}
        }
        (row.id, outcome)
    }

    /// Writes the outcomes that are not in the table yet.
    pub(crate) async fn mark(&self) -> Result<(), RelayError> {
        let known = self.unmarked().clone();
        if known.is_empty() {
            return Ok(());
        }
        self.table.settle(&self.claimant, &known, self.keep.is_some()).await?;
        self.are_marked(known.len());
        Ok(())
    }

    /// Writes the outcomes that are not in the table yet, and claims rows.
    pub(crate) async fn mark_and_claim(&self, claim: &Claim<'_>) -> Result<Vec<Row>, RelayError> {
        let known = self.unmarked().clone();
        let rows = self.table.settle_and_claim(&known, self.keep.is_some(), claim).await?;
        self.are_marked(known.len());
        Ok(rows)
    }

    /// The first `count` outcomes are in the table. Those behind them came while these were written.
    fn are_marked(&self, count: usize) {
        self.unmarked().drain(..count);
    }

    pub(crate) async fn prune(&self, last: &mut Option<Instant>) -> Result<(), RelayError> {
        let due = last.is_none_or(|last| last.elapsed() >= PRUNE_EVERY);
        if let Some(age) = self.keep
            && due
        {
            let more = self.table.prune(age).await? >= PRUNED.unsigned_abs();
            *last = if more { None } else { Some(Instant::now()) };
        }
        Ok(())
    }

    pub(crate) fn unmarked(&self) -> MutexGuard<'_, Vec<(i64, Outcome)>> {
        self.unmarked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
