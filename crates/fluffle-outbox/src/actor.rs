//! The relay actor: claims rows, has them published ([`UnderWay`]), and marks their outcomes.
//!
//! Everything that must survive a crash of the actor is in [`Shared`], which outlives the actor. Outcomes that are
//! known but not yet in the table are written there before anything else. Rows that the relay has claimed and is not
//! publishing, such as those of an earlier incarnation, are claimed again at once, not after their lease.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use fluffle_supervise::SupervisedContext;
use tokio::{sync::watch, time::sleep};

use crate::{error::RelayError, shared::Shared, under_way::UnderWay};

/// How long the relay pauses if the broker accepted none of the messages that it claimed last.
const REST: Duration = Duration::from_secs(1);

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
