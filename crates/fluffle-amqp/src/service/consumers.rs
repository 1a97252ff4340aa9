//! A consumer's part of the tree: its channel and consumer actor, its handlers, and the publisher of its copies.

use std::{
    any::{TypeId, type_name},
    sync::Arc,
};

use actix::{Actor, AsyncContext, Context, Handler};
use fluffle_supervise::{ActorSpec, Strategy, SupervisorSpec};

use crate::{
    base::drain::Step,
    consume::{
        handler::{adapter::Adapter, dispatch::Feeder},
        intake::seen::Seen,
        queue::{by_key::SortBy, handler_queue::HandlerQueue, read_key::DecodeKey, waiting::Waiting},
        session::{
            self,
            guard::Guard,
            settings::{Made, SharedSettings},
            watchdog::Patience,
        },
        spec::consume::{Consume, Guarantee, Threads, cores},
    },
    link::{
        channel::{self, ChannelShared, Mode},
        pool::{ConnectionSlot, Role},
    },
    service::{Service, error::ServiceError, isolation::Placed, unstarted::PublisherPart},
    topology::{Queue, Topology},
};

/// What the lanes of one consumer have in common.
struct Common<D, F> {
    application: Topology,
    guard: Arc<Guard>,
    patience: Patience,
    seen: Option<Seen>,
    /// Makes the [`Adapter`] of one instance.
    adapter: D,
    /// Makes a handler.
    factory: Arc<F>,
}

impl Service {
    pub(super) async fn add_consumer<A, T, R, D, F>(
        &self,
        mut consume: Consume<T, R>,
        adapter: impl Fn() -> D + Clone + Send + Sync + 'static,
        factory: F,
    ) -> Result<(), ServiceError>
    where
        A: Actor<Context = Context<A>> + Handler<D::Message, Result: 'static>,
        T: 'static,
        D: Adapter,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let application = self.inner.topology.get();
        // A temporary queue may go by its prefix: from here on by its full name.
        if let Some(queue) = application.find_queue(&consume.queue) {
            consume.queue = queue.name().to_owned();
        }
        consume.check_kind(&application)?;
        consume.check_lanes(&application)?;
        self.one_type::<T>(&consume.queue)?;
        self.inner.topology.add(consume.topology(&application))?;
        let common = Common {
            application,
            guard: Arc::new(consume.guard()),
            patience: consume.patience(),
            seen: consume.seen.take().map(Seen::new),
            adapter,
            factory: Arc::new(factory),
        };
        // First what may not be had: all lanes, or none.
        let mut leases = Vec::with_capacity(consume.lanes);
        for _ in 0..consume.lanes {
            leases.push(self.inner.consume.lease().await?);
        }
        for lease in leases {
            self.add_lane(&consume, &common, lease).await?;
        }
        Ok(())
    }

    /// The broker deals the messages of a queue out among its consumers, whatever they are: to two of different types
    /// each would bring the other's, as undecodable.
    fn one_type<T: 'static>(&self, queue: &str) -> Result<(), ServiceError> {
        let (id, mine) = (TypeId::of::<T>(), type_name::<T>());
        let (other_id, other) = self.parts(|parts| *parts.types.entry(queue.to_owned()).or_insert((id, mine)));
        if id == other_id {
            return Ok(());
        }
        Err(ServiceError::TwoTypes { queue: queue.to_owned(), types: [other, mine] })
    }

    async fn add_lane<A, T, R, D, F>(
        &self,
        consume: &Consume<T, R>,
        common: &Common<impl Fn() -> D + Clone + Send + Sync + 'static, F>,
        lease: ConnectionSlot,
    ) -> Result<(), ServiceError>
    where
        A: Actor<Context = Context<A>> + Handler<D::Message, Result: 'static>,
        T: 'static,
        D: Adapter,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let name = self.unique(Role::Consume, &consume.queue);
        let acked_on_arrival = consume.guarantee == Guarantee::AtMostOnce;
        let waiting =
            Waiting::new(acked_on_arrival, consume.max_bytes, consume.rate_limit.clone(), consume.key.is_some());
        let sort_by = consume.key.clone().map(|key| SortBy {
            key: Box::new(DecodeKey { wire: consume.wire.clone(), key }),
            instances: consume.handlers(),
            seen: common.seen.clone(),
        });
        let listeners = self.inner.observers.consumer(&name, &consume.queue);
        let handler_queue = HandlerQueue::heard_by(listeners, waiting, sort_by);
        // Acquired before the handlers are added, so that a failure leaves no handlers without a consumer behind.
        let (send_queue, part) = PublisherPart::copies(&name, consume.confirm_timeout);
        self.add_publisher(part).await?;
        let feeder =
            Feeder { queue: Arc::clone(&handler_queue), seen: common.seen.clone(), adapter: common.adapter.clone() };
        self.add_handlers(&name, consume, feeder, Arc::clone(&common.factory)).await?;
        let exclusive = consume.exclusive_queues(&common.application);
        let kind = common.application.find_queue(&consume.queue).map(Queue::kind);
        let made = Made {
            tag: consumer_tag(&name),
            side_queues: consume.side_queues(&common.application),
            answers: D::answers(),
            patience: common.patience,
            guard: Arc::clone(&common.guard),
            handler_queue,
            send_queue,
            seen: common.seen.clone(),
            clock: self.inner.clock.clone(),
        };
        let settings =
            Arc::new(SharedSettings::new(consume, made, kind, &lease.place.shared, lease.place.connection.clone()));
        let mode = Mode::Consume { prefetch: settings.prefetch, exclusive };
        let shared = ChannelShared::new(name.clone(), Arc::clone(&lease.place.shared), mode);
        // The side queues were added after the connection declared what there was.
        shared.redeclare();
        let channel = channel::spec(&shared, &lease.place.connection).on(self.io());
        let consumer = session::actor::spec(&settings, &shared, &channel.addr()).on(self.io());
        self.parts(|parts| parts.consumers.push((name.clone(), Arc::clone(&settings))));
        self.add_channel(&name, &lease, Step::ConsumerChannels, channel, consumer);
        self.keep_or_move(Placed { name, settings, channel: shared, lease });
        Ok(())
    }

    async fn add_handlers<A, T, R, D, F>(
        &self,
        name: &str,
        consume: &Consume<T, R>,
        feeder: Feeder<impl Fn() -> D + Clone + Send + Sync + 'static>,
        factory: Arc<F>,
    ) -> Result<(), ServiceError>
    where
        A: Actor<Context = Context<A>> + Handler<D::Message, Result: 'static>,
        D: Adapter,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let concurrency = consume.concurrency.unwrap_or(usize::from(consume.prefetch));
        let instances = consume.handlers();
        // Shared with no other consumer.
        let threads = match consume.threads {
            Threads::Shared => instances.min(cores()),
            Threads::Own => instances,
        };
        let arbiters = self.inner.threads.handlers(threads).map_err(ServiceError::Thread)?;
        let mut spec = SupervisorSpec::new(name).strategy(Strategy::OneForOne).intensity(consume.handler_intensity);
        for (instance, arbiter) in (0..instances).zip(arbiters.iter().cycle()) {
            let (factory, feeder) = (Arc::clone(&factory), feeder.clone());
            let handler = ActorSpec::new(instance.to_string(), move || factory())
                .on(arbiter.clone())
                .backoff(consume.handler_backoff)
                .in_context(move |ctx: &mut Context<A>| {
                    ctx.spawn(feeder.dispatch(instance, concurrency));
                });
            spec = spec.child(handler);
        }
        let added = self.inner.handlers.start_child(spec).await;
        added.map_err(|_| ServiceError::Ended(name.to_owned()))
    }
}

/// Tells an operator which process consumes; a name too long for AMQP's 255 bytes leaves only the process.
fn consumer_tag(name: &str) -> String {
    let process = std::process::id();
    if name.len() <= 200 { format!("{name}-{process}") } else { format!("fluffle-{process}-{}", uuid::Uuid::now_v7()) }
}
