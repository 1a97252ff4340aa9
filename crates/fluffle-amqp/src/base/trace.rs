//! The trace that the code on this thread belongs to, and the hook for spans of published messages.

use std::{
    cell::RefCell,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
};

use fluffle_supervise::Panicked;
use fluffle_wire::headers::TraceContext;

use crate::base::events::PublishResult;

/// Something that knows a trace, and reads it only when it is asked, because most handlers publish nothing.
pub(crate) trait Carrier: Send + Sync {
    fn trace(&self) -> Option<TraceContext>;
}

impl Carrier for TraceContext {
    fn trace(&self) -> Option<TraceContext> {
        Some(self.clone())
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Carrier>>> = const { RefCell::new(None) };
}

/// Where [`current`] looks first.
static SOURCE: OnceLock<fn() -> Option<TraceContext>> = OnceLock::new();

/// The trace that the code on this thread belongs to. Messages published on this thread carry it, unless their
/// [`MessageOptions::trace`](crate::MessageOptions::trace) says otherwise.
///
/// In a handler that is the trace of the message in hand: in the call of `Handler::handle`, and in each poll of a
/// `ResponseFuture` or `ResponseActFuture`. It is not known in the polls of an `AtomicResponse`, because actix gives no
/// access to them, nor in tasks that a handler spawns. There, use
/// [`MessageOptions::caused_by`](crate::MessageOptions::caused_by), or run the code [`within`] the trace of the
/// delivery.
///
/// ```
/// use fluffle_amqp::trace;
/// use fluffle_wire::headers::TraceContext;
///
/// assert_eq!(trace::current(), None);
/// let context: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// let inside = trace::within(context.clone(), trace::current);
/// assert_eq!(inside, Some(context));
/// # Ok::<(), fluffle_wire::headers::InvalidTrace>(())
/// ```
pub fn current() -> Option<TraceContext> {
    let of_the_source = SOURCE.get().and_then(|source| source());
    of_the_source.or_else(|| CURRENT.with_borrow(Clone::clone)?.trace())
}

/// Runs `run` with `context` as the [`current`] trace of this thread. Only the call counts: a future that `run` returns
/// is polled outside.
pub fn within<O>(context: TraceContext, run: impl FnOnce() -> O) -> O {
    within_that_of(Arc::new(context), run)
}

/// Runs `run` with the trace of `carrier` as the current one.
pub(crate) fn within_that_of<O>(carrier: Arc<dyn Carrier>, run: impl FnOnce() -> O) -> O {
    /// Also on a panic, because a handler's panic unwinds through here, and its thread goes on.
    struct Restore(Option<Arc<dyn Carrier>>);

    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }

    let _restore = Restore(CURRENT.replace(Some(carrier)));
    run()
}

/// Makes `source` the first place where [`current`] looks, for the whole process: for a tracing library that knows the
/// current span. Only the first call counts; says whether it was this one.
///
/// `source` is called for each message that is published or prepared, on the thread that does so. It must be quick.
pub fn look_first_in(source: fn() -> Option<TraceContext>) -> bool {
    SOURCE.set(source).is_ok()
}

/// Makes spans of the messages of one publisher or requester. An [`Observer`](crate::Observer) gives it, because a
/// service is handed its observers before anything happens.
///
/// All methods are called on the sender's thread while the message is accepted: they must not block. If one panics, the
/// panic is logged, and the message goes on without a span.
pub trait PublishTracer: Send + Sync + 'static {
    /// A message is about to be accepted by itself. The span, if the message has one, follows it until its outcome is
    /// known.
    fn publish(&self, message: &PublishInfo<'_>) -> Option<Box<dyn PublishSpan>>;

    /// A message is about to join a batch. By default it has no span of its own, and carries the
    /// [`current`] trace.
    fn create(&self, message: &PublishInfo<'_>) -> Option<Box<dyn CreateSpan>> {
        let _ = message;
        None
    }

    /// A batch is about to be sent. `items` are the traces of its messages: each trace once for each run of neighbours
    /// that have it.
    fn publish_batch(
        &self,
        batch: &PublishInfo<'_>,
        items: &mut dyn Iterator<Item = &TraceContext>,
    ) -> Option<Box<dyn PublishSpan>> {
        let _ = (batch, items);
        None
    }
}

/// The span of a message, or batch, that is being published. Dropped before it is [`settled`](Self::settled), nobody
/// knows the outcome: a message of a journal whose sender has stopped waiting.
pub trait PublishSpan: Send + Sync {
    /// What the message carries, so that its consumers know the span. `None`: it carries the [`current`] trace.
    ///
    /// Not asked if the message carries a trace already ([`PublishInfo::created_by`]).
    fn context(&self) -> Option<TraceContext>;

    /// The outcome is known: usually on the thread that serves connections, so this must be quick.
    fn settled(self: Box<Self>, result: PublishResult);
}

/// The span of a message that joins a batch. Dropped before it has [`joined`](Self::joined), the message was not
/// accepted.
pub trait CreateSpan: Send + Sync {
    /// What the batch carries for this message.
    fn context(&self) -> Option<TraceContext>;

    /// The message is in a batch, under this id. Its span ends.
    fn joined(self: Box<Self>, message_id: &str);
}

/// What a [`PublishTracer`] is told of a message, or batch, that is about to be published. It never has the body or the
/// values of headers.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PublishInfo<'a> {
    /// The message's id; that of the batch, for a batch. Empty for a message that is about to join a batch, because
    /// its id depends on its place.
    pub message_id: &'a str,
    /// The exchange. Empty for the default exchange.
    pub exchange: &'a str,
    /// The routing key.
    pub routing_key: &'a str,
    /// The name of all its routing keys together, if the route gives one
    /// ([`Route::key_template`](crate::Route::key_template)).
    pub key_template: Option<&'a str>,
    /// Whether the routing key may differ from message to message, so that it does not belong in a span's name.
    pub key_varies: bool,
    /// The correlation id. For a request, its own id.
    pub correlation_id: Option<&'a str>,
    /// How many messages the batch has. `None` for a message by itself.
    pub batch_len: Option<usize>,
    /// The span that has created the message before, which stays in its headers: set by
    /// [`MessageOptions::trace`](crate::MessageOptions::trace), or when the message was prepared.
    pub created_by: Option<&'a TraceContext>,
    /// The trace that the message belongs to: that of the delivery it is
    /// [`caused_by`](crate::MessageOptions::caused_by), else the [`current`] one.
    pub cause: Option<&'a TraceContext>,
}

/// The tracer of one publisher, called with care.
#[derive(Clone, Default)]
pub(crate) struct Tracer(Option<Arc<dyn PublishTracer>>);

impl Tracer {
    pub(crate) fn new(tracer: Arc<dyn PublishTracer>) -> Self {
        Self(Some(tracer))
    }

    pub(crate) fn publish(&self, message: &PublishInfo<'_>) -> Option<Box<dyn PublishSpan>> {
        self.ask(|tracer| tracer.publish(message))
    }

    pub(crate) fn create(&self, message: &PublishInfo<'_>) -> Option<Box<dyn CreateSpan>> {
        self.ask(|tracer| tracer.create(message))
    }

    pub(crate) fn publish_batch(
        &self,
        batch: &PublishInfo<'_>,
        items: &mut dyn Iterator<Item = &TraceContext>,
    ) -> Option<Box<dyn PublishSpan>> {
        self.ask(|tracer| tracer.publish_batch(batch, items))
    }

    fn ask<S>(&self, ask: impl FnOnce(&dyn PublishTracer) -> Option<S>) -> Option<S> {
        let tracer = self.0.as_deref()?;
        careful("making the span of a message", || ask(tracer)).flatten()
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tracer").field(&self.0.is_some()).finish()
    }
}

/// The tracer of one publisher or requester, which comes with its service.
#[derive(Debug, Default)]
pub(crate) struct TracerSlot(OnceLock<Tracer>);

impl TracerSlot {
    /// Only the first tracer counts.
    pub(crate) fn set(&self, tracer: Tracer) {
        let _ = self.0.set(tracer);
    }

    /// The tracer. `None` if nobody traces, or if there is no service yet.
    pub(crate) fn get(&self) -> Option<&Tracer> {
        self.0.get().filter(|tracer| tracer.0.is_some())
    }
}

/// Tells a span its outcome.
pub(crate) fn settle(span: Option<Box<dyn PublishSpan>>, result: PublishResult) {
    if let Some(span) = span {
        careful("ending the span of a message", || span.settled(result));
    }
}

/// What a message with this span carries.
pub(crate) fn context_of(span: Option<&dyn PublishSpan>) -> Option<TraceContext> {
    careful("reading the span of a message", || span?.context()).flatten()
}

/// Calls code of a tracer. Its panic is logged, and costs the message nothing.
pub(crate) fn careful<O>(what: &str, call: impl FnOnce() -> O) -> Option<O> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(said) => Some(said),
        Err(panic) => {
            let panic = Panicked::message_of(&*panic);
            tracing::error!(panic, "a tracer panicked while {what}: the message goes on without this span");
            None
        }
    }
}
