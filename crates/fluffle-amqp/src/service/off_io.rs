//! Moves the handlers of a consumer from the `io` thread to threads of their own when one of them has blocked it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use actix_rt::ArbiterHandle;
use fluffle_supervise::{ChildSpec, SupervisorHandle};
use tokio::sync::mpsc;

use crate::{
    consume::handler::on_io::{LONGEST_STEP, OnIo},
    service::{Service, handler_place::HandlerPlace, threads::HandlerThreads},
};

/// The handlers of a consumer on the `io` thread, and what a move needs.
pub(super) struct OnIoHandlers<F> {
    /// Its name in the tree.
    pub(super) consumer: Arc<str>,
    /// Weak, so that the task ends when the handlers are gone.
    pub(super) on_io: Weak<OnIo>,
    /// How long a handler has blocked the thread.
    pub(super) blocked: mpsc::Receiver<Duration>,
    pub(super) place: Arc<HandlerPlace>,
    pub(super) supervisor: SupervisorHandle,
    pub(super) instances: usize,
    /// How many threads they are given.
    pub(super) threads: usize,
    /// Makes the specification of one instance on this arbiter.
    pub(super) spec: F,
}

impl Service {
    /// Starts a task that moves the handlers to threads of their own when one of them has blocked `io`. The task ends
    /// with the move, or when the handlers are gone.
    pub(super) fn move_if_they_block<F>(&self, mut handlers: OnIoHandlers<F>)
    where
        F: Fn(usize, ArbiterHandle) -> ChildSpec + Send + 'static,
    {
        let service = Arc::downgrade(&self.inner);
        self.io().spawn(async move {
            while let Some(took) = handlers.blocked.recv().await {
                let (Some(inner), Some(on_io)) = (service.upgrade(), handlers.on_io.upgrade()) else { return };
                match inner.threads.handlers(handlers.threads) {
                    Ok(threads) => return handlers.leave(took, &on_io, threads).await,
                    Err(error) => tracing::error!(
                        consumer = %handlers.consumer, ?took, %error,
                        "a handler blocked the thread where deliveries arrive, and its consumer's handlers stay there, \
                         because the operating system starts no threads for them: the next handler that blocks is moved"
                    ),
                }
            }
        });
    }
}

impl<F: Fn(usize, ArbiterHandle) -> ChildSpec> OnIoHandlers<F> {
    /// Moves the handlers. They take nothing more on `io`, finish what they have begun there, and end; then they are
    /// made anew on `threads`. What waits for a handler waits for that.
    async fn leave(self, took: Duration, on_io: &OnIo, threads: Arc<HandlerThreads>) {
        tracing::warn!(
            consumer = %self.consumer, ?took, limit = ?LONGEST_STEP, threads = self.threads,
            "a handler blocked the thread where deliveries arrive, which its consumer promised not to do \
             (`Consume::on_io`): the consumer's handlers move to threads of their own; remove `on_io`, or give what \
             blocks to `actix_web::web::block` or `tokio::task::spawn_blocking`"
        );
        let arbiters: Vec<ArbiterHandle> = threads.iter().cycle().take(self.instances).cloned().collect();
        self.place.leave_io(took, threads);
        on_io.leave().await;
        for (instance, arbiter) in arbiters.into_iter().enumerate() {
            // Errors mean that the consumer was removed, or the service ends.
            let _ = self.supervisor.stop_child(&instance.to_string()).await;
            let _ = self.supervisor.start_child((self.spec)(instance, arbiter)).await;
        }
        tracing::info!(consumer = %self.consumer, threads = self.threads, "the handlers have threads of their own now");
    }
}
