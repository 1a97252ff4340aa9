//! A service from its start to its end.

use std::{
    sync::Weak,
    time::{Duration, Instant},
};

use fluffle_supervise::{ExitReason, NodeSnapshot, State};
use futures_util::FutureExt;
use tokio::sync::watch;

use crate::{
    base::drain::{self, Step},
    publish::travel::NotSent,
    service::{Service, error::ServiceEnd, signals::Signals},
};

/// How long journals may take to be flushed, though the time of the shutdown is over.
const SHORTEST_FLUSH: Duration = Duration::from_millis(250);

impl Service {
    /// Waits until every part of the service is running: connected, topology declared, consuming.
    ///
    /// # Errors
    /// When the service ends first.
    ///
    /// # Cancellation
    /// Safe: it only looks.
    pub async fn ready(&self) -> Result<(), ServiceEnd> {
        let mut events = self.events();
        let mut pending_starts = self.inner.orders.open();
        loop {
            let nothing_to_come = *pending_starts.borrow_and_update() == 0;
            if nothing_to_come && all_running(&self.snapshot()) {
                return Ok(());
            }
            tokio::select! {
                // Missed events are as good as seen ones: the snapshot is looked at either way.
                _ = events.next() => {}
                _ = pending_starts.changed() => {}
                ended = self.wait() => return ended,
            }
        }
    }

    /// Waits until the service ends by itself (`Err`), or after [`shutdown`](Self::shutdown) (`Ok`).
    ///
    /// # Errors
    /// When the root gave up, with the chain of causes.
    pub async fn wait(&self) -> Result<(), ServiceEnd> {
        match self.inner.root.wait().await {
            ExitReason::Stopped | ExitReason::Finished => Ok(()),
            reason => Err(ServiceEnd(reason)),
        }
    }

    /// Stops taking deliveries, lets what is in flight finish and settles it, waits for confirms, closes the
    /// connections; all of it within the drain deadline. What did not finish is the broker's again.
    ///
    /// # Errors
    /// When the root had given up before.
    ///
    /// # Cancellation
    /// Dropped, the shutdown goes on: the service's own threads do it.
    pub async fn shutdown(&self) -> Result<(), ServiceEnd> {
        let service = self.clone();
        self.io().spawn(async move { service.shut_down().await });
        let mut closed = self.inner.closed.clone();
        // Nothing is ever sent: it ends when the sender goes.
        while closed.changed().await.is_ok() {}
        self.wait().await
    }

    /// Runs the service until SIGTERM or Ctrl-C, then [shuts it down](Self::shutdown). A second signal ends the process
    /// at once, with exit code 130.
    ///
    /// For a service beside something else: the handle stays yours, and other tasks run on meanwhile. It does not
    /// matter whether something else heeds these signals too, as actix-web's server does.
    ///
    /// ```no_run
    /// use fluffle_amqp::Service;
    ///
    /// # type Error = Box<dyn std::error::Error>;
    /// # async fn serve(server: impl Future<Output = std::io::Result<()>>, service: Service) -> Result<(), Error> {
    /// // `server` is a running `HttpServer`, for example. Both end with SIGTERM, each after its own work in hand. If
    /// // the service gives up, the server ends as well; `join!` would leave it without a service.
    /// tokio::try_join!(
    ///     async { server.await.map_err(Error::from) },
    ///     async { service.run_until_signal().await.map_err(Error::from) },
    /// )?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the service gave up before a signal came; or at once, with the service shut down, when the system lets
    /// nobody listen for signals.
    ///
    /// # Cancellation
    /// Dropped before a signal has come, the service runs on. From the first call on neither signal ends the process by
    /// itself.
    pub async fn run_until_signal(&self) -> Result<(), ServiceEnd> {
        self.run_until_signal_with(std::future::ready(Ok(()))).await
    }

    /// The same, with something to be done first that may take long, such as adding publishers and consumers: signals
    /// count meanwhile. When `first` fails the service is shut down, and the error given.
    ///
    /// # Errors
    /// That of `first`, and as [`run_until_signal`](Self::run_until_signal).
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
                // How it ended is what the shutdown gives, too.
                let _ = self.wait().await;
            }
            // The tree may have given up meanwhile: then its reason is the one to tell.
            self.shutdown().await?;
            done
        };
        let name = tokio::select! {
            ended = running => return ended,
            name = signals.next() => name,
        };
        let limit = self.inner.clock.limit();
        tracing::info!("{name}: finishing what is in flight, within {limit:?}; once more ends at once");
        let begun = Instant::now();
        tokio::select! {
            ended = self.shutdown() => {
                tracing::info!(took = ?begun.elapsed(), "stopped");
                Ok(ended?)
            }
            name = signals.next() => {
                tracing::error!("{name} again: ending at once; the broker delivers again what was in flight");
                std::process::exit(130)
            }
        }
    }

    /// On `io`: a runtime is needed for the clock.
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

    /// When the service ends, by itself or not, hands every unpublished message back to its caller, and lets the
    /// threads go; then drops `keep_open`.
    pub(super) fn close_at_the_end(&self, keep_open: watch::Sender<()>) {
        let service = self.clone();
        self.io().spawn(async move {
            let _keep_open = keep_open;
            // How it ended is for others to tell.
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

fn all_running(node: &NodeSnapshot) -> bool {
    node.state == State::Running && node.children.iter().all(all_running)
}
