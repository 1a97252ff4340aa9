//! Adds consumers to the supervision tree: channel and consumer actor, handlers, and the publisher of the copies.

use std::sync::{Arc, Mutex};

use actix::{Actor, Context};
use fluffle_supervise::{ChildSpec, Strategy, SupervisorSpec};
use tokio::sync::oneshot;

use crate::{
    base::drain::Step,
    consume::{
        handler::{around::Middlewares, calls::Calls, dispatch::Feeder, on_io::OnIo},
        intake::seen::Seen,
        queue::{by_key::SortBy, handler_queue::HandlerQueue, read_key::DecodeKey, waiting::Waiting},
        session::{
            self,
            guard::Guard,
            settings::{Made, SharedSettings},
            watchdog::Patience,
        },
        spec::{
            consume::{Consume, cores},
            guarantee::Guarantee,
            threads::Threads,
        },
    },
    link::{
        channel::{self, ChannelShared, Mode},
        pool::{ConnectionSlot, Role},
    },
    service::{
        Service,
        claims::TypeClaim,
        consumer::{Consumer, CopiesPublisher, Now, Placed},
        error::ServiceError,
        handler_place::HandlerPlace,
        handler_specs::HandlerSpecs,
        off_io::OnIoHandlers,
        unstarted::PublisherPart,
    },
    topology::{Queue, QueueKind, Topology},
};

/// The values that all lanes of one consumer share.
struct Common<D, F> {
    application: Arc<Topology>,
    guard: Arc<Guard>,
    patience: Patience,
    seen: Option<Seen>,
    claim: Arc<TypeClaim>,
    middleware: Middlewares,
    /// Makes the [`Adapter`] of one handler instance.
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
        A: Actor<Context = Context<A>>,
        T: 'static,
        D: Calls<A>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let application = self.inner.topology.get();
        // A temporary queue can be named by its prefix; from here on its full name is used.
        consume.queue = self.full_name(&consume.queue);
        consume.check_kind(&application)?;
        consume.check_lanes(&application)?;
        consume.check_aliases()?;
        consume.check_stream()?;
        consume.is_named_after_its_reader();
        if consume.stream.is_some() && self.reads(&consume.queue) {
            return Err(ServiceError::ReadTwice { reader: consume.queue });
        }
        let claim = Arc::new(self.inner.types.claim::<T>(&consume.queue)?);
        self.inner.topology.add(consume.topology(&application))?;
        let mut common = Common {
            guard: Arc::new(consume.guard()),
            patience: consume.patience(&application),
            application,
            seen: consume.seen.take().map(Seen::new),
            claim,
            middleware: Middlewares::new(
                self.parts(|parts| parts.middleware.clone()),
                std::mem::take(&mut consume.middleware),
            ),
            adapter,
            factory: Arc::new(factory),
        };
        // Acquire the slots of all lanes first, because that can fail: then a failure leaves no lane behind.
        let mut slots = Vec::with_capacity(consume.lanes);
        for _ in 0..consume.lanes {
            slots.push(self.inner.consume.lease().await?);
        }
        for slot in slots {
            self.add_lane(&consume, &common, slot).await?;
        }
        if consume.stream.take().is_some() {
            // Failed messages of a stream return to a queue beside it, which a second consumer with the same settings
            // reads.
            let slot = self.inner.consume.lease().await?;
            common.patience = consume.patience(&common.application);
            self.add_lane(&consume, &common, slot).await?;
        }
        Ok(())
    }

    /// Whether this service has a reader of this full name already.
    fn reads(&self, name: &str) -> bool {
        let is_it = |settings: &SharedSettings| settings.reader.is_some() && *settings.queue == *name;
        self.parts(|parts| parts.consumers.iter().any(|consumer| is_it(&consumer.settings())))
    }

    async fn add_lane<A, T, R, D, F>(
        &self,
        consume: &Consume<T, R>,
        common: &Common<impl Fn() -> D + Clone + Send + Sync + 'static, F>,
        slot: ConnectionSlot,
    ) -> Result<(), ServiceError>
    where
        A: Actor<Context = Context<A>>,
        T: 'static,
        D: Calls<A>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let name = Arc::new(self.inner.names.take(Role::Consume, &consume.queue));
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
        let copies = CopiesPublisher(Arc::clone(&send_queue));
        self.add_publisher(part).await?;
        let feeder = Feeder {
            queue: Arc::clone(&handler_queue),
            seen: common.seen.clone(),
            middleware: common.middleware.clone(),
            adapter: common.adapter.clone(),
        };
        let place = self.add_handlers(&name, consume, feeder, Arc::clone(&common.factory)).await?;
        let exclusive = consume.exclusive_queues(&common.application);
        let kind = match &consume.stream {
            Some(_) => Some(QueueKind::Stream),
            None => common.application.find_queue(&consume.queue).map(Queue::kind),
        };
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
            Arc::new(SharedSettings::new(consume, made, kind, &slot.place.shared, slot.place.connection.clone()));
        let mode = Mode::Consume { prefetch: settings.prefetch, exclusive };
        let shared =
            ChannelShared::new(name.to_string(), Arc::clone(&slot.place.shared), mode, Some(settings.traffic()));
        if common.application.find_queue(&consume.queue).is_some_and(Queue::ends_unused) {
            shared.redeclare();
        } else {
            // The connection may have declared the topology before the side queues were added to it.
            shared.declare_added();
        }
        let channel = channel::spec(&shared, &slot.place.connection).on(self.io());
        let consumer = session::actor::spec(&settings, &shared, &channel.addr()).on(self.io());
        let (remove, removal) = oneshot::channel();
        let now = Now::new(&settings, &slot.place.shared);
        let added = Consumer {
            name: Arc::clone(&name),
            now: Arc::clone(&now),
            remove: Mutex::new(Some(remove)),
            _copies: copies,
            place,
            _claim: Arc::clone(&common.claim),
        };
        self.parts(|parts| parts.consumers.push(Arc::new(added)));
        let started = self.add_channel(&shared, &slot, Step::ConsumerChannels, channel, consumer);
        self.keep_place(Placed { name, settings, channel: shared, slot, started, now }, removal);
        Ok(())
    }

    async fn add_handlers<A, T, R, D, F>(
        &self,
        name: &str,
        consume: &Consume<T, R>,
        feeder: Feeder<impl Fn() -> D + Clone + Send + Sync + 'static>,
        factory: Arc<F>,
    ) -> Result<Arc<HandlerPlace>, ServiceError>
    where
        A: Actor<Context = Context<A>>,
        D: Calls<A>,
        F: Fn() -> A + Send + Sync + 'static,
    {
        let instances = consume.handlers();
        // The threads are not shared with other consumers, unless it is one with a name.
        let threads = match &consume.threads {
            Threads::Shared | Threads::Io => instances.min(cores()),
            Threads::Own => instances,
            Threads::Named(_) => 1,
        };
        let apart = HandlerSpecs::new(name, consume, feeder, factory);
        let supervisor = SupervisorSpec::new(name).strategy(Strategy::OneForOne).intensity(consume.handler_intensity);
        if consume.threads != Threads::Io {
            let arbiters = match &consume.threads {
                Threads::Named(name) => self.inner.threads.named(name),
                _ => self.inner.threads.handlers(threads),
            };
            let arbiters = arbiters.map_err(ServiceError::Thread)?;
            let each = (0..instances).zip(arbiters.iter().cycle().cloned());
            self.start_handlers(each.fold(supervisor, |spec, one| spec.child(apart.spec(one.0, one.1)))).await?;
            return Ok(Arc::new(HandlerPlace::on(arbiters)));
        }
        let current = self.inner.threads.step_on_io().map_err(ServiceError::Thread)?;
        let (on_io, blocked) = OnIo::new(name, current);
        let leaving = Arc::downgrade(&on_io);
        let (here, place) = (apart.on_io(on_io), Arc::<HandlerPlace>::default());
        let handlers = OnIoHandlers {
            consumer: name.into(),
            on_io: leaving,
            blocked,
            place: Arc::clone(&place),
            supervisor: supervisor.handle(),
            instances,
            threads,
            spec: move |instance, arbiter| apart.spec(instance, arbiter).into(),
        };
        let supervisor = (0..instances).fold(supervisor, |spec, instance| spec.child(here.spec(instance, self.io())));
        self.start_handlers(supervisor).await?;
        self.move_if_they_block(handlers);
        Ok(place)
    }

    async fn start_handlers(&self, spec: impl Into<ChildSpec>) -> Result<(), ServiceError> {
        let spec = spec.into();
        let name = spec.id().to_owned();
        self.inner.handlers.start_child(spec).await.map_err(|_| ServiceError::Ended(name))
    }
}

/// A consumer tag that shows an operator which process consumes. AMQP limits tags to 255 bytes: if `name` is longer
/// than 200 bytes, the tag has only the process id and a random id.
fn consumer_tag(name: &str) -> String {
    let process = std::process::id();
    if name.len() <= 200 { format!("{name}-{process}") } else { format!("fluffle-{process}-{}", uuid::Uuid::now_v7()) }
}
