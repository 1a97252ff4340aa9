//! Shared settings: what is derived from [`Consume`] once, for a consumer's handlers and all its sessions.

use std::{
    ops::Deref,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use fluffle_supervise::SupervisedAddr;

use crate::{
    base::{
        consumer_state::{ConsumerState, StateLog},
        drain,
        events::DeliveryEvent,
        requests::Requests,
    },
    consume::{
        decide::verdict::Rules,
        events::delivery_events::DeliveryEvents,
        intake::{intake::Steps, seen::Seen, step::IntakeStep},
        message::deliveries::Deliveries,
        queue::handler_queue::HandlerQueue,
        session::{guard::Guard, orphans::Orphans, pause::Pause, quarantine::Quarantine, watchdog::Patience},
        settle::reader::Reader,
        spec::{
            consume::{CONSUMER_TIMEOUT, Consume, cores},
            guarantee::Guarantee,
            side_queues::SideQueues,
        },
    },
    link::{
        connection::ConnectionActor,
        connection_shared::ConnectionShared,
        outage::{Traffic, UnderWay},
        pool::PooledConnection,
    },
    publish::send_queue::SendQueue,
    topology::{QueueKind, Topology},
};

/// The part that stays the same when the consumer moves to another connection.
pub(crate) struct Common {
    pub(crate) queue: Arc<str>,
    pub(crate) tag: String,
    pub(crate) rules: Rules,
    pub(crate) requests: Requests,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) patience: Patience,
    pub(crate) exclusive: bool,
    pub(crate) priority: Option<i32>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) handler_queue: Arc<HandlerQueue>,
    pub(crate) orphans: Orphans,
    pub(crate) send_queue: Arc<SendQueue>,
    pub(crate) side_queues: SideQueues,
    pub(crate) events: Arc<DeliveryEvents>,
    states: StateLog,
    /// How many handler actors it has, and how many deliveries each may have in hand.
    pub(crate) handlers: (usize, usize),
    /// With effectively once: the store of handled messages.
    pub(crate) seen: Option<Seen>,
    pub(crate) steps: Steps,
    /// Of a stream: what is read of it.
    pub(crate) reader: Option<Arc<Reader>>,
    /// Whether its queue has a single active consumer, as far as the application's topology says.
    pub(crate) single_active: bool,
    /// How long deliveries in flight may take to finish when the application shuts down.
    pub(crate) clock: drain::Clock,
}

/// What the service builds for a consumer, in addition to what its settings say.
pub(crate) struct Made {
    pub(crate) tag: String,
    pub(crate) side_queues: SideQueues,
    /// Whether its handlers answer with a type other than `()`.
    pub(crate) answers: bool,
    pub(crate) patience: Patience,
    pub(crate) guard: Arc<Guard>,
    pub(crate) handler_queue: Arc<HandlerQueue>,
    pub(crate) send_queue: Arc<SendQueue>,
    pub(crate) seen: Option<Seen>,
    pub(crate) clock: drain::Clock,
}

/// The settings of a consumer on one connection. They outlive every restart of the consumer there.
pub(crate) struct SharedSettings {
    common: Arc<Common>,
    pub(crate) prefetch: u16,
    pub(crate) deliveries: Deliveries,
    /// Whether the consumer is subscribed at present, on whichever channel.
    subscribed: AtomicBool,
    /// Whether a channel of now has or had a subscription, so that the broker may have delivered messages on it that
    /// are unacked.
    pub(crate) engaged: AtomicBool,
    /// Deliveries that a paused session has not settled yet.
    pub(crate) held: AtomicUsize,
    pub(crate) connection: SupervisedAddr<ConnectionActor>,
}

impl Traffic for Common {
    fn under_way(&self) -> UnderWay {
        // What was acked on arrival does not come again.
        let unacked = if self.rules.acks_on_arrival() { 0 } else { self.events.unacked() };
        UnderWay { unacked, redelivered: self.events.redelivered(), ..UnderWay::default() }
    }
}

impl Deref for SharedSettings {
    type Target = Common;

    fn deref(&self) -> &Common {
        &self.common
    }
}

impl SharedSettings {
    /// Of `consume`, on one connection. `kind`: of its queue, if the application declares it.
    pub(crate) fn new<T, R>(
        consume: &Consume<T, R>,
        made: Made,
        kind: Option<QueueKind>,
        shared: &Arc<ConnectionShared>,
        connection: SupervisedAddr<ConnectionActor>,
    ) -> Self {
        let Made { tag, side_queues, answers, patience, guard, handler_queue, send_queue, seen, clock } = made;
        let steps: Vec<Arc<dyn IntakeStep>> =
            seen.iter().map(|seen| Arc::new(seen.clone()) as Arc<dyn IntakeStep>).collect();
        let common = Common {
            queue: consume.queue.as_str().into(),
            tag,
            rules: consume.rules(),
            requests: consume.requests(answers),
            quarantine: Arc::new(consume.quarantine()),
            patience,
            exclusive: consume.exclusive,
            priority: consume.priority,
            guard,
            events: Arc::clone(&handler_queue.events),
            handler_queue,
            orphans: Orphans::default(),
            states: StateLog::default(),
            handlers: (consume.handlers(), consume.in_hand_of_each()),
            send_queue,
            side_queues,
            seen,
            steps: steps.into(),
            reader: consume.stream.as_ref().map(Reader::new),
            single_active: shared.topology.has_single_active_consumer(&consume.queue),
            clock,
        };
        Self {
            common: Arc::new(common),
            prefetch: consume.prefetch,
            deliveries: Deliveries::new(kind, Arc::clone(shared)),
            subscribed: AtomicBool::new(false),
            engaged: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            connection,
        }
    }

    /// The same consumer on another connection, with another prefetch.
    pub(crate) fn on(&self, place: &PooledConnection, prefetch: u16) -> Self {
        Self {
            common: Arc::clone(&self.common),
            prefetch,
            deliveries: self.deliveries.on(Arc::clone(&place.shared)),
            subscribed: AtomicBool::new(false),
            engaged: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            connection: place.connection.clone(),
        }
    }

    /// What is under way on the consumer's channel.
    pub(crate) fn traffic(&self) -> Weak<dyn Traffic> {
        let traffic: Weak<Common> = Arc::downgrade(&self.common);
        traffic
    }

    /// What the consumer is doing. A switch that is not closed decides first, then the isolation, then the
    /// subscription.
    pub(crate) fn state(&self) -> ConsumerState {
        match self.guard.state() {
            ConsumerState::Consuming if self.quarantine.is_on() => ConsumerState::Isolating,
            ConsumerState::Consuming if !self.subscribed.load(Relaxed) => ConsumerState::Unsubscribed,
            state => state,
        }
    }

    /// Looks at the [state](Self::state), tells listeners if it has changed, and says since when it is that. Called
    /// where something may have changed it, and by whoever asks.
    pub(crate) fn look_at_state(&self) -> (ConsumerState, Instant) {
        self.states.look(|| self.state(), |from, to| self.events.emit(DeliveryEvent::State { from, to }))
    }

    /// The same for who does not ask.
    pub(crate) fn note_state(&self) {
        self.look_at_state();
    }

    /// The queue or stream that it is subscribed to.
    pub(crate) fn source(&self) -> &str {
        self.reader.as_ref().map_or(&*self.queue, |reader| reader.stream())
    }

    /// The consumer is subscribed now, or no longer.
    pub(crate) fn set_subscribed(&self, subscribed: bool) {
        self.subscribed.store(subscribed, Relaxed);
        self.note_state();
    }
}

impl<T, R> Consume<T, R> {
    fn rules(&self) -> Rules {
        Rules {
            guarantee: self.guarantee,
            retry: self.retry.clone(),
            delivery_limit: self.deliveries(),
            skips_other_types: self.skips_other_types,
            is_stream: self.stream.is_some(),
        }
    }

    /// How the consumer treats messages that ask for an answer.
    fn requests(&self, answers: bool) -> Requests {
        Requests { answers, retried: self.retry_requests }
    }

    /// How many handler actors the consumer has; see [`instances`](Self::instances).
    pub(crate) fn handlers(&self) -> usize {
        let of_cores = || if self.key.is_some() { cores() } else { 1 };
        self.instances.unwrap_or_else(of_cores)
    }

    /// How many deliveries each handler actor may have in hand.
    pub(crate) fn in_hand_of_each(&self) -> usize {
        self.concurrency.unwrap_or(usize::from(self.prefetch)).max(1)
    }

    /// The delivery limit that was set; by default twice the attempts of the retry policy, between 6 and 20.
    fn deliveries(&self) -> u32 {
        self.delivery_limit.unwrap_or_else(|| self.retry.attempts().saturating_mul(2).clamp(6, 20))
    }

    /// With `AtMostOnce` a redelivered message is dropped, so no message is ever a suspect.
    fn quarantine(&self) -> Quarantine {
        let limit = (self.guarantee == Guarantee::AtLeastOnce).then(|| self.deliveries());
        Quarantine::new(limit, self.prefetch)
    }

    /// The guard with the consumer's circuit breaker and kill switch.
    pub(crate) fn guard(&self) -> Guard {
        let kill_switch = self.kill_switch.as_ref().map(|switch| switch.shared(&self.queue));
        Guard { breaker: self.circuit_breaker.clone(), kill_switch, pause: Pause::default() }
    }

    /// How long deliveries may take. Logs a warning if that may be longer than the broker waits for an ack, which the
    /// application's topology may say of the queue.
    pub(crate) fn patience(&self, application: &Topology) -> Patience {
        let handler_timeout = self.handler_timeout;
        if self.guarantee == Guarantee::AtMostOnce {
            return Patience { handler_timeout, give_back_after: None, consumer_timeout: None };
        }
        let of_queue = || application.find_queue(&self.queue)?.time_limit();
        let consumer_timeout = self.consumer_timeout.or_else(of_queue).unwrap_or(CONSUMER_TIMEOUT);
        if self.stream.is_some() {
            // A stream takes nothing back, so what waits for a handler goes on waiting.
            return Patience { handler_timeout, give_back_after: None, consumer_timeout: Some(consumer_timeout) };
        }
        let give_back_after = self.give_back_after.unwrap_or(consumer_timeout / 2);
        if give_back_after.saturating_add(handler_timeout) > consumer_timeout {
            tracing::warn!(
                queue = %self.queue, ?handler_timeout, ?give_back_after, ?consumer_timeout,
                "handler_timeout and give_back_after add up to more than consumer_timeout, so the broker may close the \
                 channel before a slow handler's time is up: shorten them, or set `Consume::consumer_timeout` if the \
                 broker's is longer"
            );
        }
        Patience { handler_timeout, give_back_after: Some(give_back_after), consumer_timeout: Some(consumer_timeout) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{
        consume::queue::waiting::Waiting,
        link::connection::{self, tests::shared},
        topology::Queue,
    };

    /// The settings of a consumer whose connection is never established.
    pub(crate) fn settings(mut consume: Consume<String>) -> Arc<SharedSettings> {
        let rules = consume.rules();
        let waiting = Waiting::new(rules.acks_on_arrival(), consume.max_bytes, None, false);
        let (shared, window) = (shared(), usize::from(consume.prefetch));
        let made = Made {
            tag: "tag".to_owned(),
            side_queues: consume.side_queues(&Topology::new()),
            answers: false,
            patience: consume.patience(&Topology::new()),
            guard: Arc::new(consume.guard()),
            handler_queue: HandlerQueue::new(waiting, None),
            send_queue: SendQueue::new("copies".to_owned(), window, window, consume.confirm_timeout),
            seen: consume.seen.take().map(Seen::new),
            clock: drain::Clock::new(std::time::Duration::from_secs(1)),
        };
        let connection = connection::spec(&shared).addr();
        Arc::new(SharedSettings::new(&consume, made, None, &shared, connection))
    }

    #[test]
    fn a_consumer_goes_by_its_own_time_limit_or_that_of_its_queue_or_that_of_rabbitmq() {
        let seconds = std::time::Duration::from_secs;
        let timed = Topology::new().queue(Queue::quorum("q").consumer_timeout(seconds(60)));
        let plain = Topology::new().queue(Queue::quorum("q"));
        let own = || Consume::<String>::queue("q").consumer_timeout(seconds(90));
        for (consume, topology, limit) in [
            (own(), &timed, seconds(90)),
            (own(), &plain, seconds(90)),
            (Consume::queue("q"), &timed, seconds(60)),
            (Consume::queue("q"), &plain, CONSUMER_TIMEOUT),
            (Consume::queue("of others"), &timed, CONSUMER_TIMEOUT),
        ] {
            let patience = consume.patience(topology);
            assert_eq!(patience.consumer_timeout, Some(limit));
            assert_eq!(patience.give_back_after, Some(limit / 2));
        }
    }
}
