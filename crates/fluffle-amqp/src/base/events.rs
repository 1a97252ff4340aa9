//! What happens to deliveries, published messages, channels and connections, as [`Observer`](crate::Observer)s hear of
//! it.

use std::time::Duration;

use crate::base::consumer_state::ConsumerState;

/// An event of one consumer, as its listener hears of it: see [`Observer::consumer`](crate::Observer::consumer).
///
/// A "delivery" is one `basic.deliver`: a message by itself, or a batch of messages. Each delivery begins with one
/// [`Received`](Self::Received), and ends with one [`Settled`](Self::Settled) or as part of one [`Lost`](Self::Lost).
/// So at any time: received = settled + lost + in hand, counted in deliveries.
///
/// In between, each attempt that a handler begins has one [`Started`](Self::Started), and one
/// [`Answered`](Self::Answered) when the handler has answered, has ended, or has had its time.
///
/// Variants and their fields may be added: match with `..` and with a wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryEvent {
    /// The broker has delivered.
    #[non_exhaustive]
    Received {
        /// The size of the body as it came, compressed or not.
        bytes: usize,
        /// Whether the broker has delivered it before, to whomever.
        redelivered: bool,
        /// The time since it was first published: how long it was at its publisher, at the broker and on the way.
        /// `None` for a retry copy, and if that time is not known to the millisecond: the publisher is no Fluffle
        /// publisher, or the application chose the message's id or `timestamp`.
        since_publish: Option<BetweenHosts>,
        /// Of a retry copy: the time since it was made, which is its planned wait and the time until it was delivered.
        retry_wait: Option<BetweenHosts>,
    },
    /// A handler takes the delivery. A batch is started once, also if its messages go to handlers one by one.
    #[non_exhaustive]
    Started {
        /// The time since the delivery arrived here.
        waited: Duration,
        /// Whether this process has tried the same delivery before ([`RetriedHere`](Self::RetriedHere)). Then `waited`
        /// contains the earlier attempts and the waits between them.
        again: bool,
        /// The part of `waited` in which the message was decoded; of a batch, in which it was unpacked and split,
        /// because its items are decoded one by one. `None` of a batch that is sorted by key.
        decode: Option<Duration>,
    },
    /// An answered delivery turned out to be a batch. Comes before its [`Answered`](Self::Answered).
    #[non_exhaustive]
    Batch {
        /// The messages in it.
        items: usize,
    },
    /// An attempt that was started has its answer. Of a batch, each of its messages has one.
    #[non_exhaustive]
    Answered {
        /// The time since it was started.
        took: Duration,
        /// The messages of the delivery: 1, or the items of the batch.
        messages: usize,
        /// How many of them failed: their handler returned a failure, crashed or took too long, or they could not be
        /// read.
        failed: usize,
    },
    /// Handlers panicked, or ended, with messages in hand.
    #[non_exhaustive]
    Crashed {
        /// How many messages.
        messages: usize,
    },
    /// The attempt failed, and the delivery is kept in this process until its next attempt.
    #[non_exhaustive]
    RetriedHere {
        /// How long it is kept.
        wait: Duration,
    },
    /// A handler answered after its time was over. Its message had been settled as failed.
    Late,
    /// Of a reader of a stream: the stream no longer has offsets that the reader had not read.
    #[non_exhaustive]
    OffsetsRemoved {
        /// How many offsets: about as many messages.
        offsets: u64,
    },
    /// The delivery is settled with the broker: its ack is written, or it is requeued. With
    /// [`AtMostOnce`](crate::AtMostOnce), whose acks are written on arrival: it is handled, or dropped.
    #[non_exhaustive]
    Settled {
        /// What became of its messages.
        messages: SettledMessages,
        /// The time since the delivery arrived here.
        took: Duration,
        /// The time since the last attempt was answered: for copies, their confirms, and the ack. `None` if no handler
        /// has begun it.
        after_answer: Option<Duration>,
        /// The age of the message: the time since it was first published, before all retries. To the second, if the
        /// publisher is no Fluffle publisher or the application chose the message's id. `None` without a `timestamp`.
        age: Option<BetweenHosts>,
    },
    /// Messages were handled and their ack could not be written, because their channel was lost. The broker delivers
    /// them again.
    #[non_exhaustive]
    AckLost {
        /// How many messages.
        messages: usize,
    },
    /// The channel ended before these deliveries were settled. The broker delivers them again. Handlers that have begun
    /// some of them go on.
    #[non_exhaustive]
    Lost {
        /// How many deliveries.
        deliveries: usize,
    },
    /// An answer to a request was returned by the broker, because the requester is gone.
    ReplyUnroutable,
    /// The consumer does something else: it was paused, its circuit breaker opened, it lost its subscription and the
    /// like. Each of these begins with the state in which the one before ended; the first with
    /// [`Unsubscribed`](ConsumerState::Unsubscribed). A breaker that becomes half-open while there is no channel is
    /// noticed with the next channel, or when somebody asks for the consumer's state.
    #[non_exhaustive]
    State {
        /// What it did until now.
        from: ConsumerState,
        /// What it does from now on.
        to: ConsumerState,
    },
}

/// The time since something happened on another host, by the clocks of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BetweenHosts {
    /// The time. Zero if it would be negative.
    pub time: Duration,
    /// Whether it would be negative, because the clocks of the two hosts differ.
    pub is_clamped: bool,
}

/// What became of the messages of one settled delivery: of one message, or of the items of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SettledMessages {
    /// Handled and acked.
    pub handled: usize,
    /// Failed: their copies wait for another attempt.
    pub retried: usize,
    /// Failed for good: their copies are in the dead-letter queue.
    pub dead_lettered: usize,
    /// Put back into their queue. Always a whole delivery, which counts as one.
    pub requeued: usize,
    /// With [`AtMostOnce`](crate::AtMostOnce): not handled, and acked before.
    pub dropped: usize,
    /// With effectively once: handled before, and not handled again.
    pub duplicates: usize,
    /// Requests that were answered with their failure.
    pub refused: usize,
    /// Requests whose requester had stopped waiting.
    pub expired: usize,
    /// Of another type, and acked without a handler: see
    /// [`Consume::skip_other_types`](crate::Consume::skip_other_types).
    pub skipped: usize,
}

impl SettledMessages {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> usize {
        let Self { handled, retried, dead_lettered, requeued, dropped, duplicates, refused, expired, skipped } = self;
        handled + retried + dead_lettered + requeued + dropped + duplicates + refused + expired + skipped
    }
}

/// An event of one publisher, as its listener hears of it: see [`Observer::publisher`](crate::Observer::publisher).
///
/// Each accepted message is settled once, so at any time: accepted = settled + outstanding, counted in messages. A
/// message in a journal that fails is settled when its senders have taken it back; else it is [`Kept`](Self::Kept) and
/// stays outstanding. What is in the journal when the service ends is outstanding to the last, and is accepted again by
/// the process that reads it.
///
/// Variants and their fields may be added: match with `..` and with a wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PublishEvent {
    /// Messages were accepted. Those of a batch are accepted together when the batch is sealed.
    ///
    /// What a handle accepted before its service was started comes as one event when the publisher is added. A message
    /// that an earlier process has left in the journal is accepted when it is read.
    #[non_exhaustive]
    Accepted {
        /// How many messages.
        messages: usize,
        /// Of a batch: the time since it was opened by its first message.
        batch_wait: Option<Duration>,
    },
    /// Messages that were on the wire when their channel was lost are published again, under the same ids.
    #[non_exhaustive]
    Republished {
        /// How many messages.
        messages: usize,
    },
    /// Messages in a journal failed, and no sender took them back: they are published again.
    #[non_exhaustive]
    Kept {
        /// How they failed.
        result: PublishResult,
        /// How many messages.
        messages: usize,
    },
    /// Messages have their outcome: one message, or all messages of a batch.
    #[non_exhaustive]
    Settled {
        /// The outcome.
        result: PublishResult,
        /// How many messages.
        messages: usize,
        /// The size of their common body. 0 if they were never encoded, or are reported together.
        bytes: usize,
        /// The time since the message was accepted, since its batch was sealed, or since it was read from the journal.
        /// `None` if the publisher did not run then, or if no single message is meant.
        took: Option<Duration>,
        /// The time since it was first written to a channel. `None` if it never was.
        on_the_wire: Option<Duration>,
    },
}

/// The outcome of a published message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PublishResult {
    /// The broker has confirmed it. Without confirms: it is written.
    Confirmed,
    /// The broker returned it, because no queue took it.
    Returned,
    /// The broker nacked it.
    Nacked,
    /// It failed for any other reason: the broker refused it, it could not be sent, or its publisher was closed first.
    Failed,
    /// Its sender had stopped waiting before it was sent, or before it was sent again.
    Withdrawn,
}

/// An event of one requester, as its listener hears of it: see [`Observer::requester`](crate::Observer::requester).
///
/// Each request that is asked is settled once, so at any time: asked = settled + pending.
///
/// Variants and their fields may be added: match with `..` and with a wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestEvent {
    /// Callers have begun to ask: their requests wait for room, and are then sent.
    ///
    /// What was asked before the service was started comes as one event when the requester is added.
    #[non_exhaustive]
    Asked {
        /// How many requests.
        requests: usize,
    },
    /// Requests were written to the channel.
    #[non_exhaustive]
    Sent {
        /// How many requests.
        requests: usize,
    },
    /// Requests have ended for their callers.
    #[non_exhaustive]
    Settled {
        /// How.
        result: RequestResult,
        /// How many requests.
        requests: usize,
        /// The time since the caller asked. `None` if the requester did not run then, or if no single request is meant.
        took: Option<Duration>,
    },
    /// An answer came after its caller had stopped waiting, or to a request that nobody here knows.
    LateAnswer,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestResult {
    /// The answer came in time and was read.
    Answered,
    /// The answer says that the other side refused the request or failed.
    Refused,
    /// It could not be sent, no queue took it, its channel was lost, or its answer could not be read.
    Failed,
    /// Its deadline passed, whether it was sent or not.
    TimedOut,
    /// Its caller dropped the future.
    Cancelled,
}

impl RequestResult {
    pub(crate) const ALL: [Self; 5] = [Self::Answered, Self::Refused, Self::Failed, Self::TimedOut, Self::Cancelled];
}

/// An event of one replay, as its listener hears of it: see [`Observer::replay`](crate::Observer::replay).
///
/// Letters that a replay does not want, cannot read or cannot place have no event, and dry runs have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReplayEvent {
    /// A letter is in its own queue again, and no longer in the dead-letter queue.
    Replayed,
    /// The letter's own queue is gone, or refused the copy: the letter stays.
    Refused,
}

/// An event of one channel: see [`Observer::channel`](crate::Observer::channel).
///
/// Each [`Opened`](Self::Opened) is followed by one [`Lost`](Self::Lost) or [`Closed`](Self::Closed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// The channel is open.
    #[non_exhaustive]
    Opened {
        /// Counts the channels that the consumer or publisher has had, from 1.
        generation: u64,
    },
    /// The channel is lost: the broker closed it, its consumer or publisher gave it up, or its connection is gone.
    #[non_exhaustive]
    Lost {
        /// AMQP's reply code, if the broker gave one: 404, 406 and the like.
        code: Option<u16>,
    },
    /// The application has closed the channel.
    Closed,
}

/// An event of one connection: see [`Observer::connection`](crate::Observer::connection).
///
/// Each [`Connected`](Self::Connected) is followed by one [`Lost`](Self::Lost) or [`Closed`](Self::Closed), which also
/// end a [`Blocked`](Self::Blocked).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The connection is up, and the topology is declared.
    #[non_exhaustive]
    Connected {
        /// The time that this attempt took.
        took: Duration,
    },
    /// The connection is lost.
    #[non_exhaustive]
    Lost {
        /// AMQP's reply code, if the broker gave one: 320 (it is shut down), 501 and the like.
        code: Option<u16>,
    },
    /// The application has closed the connection.
    Closed,
    /// The broker no longer reads what is published (`connection.blocked`).
    Blocked,
    /// The broker reads again.
    Unblocked,
}
