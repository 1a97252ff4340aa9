//! Dead letters that a running service replays.

use tokio::sync::oneshot;

use crate::{
    replay::{Replay, ReplayError, Replayed},
    service::Service,
};

impl Service {
    /// Runs a replay with this service's broker and on its thread, and tells its [observers](crate::Observer::replay).
    /// The replay has a connection of its own, and goes on while the service is paused or waits for its own
    /// connections.
    ///
    /// ```no_run
    /// # async fn example(service: fluffle_amqp::Service) -> Result<(), fluffle_amqp::ReplayError> {
    /// let would = service.replay(fluffle_amqp::Replay::from("orders.dead").dry_run()).await?;
    /// println!("{would}");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Replay::run`]; and if the service ends first.
    ///
    /// # Cancellation
    /// Dropped, the replay goes on, because letters are under way. It ends with the service.
    pub async fn replay(&self, mut replay: Replay) -> Result<Replayed, ReplayError> {
        replay.observe_all(self.inner.observers.all());
        let (broker, ended) = (self.inner.publish.broker(), replay.error("the service has ended"));
        let (tell, told) = oneshot::channel();
        // Started over there, because the filter may be looked at from one thread only.
        let begun = self.io().spawn_fn(move || {
            actix_rt::spawn(async move {
                // Fails if nobody waits for it any more.
                let _ = tell.send(replay.run(&broker).await);
            });
        });
        if !begun {
            return Err(ended);
        }
        told.await.unwrap_or(Err(ended))
    }
}
