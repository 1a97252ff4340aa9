//! How a consumer's handler actors are made: the specifications for their supervisor.

use std::sync::Arc;

use actix::{Actor, AsyncContext, Context};
use actix_rt::ArbiterHandle;
use fluffle_supervise::{ActorSpec, Backoff};

use crate::consume::{
    handler::{calls::Calls, crash_log::CrashLog, dispatch::Feeder, on_io::OnIo},
    spec::consume::Consume,
};

/// Makes the specifications of one consumer's handler actors.
pub(super) struct HandlerSpecs<M, F> {
    /// The name of the consumer.
    name: Arc<str>,
    concurrency: usize,
    backoff: Backoff,
    feeder: Feeder<M>,
    /// Makes a handler.
    factory: Arc<F>,
}

impl<M: Clone, F> HandlerSpecs<M, F> {
    pub(super) fn new<T, R>(name: &str, consume: &Consume<T, R>, feeder: Feeder<M>, factory: Arc<F>) -> Self {
        let (concurrency, backoff) = (consume.in_hand_of_each(), consume.handler_backoff);
        Self { name: name.into(), concurrency, backoff, feeder, factory }
    }

    /// The same for handlers on the `io` thread.
    pub(super) fn on_io(&self, on_io: Arc<OnIo>) -> Self {
        let Self { name, concurrency, backoff, feeder, factory } = self;
        let feeder = Feeder { middleware: feeder.middleware.on_io(on_io), ..feeder.clone() };
        Self { name: name.clone(), concurrency: *concurrency, backoff: *backoff, feeder, factory: factory.clone() }
    }

    /// The specification of one instance, on `arbiter`.
    pub(super) fn spec<A, D>(&self, instance: usize, arbiter: ArbiterHandle) -> ActorSpec<A>
    where
        A: Actor<Context = Context<A>>,
        D: Calls<A>,
        M: Fn() -> D + Send + Sync + 'static,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let (factory, feeder, concurrency) = (Arc::clone(&self.factory), self.feeder.clone(), self.concurrency);
        let on_io = feeder.middleware.on_io.clone();
        let crash_log = CrashLog::new(&self.name, instance);
        let logged = Arc::clone(&crash_log);
        let make = move || {
            let _timed = on_io.as_deref().map(OnIo::begin);
            factory()
        };
        ActorSpec::new(instance.to_string(), make)
            .on(arbiter)
            .backoff(self.backoff)
            .logs_exits(move |_| logged.take())
            .in_context(move |ctx: &mut Context<A>| {
                ctx.spawn(feeder.dispatch(instance, concurrency, Arc::clone(&crash_log)));
            })
    }
}
