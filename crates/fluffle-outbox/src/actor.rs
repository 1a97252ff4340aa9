//! The relay actor: claims rows, has them published ([`UnderWay`]), and marks their outcomes.
//!
//! Everything that must survive a crash of the actor is in [`Shared`], which outlives the actor. Outcomes that are
//! known but not yet in the table are written there before anything else. Rows that the relay has claimed and is not
//! publishing, such as those of an earlier incarnation, are claimed again at once, not after their lease.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_amqp::{Backlog, BacklogError, Forwarder, Prepared, Retry, StoreDepth};
use fluffle_supervise::SupervisedContext;
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
    under_way::UnderWay,
};

/// How long the relay pauses if the broker accepted none of the messages that it claimed last.
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
    pub(crate) limits: Limits,
    pub(crate) retry: Retry,
    pub(crate) keep: Option<Duration>,
    pub(crate) wake: Arc<Notify>,
    /// Outcomes that are known but not in the table yet, oldest first. Never more than the relay may have in hand: all
    /// that are known are written whenever rows are claimed.
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

    /// First waits for the outcomes of what is under way.
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
    let mut under_way = UnderWay::new(&relay);
    let done = claim_and_publish(&relay, &mut under_way, &mut stop).await;
    if done.is_ok() {
        // Before the wait for the slowest confirm, because the process may end meanwhile. A failure shows at the end.
        let _ = under_way.meanwhile(relay.mark()).await;
    }
    // Also if the database failed: what the broker confirms by now is not published again.
    under_way.finish(&mut stop).await;
    match done {
        Err(error) if !*stop.borrow() => Err(error),
        _ => relay.mark().await,
    }
}

/// Publishes until it is told to stop, or until the database fails. While rows are published, those that are over are
/// marked and others are claimed, so that neither the broker nor the database waits for the other.
async fn claim_and_publish(
    relay: &Shared,
    under_way: &mut UnderWay<'_>,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), RelayError> {
    let (mut are_there_more, mut pruned) = (false, None);
    while !*stop.borrow() {
        if under_way.is_over_in_vain() {
            // The next ones would fail too.
            relay.mark().await?;
            relay.pause(REST, stop).await;
            under_way.try_again();
            continue;
        }
        if under_way.has_room() {
            under_way.meanwhile(relay.prune(&mut pruned)).await?;
            are_there_more = under_way.claim().await?;
        } else {
            under_way.meanwhile(relay.mark()).await?;
        }
        // A wake that comes while there is no room is kept.
        let has_room = under_way.has_room();
        tokio::select! {
            biased;
            () = under_way.progress(are_there_more) => {}
            () = relay.wake.notified(), if has_room => {}
            () = sleep(relay.poll) => {}
            _ = stop.wait_for(|asked| *asked) => {}
        }
    }
    Ok(())
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
    async fn pause(&self, longest: Duration, stop: &mut watch::Receiver<bool>) {
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
    async fn mark(&self) -> Result<(), RelayError> {
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

    pub(crate) fn unmarked(&self) -> MutexGuard<'_, Vec<(i64, Outcome)>> {
        self.unmarked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
