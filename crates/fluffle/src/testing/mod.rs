//! Tests of an application: its real handlers, with the real client, on an embedded broker.
//!
//! The chapter "Testing your handlers" (`docs/TESTING.md`) explains this in detail. In short:
//!
//! ```
//! use fluffle::{prelude::*, testing::TestBroker};
//! # struct Shout { out: Publisher<String> }
//! # impl Actor for Shout { type Context = Context<Self>; }
//! # impl Handler<Delivery<String>> for Shout {
//! #     type Result = ResponseFuture<Result<(), Failure>>;
//! #     fn handle(&mut self, word: Delivery<String>, _: &mut Self::Context) -> Self::Result {
//! #         let out = self.out.clone();
//! #         Box::pin(async move {
//! #             if word.is_empty() { return Err(Failure::reject("nothing to shout")) }
//! #             out.publish(word.to_uppercase()).await?;
//! #             Ok(())
//! #         })
//! #     }
//! # }
//! # fn shouting(broker: Broker) -> (App, Publisher<String>) {
//! #     let topology = Topology::new().queue(Queue::quorum("words").dead_letter()).queue(Queue::quorum("shouts"));
//! #     let app = App::new(broker).topology(topology);
//! #     let (words, out) = (app.publisher(Route::queue("words")), app.publisher(Route::queue("shouts")));
//! #     (app.consume(Consume::queue("words"), move || Shout { out: out.clone() }), words)
//! # }
//! # actix::System::new().block_on(async {
//!
//! let broker = TestBroker::start()?;
//! let (app, words) = shouting(broker.client()?);   // the application's own code
//! let service = app.start().await?;
//!
//! words.publish("hello".to_owned()).await?;
//! words.publish(String::new()).await?;
//! broker.settled(&service).await?;                 // waits until nothing is left to do
//!
//! assert_eq!(broker.read::<String>("shouts")?[0].message()?, "HELLO");
//! let dead = broker.read::<String>("words.dead")?;
//! assert_eq!(dead[0].dead_letter.as_ref().unwrap().error, "nothing to shout");
//! # service.shutdown().await?;
//! # Ok::<(), fluffle::Error>(())
//! # }).unwrap();
//! ```

mod storm;

use std::{ops::Deref, time::Duration};

use fluffle_amqp::{Broker, ConsumerStats, Payload, Service};
use fluffle_broker::{QueuedMessage, Value};
use fluffle_supervise::Backoff;
use fluffle_wire::{
    DecodeError, Incoming, Wire,
    headers::{Attempt, DeadLetterInfo, HeaderValue, error_chain},
};

use tokio::time::{Instant, sleep, timeout_at};

pub use self::storm::{Gust, Storm, StormReport};
use crate::error::Error;

/// How long [`TestBroker::settled`] waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often `settled` polls the publishers, because they do not report when they are done.
const LOOK: Duration = Duration::from_millis(1);

/// A broker for one test, inside the test process. It speaks AMQP on a free port of 127.0.0.1, starts in under a
/// millisecond, and ends when it is dropped.
///
/// It dereferences to the [broker](fluffle_broker::Broker) itself, which a test can `stop`, `kill` and `start_again`,
/// and which has faults and a snapshot. It behaves like RabbitMQ, with the [known
/// differences](fluffle_broker#known-differences-from-rabbitmq).
#[derive(Debug)]
pub struct TestBroker {
    broker: fluffle_broker::Broker,
}

impl TestBroker {
    /// Starts a broker with the default settings. For other settings, use
    /// `fluffle_broker::Broker::builder()…start()?.into()`.
    ///
    /// # Errors
    /// If no port or thread is available.
    pub fn start() -> Result<Self, Error> {
        Ok(fluffle_broker::Broker::start()?.into())
    }

    /// Returns this broker as the argument for [`App::new`](crate::App::new). Clients reconnect after 10 to 200 ms
    /// instead of up to 10 s, for tests that break connections.
    ///
    /// # Errors
    /// Never: the URL of this broker is a valid AMQP URI.
    pub fn client(&self) -> Result<Broker, Error> {
        let waits = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(200))?;
        Ok(Broker::new(&self.broker.url())?.reconnect(waits))
    }

    /// Waits, for 10 s at most, until `service` has nothing left to do. That is, until
    ///
    /// - the service is [ready](Service::ready), and its publishers wait for no confirm;
    /// - no message waits in their journals, or in the outbox tables that feed them (relays are woken; parked rows wait
    ///   for a person and do not count);
    /// - the broker holds no message that is unacked, waits for its retry, or is ready in a queue that has ever had a
    ///   consumer. Of a stream, which keeps what was read, its present consumers have everything.
    ///
    /// Messages in queues that never had a consumer count as settled: dead letters, and what the service publishes for
    /// others.
    ///
    /// If several services exchange messages, call this for each in turn, and then for each once more.
    ///
    /// # Errors
    /// If the service is not settled in time; the error names what is still unfinished. If the service gave up.
    pub async fn settled(&self, service: &Service) -> Result<(), Error> {
        self.settled_within(service, PATIENCE).await
    }

    /// Like [`settled`](Self::settled), with this limit instead of 10 s.
    ///
    /// # Errors
    /// Those of [`settled`](Self::settled).
    pub async fn settled_within(&self, service: &Service, limit: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        match timeout_at(deadline, service.ready()).await {
            Ok(ready) => ready?,
            Err(_) => return Err(Error::other(format!("not ready within {limit:?}:\n{}", service.snapshot()))),
        }
        let mut stored = Vec::new();
        loop {
            let before = books(service);
            self.broker.settled(deadline.saturating_duration_since(Instant::now())).await?;
            // The broker receives an ack a moment before the service counts it.
            sleep(LOOK).await;
            // If the deadline passes during this look, the error reports the result of the look before.
            stored = match timeout_at(deadline, in_stores(service)).await {
                Ok(seen) => seen,
                Err(_) if stored.is_empty() => vec!["a database did not answer".to_owned()],
                Err(_) => stored,
            };
            // If the counts have changed between the two looks, messages were published meanwhile: look again.
            if before.outstanding == 0 && stored.is_empty() && before == books(service) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let waiting = waiting_for(service).into_iter().chain(stored).collect::<Vec<_>>().join("; ");
                return Err(Error::other(format!("not settled within {limit:?}: {waiting}")));
            }
        }
    }

    /// Returns the ready messages of a queue, decoded as `T`, in delivery order. They stay in the queue.
    ///
    /// # Errors
    /// If the queue does not exist. A message that cannot be decoded as `T` is no error here; see [`Queued::message`].
    pub fn read<T: Payload>(&self, queue: &str) -> Result<Vec<Queued<T>>, Error> {
        let wire = T::wire();
        Ok(self.broker.messages(queue)?.into_iter().map(|raw| Queued::new(raw, &wire)).collect())
    }
}

/// The counts of a service: those of all its publishers, summed up, and those of its consumers.
#[derive(PartialEq)]
struct Books {
    accepted: u64,
    outstanding: usize,
    consumers: Vec<(String, ConsumerStats)>,
}

fn books(service: &Service) -> Books {
    let publishers = service.publishers();
    Books {
        accepted: publishers.iter().map(|(_, stats)| stats.accepted).sum(),
        outstanding: publishers.iter().map(|(_, stats)| stats.outstanding).sum(),
        consumers: service.consumers(),
    }
}

/// Describes the messages that still wait in journals and outbox tables.
async fn in_stores(service: &Service) -> Vec<String> {
    let backlogs = service.backlogs().await.into_iter();
    let waiting = backlogs.filter_map(|(name, waiting)| match waiting {
        Ok(0) => None,
        Ok(count) => Some(format!("{count} messages wait in the store of publisher {name}")),
        Err(error) => Some(format!("the store of publisher {name} cannot be looked at: {}", error_chain(&*error))),
    });
    waiting.collect()
}

fn waiting_for(service: &Service) -> Vec<String> {
    let waiting = service.publishers().into_iter().filter(|(_, stats)| stats.outstanding > 0);
    waiting.map(|(name, stats)| format!("publisher {name} waits for {} confirms", stats.outstanding)).collect()
}

impl From<fluffle_broker::Broker> for TestBroker {
    fn from(broker: fluffle_broker::Broker) -> Self {
        Self { broker }
    }
}

impl Deref for TestBroker {
    type Target = fluffle_broker::Broker;

    fn deref(&self) -> &Self::Target {
        &self.broker
    }
}

/// A message in a queue, decoded.
#[derive(Debug)]
#[non_exhaustive]
pub struct Queued<T> {
    decoded: Result<T, DecodeError>,
    /// The attempt number of the next delivery, from 1.
    pub attempt: u32,
    /// On a dead letter that Fluffle made: its reason, number of attempts and origin.
    pub dead_letter: Option<DeadLetterInfo>,
    /// The message as the queue holds it: properties, headers, bytes.
    pub raw: QueuedMessage,
}

impl<T> Queued<T> {
    fn new(raw: QueuedMessage, wire: &Wire<T>) -> Self {
        let header = |name: &'static str| match raw.headers.get(name)? {
            Value::Int(number) => Some(HeaderValue::Int(*number)),
            Value::Text(text) => Some(HeaderValue::Str(text)),
            _ => None,
        };
        let incoming = Incoming {
            content_type: raw.content_type.as_deref(),
            content_encoding: raw.content_encoding.as_deref(),
            type_name: raw.kind.as_deref(),
            headers: None,
            body: &raw.body,
        };
        let decoded = wire.decode(&incoming);
        let (attempt, dead_letter) = (Attempt::read(header).get(), DeadLetterInfo::read(header));
        Self { decoded, attempt, dead_letter, raw }
    }

    /// Returns the decoded message.
    ///
    /// # Errors
    /// If the message cannot be decoded, which may be the reason why it is in a dead-letter queue.
    pub fn message(&self) -> Result<&T, Error> {
        self.decoded.as_ref().map_err(|error| Error::other(error_chain(error)))
    }
}
