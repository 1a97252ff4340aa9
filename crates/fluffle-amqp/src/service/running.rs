//! Waits for a service to be ready or to end, shuts it down, and handles signals.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use fluffle_supervise::ExitReason;
use futures_util::FutureExt;
use tokio::sync::watch;

use crate::{
    base::drain::{self, Step},
    publish::travel::NotSent,
    service::{Service, error::ServiceEnd, signals::Signals},
};

/// The minimum time limit for flushing the journals. It holds even if the time limit of the shutdown is over.
const SHORTEST_FLUSH: Duration = Duration::from_millis(250);

impl Service {
    /// Waits until every part of the service runs: its connections are up, the topology is declared, and its consumers
    /// consume.
    ///
    /// # Errors
    /// If the service ends first.
    ///
    /// # Cancellation
    /// Safe: the call only observes the service.
    pub async fn ready(&self) -> Result<(), ServiceEnd> {
        let mut events = self.events();
        let mut pending_starts = self.inner.orders.open();
        loop {
            let nothing_to_come = *pending_starts.borrow_and_update() == 0;
            if nothing_to_come && self.inner.root.all_running() {
                return Ok(());
            }
            tokio::select! {
                // It does not matter if the stream missed events, because the loop looks at the whole tree in any case.
                _ = events.next() => {}
                _ = pending_starts.changed() => {}
                ended = self.wait() => return ended,
            }
        }
    }

    /// Waits until the service ends by itself (`Err`), or after [`shutdown`](Self::shutdown) (`Ok`).
    ///
    /// # Errors
    /// If the root of the supervision tree gave up. The error has the chain of causes.
    pub async fn wait(&self) -> Result<(), ServiceEnd> {
        match self.inner.root.wait().await {
            ExitReason::Stopped | ExitReason::Finished => Ok(()),
            reason => Err(ServiceEnd(reason)),
        }
    }

    /// Shuts the service down. It stops taking deliveries, lets handlers finish the deliveries in hand and settles
    /// them, waits for confirms, and closes the connections, all within the drain's time limit. The broker delivers
    /// messages again that were not settled by then.
    ///
    /// # Errors
    /// If the root of the supervision tree had given up before.
    ///
    /// # Cancellation
    /// If the future is dropped after its first poll, the shutdown goes on, on the service's own threads.
    pub async fn shutdown(&self) -> Result<(), ServiceEnd> {
        let service = self.clone();
        self.io().spawn(async move { service.shut_down().await });
        let mut closed = self.inner.closed.clone();
        // Nothing is ever sent: the loop ends when the sender is dropped.
        while closed.changed().await.is_ok() {}
        self.wait().await
    }

    /// Runs the service until SIGTERM or Ctrl-C, then [shuts it down](Self::shutdown). A second signal ends the process
    /// at once, with exit code 130.
    ///
    /// Use it if the process runs something else beside the service: the caller keeps the handle, and other tasks run
    /// on meanwhile. Other listeners for these signals, such as actix-web's server, do not interfere.
    ///
    /// ```no_run
    /// use fluffle_amqp::Service;
    ///
    /// # type Error = Box<dyn std::error::Error>;
    /// # async fn serve(server: impl Future<Output = std::io::Result<()>>, service: Service) -> Result<(), Error> {
    /// // `server` is a running `HttpServer`, for example. After SIGTERM both finish their work in hand and end. If the
    /// // service gives up, `try_join!` ends the server as well; with `join!` it would run on without a service.
    /// tokio::try_join!(
    ///     async { server.await.map_err(Error::from) },
    ///     async { service.run_until_signal().await.map_err(Error::from) },
    /// )?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the service gives up before a signal arrives. If the operating system does not allow listening for signals,
    /// the service is shut down at once and the call fails.
    ///
    /// # Cancellation
    /// If the future is dropped before a signal arrives, the service runs on. From the first call on, neither signal
    /// ends the process by itself, even after the future is dropped.
    pub async fn run_until_signal(&self) -> Result<(), ServiceEnd> {
        self.run_until_signal_with(std::future::ready(Ok(()))).await
    }

    /// Like [`run_until_signal`](Self::run_until_signal), but runs `first` before it waits. `first` may take long, for
    /// example because it adds publishers and consumers; signals are heeded meanwhile. If `first` fails, the service is
    /// shut down, and the error of `first` is returned.
    ///
    /// # Errors
    /// The error of `first`, and as [`run_until_signal`](Self::run_until_signal).
    pub async fn run_until_signal_with<E: From<ServiceEnd>>(
        &self,
        first: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let mut signals = match Signals::listen(&self.io()).await {
            Ok(signals) => signals,
            Err(error) => {
                self.shutdown().await?;
                return Err(ServiceEnd::failed(format!("cannot listen for signals: {error}")).into());
            }
        };
        let running = async {
            let done = first.await;
            if done.is_ok() {
                // The result is ignored here, because `shutdown` below returns the same one.
                let _ = self.wait().await;
            }
            // If the tree has given up meanwhile, its reason is returned and not the error of `first`.
            self.shutdown().await?;
            done
        };
        let name = tokio::select! {
            ended = running => return ended,
            name = signals.next() => name,
        };
        let limit = self.inner.clock.limit();
        tracing::info!(
            "{name}: finishing what is in flight, within {limit:?}; a second signal ends the process at once"
        );
        let begun = Instant::now();
        tokio::select! {
            ended = self.shutdown() => {
                tracing::info!(took = ?begun.elapsed(), "stopped");
                Ok(ended?)
            }
            name = signals.next() => {
                tracing::error!("{name} again: the process ends at once; the broker delivers unacked messages again");
                std::process::exit(130)
            }
        }
    }

    /// Runs on `io`, because its timers need a tokio runtime.
    async fn shut_down(&self) {
        if self.wait().now_or_never().is_none() {
            self.inner.clock.begin();
            let mut stopping = std::pin::pin!(self.inner.root.shutdown());
            tokio::select! {
                biased;
                () = drain::tell(self.events()) => { stopping.await; }
                _ = &mut stopping => {}
            }
        }
    }

    /// Starts a task that waits for the end of the service, whether after a shutdown or not. The task then returns
    /// every unpublished message to its caller, stops the threads, and drops `keep_open`.
    pub(super) fn close_at_the_end(&self, keep_open: watch::Sender<()>) {
        let service = self.clone();
        self.io().spawn(async move {
            let _keep_open = keep_open;
            // The result is ignored, because the callers of `wait` and `shutdown` report it.
            let _ = service.wait().await;
            service.close().await;
            service.inner.threads.stop();
        });
    }

    async fn close(&self) {
        let flushed_by = Instant::now() + self.inner.clock.left(Step::All).max(SHORTEST_FLUSH);
        let (send_queues, requesters) = self.parts(|parts| {
            parts.over = true;
            (std::mem::take(&mut parts.send_queues), std::mem::take(&mut parts.requesters))
        });
        for send_queue in send_queues.iter().filter_map(Weak::upgrade) {
            send_queue.close(NotSent::Ended, flushed_by).await;
        }
        for requester in requesters.iter().filter_map(Weak::upgrade) {
            requester.close(NotSent::Ended).await;
        }
    }
}
