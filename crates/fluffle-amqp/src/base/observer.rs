//! Observers of a service, and the listeners that they give.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::base::{
    attempt_report::{AttemptListener, AttemptListeners},
    events::{ChannelEvent, ConnectionEvent, DeliveryEvent, PublishEvent, ReplayEvent, RequestEvent},
    observer_panics::{guarded, report},
    trace::{PublishTracer, Tracer},
};

/// Hears of the events of one thing: a consumer, a publisher, a channel, a connection, or the tree.
///
/// It is called on the thread that decides the event, while that thread could do other work: it must be quick, and must
/// not block or wait. It must not publish, and must not call the service, because it may be called under a lock of
/// theirs. Usually it adds to an atomic that it holds.
///
/// If it panics, no message suffers: the panic is logged, and this listener hears of nothing more.
pub type Listener<E> = Arc<dyn Fn(&E) + Send + Sync>;

/// Watches a service. Each method is called once for each thing when that is added, and gives the thing's listener: so
/// a listener looks nothing up, because it was made for its thing. A method that gives `None`, as all do by default,
/// costs nothing afterwards.
///
/// Hand it to the service before the start (`App::observe`, or
/// [`Service::start_observed`](crate::Service::start_observed)). A service may have several observers; each gets all
/// events, in the order in which they were handed in. The labels' names are unique in their service: a second publisher
/// to the exchange `orders` is `orders#2`.
///
/// # Example
/// The messages handled, by queue:
///
/// ```
/// use std::{
///     collections::HashMap,
///     sync::{Arc, Mutex, atomic::{AtomicU64, Ordering}},
/// };
/// use fluffle_amqp::{ConsumerLabels, DeliveryEvent, Listener, Observer};
///
/// #[derive(Default)]
/// struct Handled(Mutex<HashMap<String, Arc<AtomicU64>>>);
///
/// impl Observer for Handled {
///     fn consumer(&self, of: &ConsumerLabels<'_>) -> Option<Listener<DeliveryEvent>> {
///         // The look-up is here, once a consumer, and not in the listener.
///         let handled = Arc::clone(self.0.lock().unwrap().entry(of.queue.to_owned()).or_default());
///         Some(Arc::new(move |event: &DeliveryEvent| {
///             if let DeliveryEvent::Settled { messages, .. } = event {
///                 handled.fetch_add(messages.handled as u64, Ordering::Relaxed);
///             }
///         }))
///     }
/// }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// A consumer is added. A consumer with several lanes is added once for each.
    fn consumer(&self, of: &ConsumerLabels<'_>) -> Option<Listener<DeliveryEvent>> {
        let _ = of;
        None
    }

    /// A consumer is added, as [`consumer`](Self::consumer) says. The listener hears of each attempt, with the id and
    /// the trace of its message: for logs and pages that name single messages. Metrics need only `consumer`.
    fn attempts(&self, of: &ConsumerLabels<'_>) -> Option<AttemptListener> {
        let _ = of;
        None
    }

    /// A publisher is added. A publisher with several lanes is added once for each. Each consumer has a publisher for
    /// its copies and answers, which is named `<consumer>/copies`.
    fn publisher(&self, of: &PublisherLabels<'_>) -> Option<Listener<PublishEvent>> {
        let _ = of;
        None
    }

    /// A requester is added.
    fn requester(&self, of: &RequesterLabels<'_>) -> Option<Listener<RequestEvent>> {
        let _ = of;
        None
    }

    /// A publisher or requester is added, as [`publisher`](Self::publisher) says. The tracer makes spans of what it
    /// publishes. Of several observers, the first that gives a tracer is the only one that is asked.
    ///
    /// Messages that are accepted before the service has the publisher have no spans. Nor have retry copies, dead
    /// letters and answers: they carry the trace of the message that they come from.
    fn publish_tracer(&self, of: &PublisherLabels<'_>) -> Option<Arc<dyn PublishTracer>> {
        let _ = of;
        None
    }

    /// A consumer, publisher or requester is given a channel on a connection. Its channels on that connection follow
    /// one another.
    fn channel(&self, of: &ChannelLabels<'_>) -> Option<Listener<ChannelEvent>> {
        let _ = of;
        None
    }

    /// A replay begins, which [`Service::replay`](crate::Service::replay) runs or [`Replay::observe`] is told of.
    ///
    /// [`Replay::observe`]: crate::Replay::observe
    fn replay(&self, of: &ReplayLabels<'_>) -> Option<Listener<ReplayEvent>> {
        let _ = of;
        None
    }

    /// A connection is added to the pool. It connects, and connects again, under the same name.
    fn connection(&self, of: &ConnectionLabels<'_>) -> Option<Listener<ConnectionEvent>> {
        let _ = of;
        None
    }

    /// The supervision tree is built. The listener hears of every start, exit, wait and escalation of every node.
    fn nodes(&self) -> Option<Listener<fluffle_supervise::Event>> {
        None
    }
}

/// The labels of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerLabels<'a> {
    /// Its name in the tree: the queue's, with a number from the second consumer on.
    pub name: &'a str,
    /// The queue that it consumes from.
    pub queue: &'a str,
}

/// The labels of a publisher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublisherLabels<'a> {
    /// Its name in the tree.
    pub name: &'a str,
}

/// The labels of a requester.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequesterLabels<'a> {
    /// Its name in the tree.
    pub name: &'a str,
}

/// The labels of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplayLabels<'a> {
    /// The dead-letter queue.
    pub queue: &'a str,
}

/// The labels of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelLabels<'a> {
    /// The name of the consumer, publisher or requester that uses it.
    pub name: &'a str,
    /// The name of its connection.
    pub connection: &'a str,
}

/// The labels of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLabels<'a> {
    /// Its name: `publish-0`, `consume-0` and so on.
    pub name: &'a str,
}

/// The observers of one service.
#[derive(Clone, Default)]
pub(crate) struct Observers(Arc<[Arc<dyn Observer>]>);

impl From<Vec<Arc<dyn Observer>>> for Observers {
    fn from(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self(observers.into())
    }
}

impl Observers {
    pub(crate) fn all(&self) -> &[Arc<dyn Observer>] {
        &self.0
    }

    pub(crate) fn consumer(&self, name: &str, queue: &str) -> (Listeners<DeliveryEvent>, AttemptListeners) {
        let labels = ConsumerLabels { name, queue };
        let attempts = self.asked(name, |observer| observer.attempts(&labels));
        let attempts = AttemptListeners::new(name, attempts);
        let mut events = self.listeners(name, |observer| observer.consumer(&labels));
        if attempts.is_heard() && !events.is_heard() {
            // The times of attempts are taken only if somebody hears of events.
            let tell: Listener<DeliveryEvent> = Arc::new(|_: &DeliveryEvent| {});
            events.all = [Hearing { tell, is_broken: AtomicBool::new(false) }].into();
        }
        (events, attempts)
    }

    pub(crate) fn publisher(&self, name: &str) -> Listeners<PublishEvent> {
        self.listeners(name, |observer| observer.publisher(&PublisherLabels { name }))
    }

    pub(crate) fn requester(&self, name: &str) -> Listeners<RequestEvent> {
        self.listeners(name, |observer| observer.requester(&RequesterLabels { name }))
    }

    pub(crate) fn publish_tracer(&self, name: &str) -> Tracer {
        let mut tracers = self.asked(name, |observer| observer.publish_tracer(&PublisherLabels { name }));
        tracers.next().map_or_else(Tracer::default, Tracer::new)
    }

    pub(crate) fn replay(&self, queue: &str) -> Listeners<ReplayEvent> {
        self.listeners(queue, |observer| observer.replay(&ReplayLabels { queue }))
    }

    pub(crate) fn channel(&self, name: &str, connection: &str) -> Listeners<ChannelEvent> {
        self.listeners(name, |observer| observer.channel(&ChannelLabels { name, connection }))
    }

    pub(crate) fn connection(&self, name: &str) -> Listeners<ConnectionEvent> {
        self.listeners(name, |observer| observer.connection(&ConnectionLabels { name }))
    }

    pub(crate) fn nodes(&self) -> Listeners<fluffle_supervise::Event> {
        self.listeners("the supervision tree", |observer| observer.nodes())
    }

    fn listeners<E>(&self, of: &str, ask: impl Fn(&dyn Observer) -> Option<Listener<E>>) -> Listeners<E> {
        let all = self.asked(of, ask).map(|tell| Hearing { tell, is_broken: AtomicBool::new(false) });
        Listeners { of: of.into(), all: all.collect() }
    }

    /// What each observer answers to a question. An observer that panics over it has no answer.
    fn asked<L>(&self, of: &str, ask: impl Fn(&dyn Observer) -> Option<L>) -> impl Iterator<Item = L> {
        self.0.iter().filter_map(move |observer| {
            catch_unwind(AssertUnwindSafe(|| ask(&**observer))).unwrap_or_else(|panic| {
                report(of, &*panic);
                None
            })
        })
    }
}

/// The listeners of one thing: none, for most services.
pub(crate) struct Listeners<E> {
    /// The thing's name, for the log.
    of: Box<str>,
    all: Box<[Hearing<E>]>,
}

struct Hearing<E> {
    tell: Listener<E>,
    /// It has panicked, and hears of nothing more.
    is_broken: AtomicBool,
}

impl<E> Listeners<E> {
    /// Whether anybody listens. An event whose values cost something is made only then.
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        !self.all.is_empty()
    }

    #[inline]
    pub(crate) fn tell(&self, event: &E) {
        if self.is_heard() {
            self.tell_all(event);
        }
    }

    #[cold]
    fn tell_all(&self, event: &E) {
        for hearing in self.all.iter().filter(|hearing| !hearing.is_broken.load(Ordering::Relaxed)) {
            guarded(&self.of, &hearing.is_broken, || (hearing.tell)(event));
        }
    }
}

impl<E> Default for Listeners<E> {
    fn default() -> Self {
        Self { of: Box::default(), all: Box::default() }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Listeners that write every event down, and what they wrote.
    pub(crate) fn written<E: Clone + Send + 'static>() -> (Listeners<E>, Arc<Mutex<Vec<E>>>) {
        let written = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&written);
        let tell: Listener<E> = Arc::new(move |event: &E| into.lock().unwrap().push(event.clone()));
        (Listeners { of: "test".into(), all: [Hearing { tell, is_broken: AtomicBool::new(false) }].into() }, written)
    }

    /// Panics over the second question, and over each event.
    #[derive(Clone, Default)]
    struct Panics {
        asked: Arc<AtomicBool>,
        events: Arc<Mutex<usize>>,
    }

    impl Observer for Panics {
        fn connection(&self, _: &ConnectionLabels<'_>) -> Option<Listener<ConnectionEvent>> {
            assert!(!self.asked.swap(true, Ordering::Relaxed), "asked twice");
            let events = Arc::clone(&self.events);
            Some(Arc::new(move |_: &ConnectionEvent| {
                *events.lock().unwrap() += 1;
                panic!("too much");
            }))
        }
    }

    struct Counts(Arc<Mutex<Vec<ConnectionEvent>>>);

    impl Observer for Counts {
        fn connection(&self, of: &ConnectionLabels<'_>) -> Option<Listener<ConnectionEvent>> {
            assert_eq!(of.name, "publish-0");
            let heard = Arc::clone(&self.0);
            Some(Arc::new(move |event: &ConnectionEvent| heard.lock().unwrap().push(*event)))
        }
    }

    #[test]
    fn a_panic_of_one_observer_ends_in_it_and_the_others_hear_of_everything() {
        let (panics, heard) = (Panics::default(), Arc::new(Mutex::new(Vec::new())));
        let observers: [Arc<dyn Observer>; 2] = [Arc::new(panics.clone()), Arc::new(Counts(Arc::clone(&heard)))];
        let observers = Observers::from(Vec::from(observers));
        let listeners = observers.connection("publish-0");
        for _ in 0..3 {
            listeners.tell(&ConnectionEvent::Blocked);
        }
        assert_eq!(heard.lock().unwrap().len(), 3);
        assert_eq!(*panics.events.lock().unwrap(), 1, "it hears of nothing more");
        assert_eq!(observers.connection("publish-0").all.len(), 1, "the other panics over the second question");
        assert!(!observers.nodes().is_heard());
    }
}
