//! Where the messages of a publisher go, and how they are sent.

use std::{borrow::Cow, sync::Arc, time::Duration};

use fluffle_store::Journal;
use fluffle_wire::{Codec, Gzip, Limits, Wire, headers::TraceContext};

use crate::{
    base::payload::Payload,
    flow::{budget::DEFAULT_BYTES, rate::RateLimit},
    publish::{
        batching::Batching,
        error::PublishErrorKind,
        message::{Address, Prepared, new_id},
        options::MessageOptions,
        passing::Republish,
        properties::Labels,
    },
};

/// How a publisher learns that the broker has a message (RabbitMQ, "Consumer Acknowledgements and Publisher Confirms").
///
/// ```
/// use fluffle_amqp::{Confirms, Route};
///
/// let strict = Route::<String>::queue("ledger").confirms(Confirms::Each);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirms {
    /// It does not: a message counts as published once it is written to the socket. If the broker returns, refuses or
    /// loses a message, nobody notices. What a lost connection had not completely written is published again, so the
    /// broker gets no message twice. Meant for telemetry and the like.
    Off,
    /// One message at a time is on the wire, so that order holds even when a message has to be published again.
    Each,
    /// Up to this many messages are on the wire at once. Order holds on each channel. Messages that are published again
    /// after a lost channel keep their order too, but may repeat messages that had arrived.
    Window(usize),
}

/// The default of [`Route::confirm_timeout`]. Brokers confirm within milliseconds, or seconds under load. A queue
/// without a leader takes longer.
pub(crate) const CONFIRM_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest time that a setting may have: a deadline that is later than the clock can tell would panic.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where the messages of a publisher go, and how they are sent.
///
/// | setting | default |
/// |---|---|
/// | routing key | empty; the queue's name with [`Route::queue`] |
/// | [`confirms`](Route::confirms) | [`Confirms::Window`]`(1024)` |
/// | [`batch`](Route::batch) | off: each message travels by itself |
/// | [`lanes`](Route::lanes) | 1 channel |
/// | [`journal`](Route::journal) | none; with one, accepted messages outlive the process |
/// | [`confirm_timeout`](Route::confirm_timeout) | 60 s; then a fresh channel replaces this one |
/// | [`mailbox`](Route::mailbox) | 1024 messages accepted and not yet on the wire |
/// | [`max_bytes_in_flight`](Route::max_bytes_in_flight) | 64 MiB accepted and not settled |
/// | [`rate_limit`](Route::rate_limit) | none |
/// | [`mandatory`](Route::mandatory) | true: a message that no queue takes is an error, not a silent loss |
/// | [`persistent`](Route::persistent) | true: messages in durable queues survive a restart of the broker |
/// | [`deadline`](Route::deadline) | 30 s from `publish` to the broker's confirm, reconnects included |
/// | [`republish`](Route::republish) | what an election in the cluster refused is published again, until the deadline |
/// | [`gzip`](Route::gzip) | off |
/// | [`name`](Route::name) | the exchange's, or the queue's |
/// | codec | Protobuf; another with [`Route::coded`] |
///
/// ```
/// use std::time::Duration;
/// use fluffle_amqp::{Confirms, Route};
/// use fluffle_wire::Gzip;
///
/// let route = Route::<String>::exchange("quakes")
///     .key_by(|text| format!("quake.{}", text.len()))
///     .gzip(Gzip::auto())
///     .confirms(Confirms::Window(256))
///     .deadline(Duration::from_secs(10));
/// ```
pub struct Route<T> {
    pub(crate) exchange: Arc<str>,
    pub(crate) key: Key<T>,
    pub(crate) key_template: Option<Arc<str>>,
    pub(crate) mandatory: bool,
    pub(crate) persistent: bool,
    pub(crate) confirms: Confirms,
    pub(crate) confirm_timeout: Duration,
    pub(crate) name: Option<String>,
    pub(crate) journal: Option<Journal>,
    pub(crate) batching: Option<Batching>,
    pub(crate) lanes: usize,
    pub(crate) mailbox: usize,
    pub(crate) max_bytes: u64,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) deadline: Duration,
    pub(crate) republish: Republish,
    pub(crate) wire: Wire<T>,
}

/// The routing key: one for all messages, or made from each message.
pub(crate) enum Key<T> {
    Fixed(Arc<str>),
    By(Arc<dyn Fn(&T) -> String + Send + Sync>),
}

impl<T> Clone for Key<T> {
    fn clone(&self) -> Self {
        match self {
            Key::Fixed(key) => Key::Fixed(Arc::clone(key)),
            Key::By(key) => Key::By(Arc::clone(key)),
        }
    }
}

impl<T> Route<T> {
    /// A route to this exchange, with messages in the format of their [`Payload`]: Protobuf, if nothing else is said.
    pub fn exchange(name: impl Into<String>) -> Self
    where
        T: Payload,
    {
        Self::over(T::wire(), name.into())
    }

    /// A route straight to this queue, through the default exchange, with messages in the format of their [`Payload`].
    pub fn queue(name: impl Into<String>) -> Self
    where
        T: Payload,
    {
        Self::exchange("").key(name)
    }

    /// The name of the publisher or requester in the tree, in the log and in
    /// [`Service::publishers`](crate::Service::publishers). Default: the name of the exchange, or of the queue. If
    /// another publisher of the service has that name, a number is added: `alerts#2`.
    ///
    /// ```
    /// use fluffle_amqp::Route;
    ///
    /// let urgent = Route::<String>::exchange("alerts").name("urgent alerts");
    /// ```
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The name that was set, or else that of the exchange, or of the queue.
    pub(crate) fn name_in_tree(&self) -> String {
        self.name.clone().unwrap_or_else(|| match &self.key {
            Key::Fixed(queue) if self.exchange.is_empty() => queue.to_string(),
            Key::By(_) if self.exchange.is_empty() => "queues".to_owned(),
            _ => self.exchange.to_string(),
        })
    }

    /// A route to this exchange, with a codec of your choice. For a queue, use the default exchange `""` and the
    /// queue's name as [`key`](Route::key).
    pub fn coded(codec: impl Codec<T> + 'static, exchange: impl Into<String>) -> Self {
        Self::over(Wire::new(codec), exchange.into())
    }

    fn over(wire: Wire<T>, exchange: String) -> Self {
        Self {
            exchange: exchange.into(),
            key: Key::Fixed("".into()),
            key_template: None,
            mandatory: true,
            persistent: true,
            confirms: Confirms::Window(1024),
            confirm_timeout: CONFIRM_TIMEOUT,
            name: None,
            journal: None,
            batching: None,
            lanes: 1,
            mailbox: 1024,
            max_bytes: DEFAULT_BYTES,
            rate_limit: None,
            deadline: Duration::from_secs(30),
            republish: Republish::default(),
            wire,
        }
    }

    /// One routing key for all messages.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Key::Fixed(key.into().into());
        self
    }

    /// A routing key made from each message; at most 255 bytes.
    #[must_use]
    pub fn key_by(mut self, key: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        self.key = Key::By(Arc::new(key));
        self
    }

    /// One name for all the routing keys that [`key_by`](Self::key_by) makes. A tracer uses it in the names of spans,
    /// because the keys themselves could give each message a name of its own. Without it such a span has the name of
    /// the exchange alone.
    ///
    /// ```
    /// use fluffle_amqp::Route;
    ///
    /// let route = Route::<String>::exchange("orders")
    ///     .key_by(|order| format!("order.{order}"))
    ///     .key_template("order.{id}");
    /// ```
    #[must_use]
    pub fn key_template(mut self, template: impl Into<String>) -> Self {
        self.key_template = Some(template.into().into());
        self
    }

    /// How the publisher learns that the broker has a message.
    #[must_use]
    pub fn confirms(mut self, confirms: Confirms) -> Self {
        self.confirms = confirms;
        self
    }

    /// Gathers messages into batches: many small messages travel as one AMQP message, an *envelope* (`docs/WIRE.md`,
    /// "Batches"), and a consumer hands them out one by one. Off by default. With [`Batching::adaptive`] a message
    /// waits for others only while one of its routing key is unconfirmed, and travels by itself if none has joined it.
    ///
    /// `publish`, `enqueue`, `try_enqueue` and their receipts work as without batches, with these differences:
    ///
    /// - A message waits for others up to the [linger](Batching::linger). Its receipt resolves with the confirm of the
    ///   envelope. If the envelope is returned, nacked or refused, so is each message in it, and each sender gets its
    ///   message back. The id of a message is `<id of the envelope>/<index>`.
    /// - Each routing key has an open batch of its own. Up to 32 are open at a time; for one more, the oldest is sent.
    ///   Messages of one key keep their order. Messages of different keys have no order among them.
    /// - A message with options of its own beside a key (an id, headers, a priority, …) travels by itself, after the
    ///   messages accepted before it for its key.
    /// - The caller whose message has no room in a batch compresses and sends that batch, and waits for room for the
    ///   next one. [`mailbox`](Route::mailbox) and [`confirms`](Route::confirms) count envelopes, an open batch
    ///   included. A message in a batch is sent even when its `publish` future is dropped.
    ///   [`rate_limit`](Route::rate_limit) counts messages.
    /// - [`Publisher::flush`](crate::Publisher::flush), the drop of the last clone and a shutdown send open batches at
    ///   once.
    /// - [`gzip`](Route::gzip) compresses the batch as a whole.
    /// - With a [journal](Route::journal) an envelope is one record, written when the envelope is sent. Until then its
    ///   messages are only in memory. [`Receipt::journaled`](crate::Receipt::journaled) resolves once they are on the
    ///   disk. An envelope that cannot be delivered leaves the journal when every message has been handed back. If one
    ///   of the receipts was dropped, the whole envelope is tried again, with the messages that were handed back too.
    ///
    /// ```
    /// use fluffle_amqp::{Batching, Route};
    /// use fluffle_wire::Gzip;
    ///
    /// let route = Route::<String>::exchange("quakes").batch(Batching::default()).gzip(Gzip::auto());
    /// ```
    #[must_use]
    pub fn batch(mut self, batching: Batching) -> Self {
        self.batching = Some(batching);
        self
    }

    /// The number of channels in one publisher, its lanes: at least 1, which is the default. Each lane is on the
    /// connection of the [pool](crate::PoolConfig) that has the fewest channels. The routing key of a message chooses
    /// the lane. So messages of one key keep their order, messages of different keys have no order among them, and a
    /// route with one key for all messages uses one lane only.
    ///
    /// Each lane has a [`mailbox`](Route::mailbox), a [window](Route::confirms), [bytes](Route::max_bytes_in_flight)
    /// and [batches](Route::batch) of its own. All lanes share the [`rate_limit`](Route::rate_limit).
    /// [`Publisher::stats`](crate::Publisher::stats) adds the lanes up. The tree and
    /// [`Service::publishers`](crate::Service::publishers) list each lane by itself: `<exchange>`, `<exchange>#2` and
    /// so on.
    ///
    /// Refused together with a [`journal`](Route::journal), because a journal is one order for all its messages. A
    /// requester has one lane.
    ///
    /// ```
    /// use fluffle_amqp::Route;
    ///
    /// let route = Route::<String>::exchange("lines").key_by(|line| line.chars().take(2).collect()).lanes(4);
    /// ```
    #[must_use]
    pub fn lanes(mut self, count: usize) -> Self {
        self.lanes = count.max(1);
        self
    }

    /// Keeps accepted messages in a journal on the local disk until the broker has confirmed them. So no accepted
    /// message is lost with the process, and an outage may last as long as the disk has room. `enqueue` returns when
    /// the message has its place in the order. [`Receipt::journaled`](crate::Receipt::journaled) resolves when the
    /// message is on the disk. Then it is published, after the messages that earlier processes left. The journal's own
    /// limits take the place of the mailbox.
    ///
    /// A journal belongs to one publisher. Its confirms are on, whatever [`confirms`](Route::confirms) says. The window
    /// bounds how many messages are in memory, and [`max_bytes_in_flight`](Route::max_bytes_in_flight) how many bytes
    /// of them. A message that cannot be delivered (returned, nacked, refused) goes back to the sender that waits for
    /// it. If no sender waits, the message stays in the journal, an error is logged, and it is tried again after 200 ms
    /// to 60 s, out of its order. The next process tries it first.
    ///
    /// A journal can be opened only with the feature `store`, which is on by default.
    ///
    /// ```no_run
    /// use fluffle_amqp::{Journal, Route};
    ///
    /// # fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let journal = Journal::options().max_bytes(256 << 20).open("var/orders.journal")?;
    /// let route = Route::<String>::exchange("orders").journal(journal);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn journal(mut self, journal: Journal) -> Self {
        self.journal = Some(journal);
        self
    }

    /// How long the broker may take to confirm a message, at least 1 ms. After that time a fresh channel is opened, and
    /// every unconfirmed message is published again, because a confirm that never comes would keep its place in the
    /// window for ever. While the broker blocks publishers, the time stands still. No effect with [`Confirms::Off`].
    #[must_use]
    pub fn confirm_timeout(mut self, limit: Duration) -> Self {
        self.confirm_timeout = limit.clamp(Duration::from_millis(1), LONGEST);
        self
    }

    /// Most messages accepted and not yet on the wire, at least 1. If the mailbox is full, `publish` waits.
    #[must_use]
    pub fn mailbox(mut self, messages: usize) -> Self {
        self.mailbox = messages.max(1);
        self
    }

    /// Most bytes of bodies accepted and not settled: in the mailbox, on the wire, or waiting for a connection. At
    /// least 1, at most 4 GiB. If there is no room, `publish` waits, up to the deadline. A single larger message is
    /// accepted when no other is in flight.
    #[must_use]
    pub fn max_bytes_in_flight(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// How fast messages are accepted, see [`RateLimit`]. `publish` waits for its turn, first come, first served, up to
    /// the deadline. Then the message comes back as [`PublishErrorKind::Overloaded`].
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Whether a message that no queue takes comes back as an error (AMQP `mandatory`). No effect with
    /// [`Confirms::Off`], because without confirms nobody reads what the broker returns.
    #[must_use]
    pub fn mandatory(mut self, mandatory: bool) -> Self {
        self.mandatory = mandatory;
        self
    }

    /// Whether the broker writes the messages to disk in durable queues (`delivery_mode` 2).
    #[must_use]
    pub fn persistent(mut self, persistent: bool) -> Self {
        self.persistent = persistent;
        self
    }

    /// How long a publish may take in all, from the call to the broker's confirm. That includes waiting for room, for
    /// the connection, and for a broker that blocks publishers. After that time the message comes back as an error.
    #[must_use]
    pub fn deadline(mut self, limit: Duration) -> Self {
        self.deadline = limit.min(LONGEST);
        self
    }

    /// Which messages that a queue refused are published again by themselves. Default: [`Republish::Elections`].
    #[must_use]
    pub fn republish(mut self, republish: Republish) -> Self {
        self.republish = republish;
        self
    }

    /// Which bodies are compressed.
    #[must_use]
    pub fn gzip(mut self, gzip: Gzip) -> Self {
        self.wire = self.wire.gzip(gzip);
        self
    }

    /// Limits on the encoded messages that are sent.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.wire = self.wire.limits(limits);
        self
    }

    /// Encodes, addresses and labels a message without publishing it, so that it can be stored and later published by a
    /// [`Forwarder`](crate::Forwarder). The message carries the [current trace](crate::trace::current), unless the
    /// options say otherwise.
    ///
    /// # Errors
    /// If the message cannot be encoded, is over a limit, or a property is longer than AMQP allows.
    pub fn prepare(&self, message: &T, options: &MessageOptions) -> Result<Prepared, PublishErrorKind> {
        let (id, to) = self.address(message, options);
        self.prepare_as(message, options, id, to, options.cause().as_ref())
    }

    /// The message's id, and where the message goes.
    pub(crate) fn address(&self, message: &T, options: &MessageOptions) -> (Arc<str>, Address) {
        let id = options.id.as_deref().map_or_else(new_id, Arc::from);
        let routing_key = match (&options.key, &self.key) {
            (None, Key::Fixed(key)) => Arc::clone(key),
            (key, _) => self.routing_key(message, key.as_deref()).into(),
        };
        (id, Address { exchange: Arc::clone(&self.exchange), routing_key })
    }

    /// The routing key of `message`: `own`, if that is set, else the route's.
    pub(crate) fn routing_key<'a>(&'a self, message: &T, own: Option<&'a str>) -> Cow<'a, str> {
        match (own, &self.key) {
            (Some(key), _) => Cow::Borrowed(key),
            (None, Key::Fixed(key)) => Cow::Borrowed(key),
            (None, Key::By(key)) => Cow::Owned(key(message)),
        }
    }

    /// The name of the part of the address that is longer than AMQP allows, if one is.
    pub(crate) fn too_long(&self, routing_key: &str) -> Option<&'static str> {
        if routing_key.len() > 255 {
            Some("routing key")
        } else if self.exchange.len() > 255 {
            Some("exchange name")
        } else {
            None
        }
    }

    /// Prepares a message whose id and address are known. It carries `trace`, unless the options say otherwise.
    pub(crate) fn prepare_as(
        &self,
        message: &T,
        options: &MessageOptions,
        id: Arc<str>,
        to: Address,
        trace: Option<&TraceContext>,
    ) -> Result<Prepared, PublishErrorKind> {
        if let Some(property) = options.too_long().or(self.too_long(&to.routing_key)) {
            return Err(PublishErrorKind::Property(property));
        }
        let encoded = self.wire.encode(message).map_err(PublishErrorKind::Encode)?;
        let properties = options.apply(Labels::now(&encoded, self.persistent), &id, trace);
        Ok(Prepared::encoded(id, to, self.is_mandatory(), properties, encoded))
    }

    /// Whether the broker is asked to return a message that no queue takes. Without confirms nobody would read the
    /// return.
    pub(crate) fn is_mandatory(&self) -> bool {
        self.mandatory && self.confirms != Confirms::Off
    }

    /// Most messages on the wire without a confirm.
    pub(crate) fn window(&self) -> usize {
        match self.confirms {
            Confirms::Each => 1,
            Confirms::Window(messages) => messages.max(1),
            // Without confirms, this bounds the messages that wait for the socket.
            Confirms::Off => 1024,
        }
    }
}

impl<T> std::fmt::Debug for Route<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Route")
            .field("exchange", &self.exchange)
            .field("mandatory", &self.mandatory)
            .field("confirms", &self.confirms)
            .finish_non_exhaustive()
    }
}
