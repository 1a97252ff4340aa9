//! The relay actor: claims rows, publishes them, and marks their outcomes.
//!
//! Everything that must survive a crash of the actor is in [`Shared`], which outlives the actor. Outcomes that are
//! known but not yet in the table are written there before anything else. Rows that an earlier incarnation had claimed
//! are claimed again at once, not after their lease.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_amqp::{Backlog, BacklogError, Forwarder, Prepared, Retry, StoreDepth};
use fluffle_supervise::SupervisedContext;
use futures_util::{StreamExt, future::BoxFuture, pin_mut, poll, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, watch},
    task::unconstrained,
    time::{Instant, sleep},
};

use crate::{
    error::RelayError,
    outcome::{Outcome, decide, told},
    rows::{Claim, PRUNED, Row},
    table::Table,
};

/// How long a relay that must stop waits for the confirms of its batch.
const GRACE: Duration = Duration::from_secs(8);

/// How long the relay pauses if the broker accepted no message of a batch.
const REST: Duration = Duration::from_secs(1);

/// How often the relay looks for published rows past their age.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// State shared by all incarnations of one relay.
pub(crate) struct Shared {
    pub(crate) table: Table,
    pub(crate) forwarder: Forwarder,
    /// The relay's id, written into the rows that it claims.
    pub(crate) claimant: String,
    pub(crate) poll: Duration,
    pub(crate) batch: i64,
    pub(crate) batch_bytes: i64,
    pub(crate) retry: Retry,
    pub(crate) keep: Option<Duration>,
    pub(crate) wake: Arc<Notify>,
    /// Outcomes that are known but not in the table yet. Never more than one batch, because nothing is claimed before
    /// this is empty.
    pub(crate) unmarked: Mutex<Vec<(i64, Outcome)>>,
}

/// One incarnation of a [`Relay`](crate::Relay).
pub(crate) struct RelayActor {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    over: bool,
}

impl RelayActor {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared), stop: watch::Sender::new(false), over: false }
    }
}

impl Actor for RelayActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let running = run(Arc::clone(&self.shared), self.stop.subscribe());
        ctx.spawn(running.into_actor(self).map(|end, actor, ctx| {
            actor.over = true;
            match end {
                Ok(()) => ctx.stop(),
                Err(error) => ctx.fail(error),
            }
        }));
    }

    /// Finishes the current batch first.
    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        if self.over {
            return Running::Stop;
        }
        self.stop.send_replace(true);
        Running::Continue
    }
}

/// Runs until it is told to stop, or until the database fails.
async fn run(relay: Arc<Shared>, mut stop: watch::Receiver<bool>) -> Result<(), RelayError> {
    // In a transaction of its own, so that it is written even if claiming is what fails.
    relay.mark().await?;
    let mut pruned = None;
    loop {
        if *stop.borrow() {
            return relay.mark().await;
        }
        relay.prune(&mut pruned).await?;
        let rows = relay.mark_and_claim().await?;
        let rest = match rows.is_empty() {
            true => relay.poll,
            false if relay.publish(rows, &mut stop).await => continue,
            // The broker accepted none of them, so the next batch would fail too.
            false => REST,
        };
        relay.mark().await?;
        tokio::select! {
            () = sleep(rest) => {}
            () = relay.wake.notified() => {}
            _ = stop.wait_for(|asked| *asked) => {}
        }
    }
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
    /// Publishes the rows in order and records the outcome of each. True if the broker accepted any.
    async fn publish(&self, rows: Vec<Row>, stop: &mut watch::Receiver<bool>) -> bool {
        let mut open: BTreeSet<i64> = rows.iter().map(|row| row.id).collect();
        let mut any = false;
        let mut note = |id, outcome: Outcome| {
            any |= outcome == Outcome::Published;
            open.remove(&id);
            self.unmarked().push((id, outcome));
        };
        let mut publishing = FuturesUnordered::new();
        for row in rows {
            // Each publish is polled once before the next is made, because the forwarder keeps the order of the first
            // polls. Unconstrained, because past some dozens of polls tokio's budget would return pending before the
            // forwarder sees the poll.
            let mut published = Box::pin(unconstrained(self.forward(row)));
            match poll!(&mut published) {
                std::task::Poll::Ready((id, outcome)) => note(id, outcome),
                std::task::Poll::Pending => publishing.push(published),
            }
        }
        let patience = async {
            let _ = stop.wait_for(|asked| *asked).await;
            sleep(GRACE).await;
        };
        pin_mut!(patience);
        loop {
            tokio::select! {
                biased;
                done = publishing.next() => match done {
                    Some((id, outcome)) => note(id, outcome),
                    None => break,
                },
                () = &mut patience => break,
            }
        }
        // Dropping a publish withdraws its message if it is not on the wire yet.
        drop(publishing);
        self.unmarked().extend(open.into_iter().map(|id| (id, Outcome::Again)));
        any
    }

    async fn forward(&self, row: Row) -> (i64, Outcome) {
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
    async fn mark(&self) -> Result<(), RelayError> {
        let known = self.unmarked().clone();
        if known.is_empty() {
            return Ok(());
        }
        self.table.settle(&self.claimant, &known, self.keep.is_some()).await?;
        self.unmarked().clear();
        Ok(())
    }

    /// Writes the outcomes that are not in the table yet, and claims the next rows.
    async fn mark_and_claim(&self) -> Result<Vec<Row>, RelayError> {
        let known = self.unmarked().clone();
        let claim = Claim { relay: &self.claimant, rows: self.batch, bytes: self.batch_bytes };
        let rows = self.table.settle_and_claim(&known, self.keep.is_some(), &claim).await?;
        self.unmarked().clear();
        Ok(rows)
    }

    async fn prune(&self, last: &mut Option<Instant>) -> Result<(), RelayError> {
        let due = last.is_none_or(|last| last.elapsed() >= PRUNE_EVERY);
        if let Some(age) = self.keep
            && due
        {
            let more = self.table.prune(age).await? >= PRUNED.unsigned_abs();
            *last = if more { None } else { Some(Instant::now()) };
        }
        Ok(())
    }

    fn unmarked(&self) -> MutexGuard<'_, Vec<(i64, Outcome)>> {
        self.unmarked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
