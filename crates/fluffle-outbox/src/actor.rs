//! The relay actor: claims rows, publishes them, marks what became of them.
//!
//! All that must survive a crash is in [`Shared`], which outlives the actor: what is known and not yet in the table is written
//! there before anything else, and what an earlier incarnation had claimed is taken again at once, not after its lease.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_amqp::{Backlog, BacklogError, Forwarder, Prepared, Retry};
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

/// How long the confirms of a batch are waited for once the relay shall stop.
const GRACE: Duration = Duration::from_secs(8);

/// How long it rests when the broker took nothing.
const REST: Duration = Duration::from_secs(1);

/// How often published rows past their time are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// What all incarnations of one relay share.
pub(crate) struct Shared {
    pub(crate) table: Table,
    pub(crate) forwarder: Forwarder,
    /// What it writes into the rows it claims.
    pub(crate) claimant: String,
    pub(crate) poll: Duration,
    pub(crate) batch: i64,
    pub(crate) batch_bytes: i64,
    pub(crate) retry: Retry,
    pub(crate) keep: Option<Duration>,
    pub(crate) wake: Arc<Notify>,
    /// Known, and not in the table yet. Never more than a batch: nothing is claimed before it is empty.
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

    /// Finishes the batch in hand first.
    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        if self.over {
            return Running::Stop;
        }
        self.stop.send_replace(true);
        Running::Continue
    }
}

/// Relays until told to stop, or until the database fails.
async fn run(relay: Arc<Shared>, mut stop: watch::Receiver<bool>) -> Result<(), RelayError> {
    let mut pruned = None;
    loop {
        relay.mark().await?;
        if *stop.borrow() {
            return Ok(());
        }
        relay.prune(&mut pruned).await?;
        let rows = relay.claim().await?;
        let rest = match rows.is_empty() {
            true => relay.poll,
            false if relay.publish(rows, &mut stop).await => continue,
            // Not one of them got through: the next would fare no better.
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
    fn waiting(&self) -> BoxFuture<'_, Result<u64, BacklogError>> {
        Box::pin(async { self.table.waiting().await.map_err(BacklogError::from) })
    }

    fn hurry(&self) {
        self.wake.notify_one();
    }
}

impl Shared {
    async fn claim(&self) -> Result<Vec<Row>, RelayError> {
        let claim = Claim { relay: &self.claimant, rows: self.batch, bytes: self.batch_bytes };
        self.table.claim(&claim).await
    }

    /// Publishes the rows in order, and notes what becomes of each; says whether the broker took any.
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
            // Each is asked once before the next is made: the forwarder keeps the order in which it is asked. Unconstrained,
            // for tokio's budget would have it answer "not now" past some dozens and not note that it was asked.
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
        // Dropped, a publish withdraws a message that is not on the wire yet.
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
                tracing::warn!(row = row.id, attempts, ?wait, %error, "the broker does not take an outbox message; it is tried again");
            }
            Outcome::Parked { attempts, error } => tracing::error!(
                row = row.id, attempts, %error,
                "an outbox message is parked: set parked_at to null and attempts to 0 to have it tried again, or delete it"
            ),
            Outcome::Published | Outcome::Again => {}
        }
        (row.id, outcome)
    }

    /// Writes into the table what is known and not in it yet.
    async fn mark(&self) -> Result<(), RelayError> {
        let known = self.unmarked().clone();
        if known.is_empty() {
            return Ok(());
        }
        self.table.settle(&self.claimant, &known, self.keep.is_some()).await?;
        self.unmarked().clear();
        Ok(())
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
