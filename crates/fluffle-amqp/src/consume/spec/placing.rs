//! The settings that say which threads run the handlers.

use crate::consume::spec::{consume::Consume, threads::Threads};

impl<T, R> Consume<T, R> {
    /// Gives each instance a thread of its own, for handlers that block their thread (files, synchronous clients, long
    /// computations). While one instance blocks, the other instances, other consumers and all connections go on.
    /// Without this setting, the instances of one consumer share threads: a handler that blocks may stop other
    /// instances of its own consumer, but nothing else. Replaces [`on_io`](Self::on_io) and
    /// [`on_thread`](Self::on_thread).
    #[must_use]
    pub fn blocking(mut self) -> Self {
        self.threads = Threads::Own;
        self
    }

    /// Runs all instances on the thread of this name, together with the handlers of all other consumers of this service
    /// that name it: for many queues that rarely have a message. Each thread costs memory and four file descriptors, so
    /// without this setting a process that may open 1,024 files, as many systems have it, starts no more than about 250
    /// consumers. Replaces [`blocking`](Self::blocking) and [`on_io`](Self::on_io).
    ///
    /// A handler that blocks this thread delays the consumers that share it, and [`Service::health`] names all of them.
    /// Connections, publishers and all other consumers go on. What must not wait for one another gets different names.
    /// The thread starts with the first of its consumers and ends with the last one that is removed.
    ///
    /// ```
    /// use fluffle_amqp::Consume;
    ///
    /// let tenants = (0..1000).map(|tenant| {
    ///     Consume::<String>::queue(format!("tenant-{tenant}")).on_thread(format!("tenants-{}", tenant % 4))
    /// });
    /// # assert_eq!(tenants.count(), 1000);
    /// ```
    ///
    /// [`Service::health`]: crate::Service::health
    #[must_use]
    pub fn on_thread(mut self, name: impl Into<String>) -> Self {
        self.threads = Threads::Named(name.into().into());
        self
    }

    /// Runs the handlers on the thread where deliveries arrive (`io` in [`Service::threads`](crate::Service::threads)),
    /// for handlers that never block it. A delivery then reaches its handler without a hop to another thread. If the
    /// handler answers at once, the ack is written in the same turn of that thread's loop, unless the last ack is less
    /// than a millisecond old, because acks are gathered. Replaces [`blocking`](Self::blocking) and
    /// [`on_thread`](Self::on_thread). Everything else is as without this setting: guarantees, retries, order, limits.
    ///
    /// The connections' channels, all publishers and the consumers of the whole service share that thread, so a handler
    /// that blocks it delays all of them. Each call of a handler, and each poll of its future, is therefore timed. If
    /// one takes longer than 100 ms, a warning names the consumer and the time, and its handlers move to threads of
    /// their own, where they stay until the service starts anew. [`ConsumerStatus::blocked_io`] and a note in
    /// [`Service::health`](crate::Service::health) tell of it. If one has not returned after a second, an error says so
    /// while it lasts.
    ///
    /// In a move, each instance finishes what it has begun, except futures that run apart from their actor
    /// (`ResponseFuture`), which are finished on the old thread if [`concurrency`](Self::concurrency) is above 1. No
    /// message is given up and no attempt is charged. The handler actors are made anew, so what an actor keeps in its
    /// fields is lost, as after a crash.
    ///
    /// Not for handlers that compute for longer than a few hundred microseconds, use synchronous clients, or wait for
    /// the service itself without `await`: the confirm of a publish arrives on the thread that they would hold. They
    /// must not stop their [`System`](actix::System), because the connections run on it.
    ///
    /// ```
    /// use actix::prelude::*;
    /// use fluffle_amqp::{Consume, Delivery, Failure, Service, ServiceError};
    ///
    /// /// Counts in memory: nothing in it waits.
    /// struct Counts { seen: u64 }
    ///
    /// impl Actor for Counts {
    ///     type Context = Context<Self>;
    /// }
    ///
    /// impl Handler<Delivery<String>> for Counts {
    ///     type Result = Result<(), Failure>;
    ///
    ///     fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
    ///         self.seen += 1;
    ///         Ok(())
    ///     }
    /// }
    ///
    /// # async fn example(service: Service) -> Result<(), ServiceError> {
    /// service.consume(Consume::<String>::queue("clicks").on_io(), || Counts { seen: 0 }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`ConsumerStatus::blocked_io`]: crate::ConsumerStatus::blocked_io
    #[must_use]
    pub fn on_io(mut self) -> Self {
        self.threads = Threads::Io;
        self
    }
}
