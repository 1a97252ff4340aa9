//! The names of spans and attributes.
//!
//! They are those of OpenTelemetry's semantic conventions for messaging, version [`VERSION`], which is in development:
//! names may change with a version of the convention. What the convention has no name for begins with `fluffle.`.

/// The version of the semantic conventions from which these names are.
pub const VERSION: &str = "1.42.0";

/// The schema of that version, for an OpenTelemetry tracer:
/// `InstrumentationScope::builder("my-service").with_schema_url(SCHEMA_URL)`.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.42.0";

/// The messaging system: always [`RABBITMQ`].
pub const SYSTEM: &str = "messaging.system";
/// The value of [`SYSTEM`].
pub const RABBITMQ: &str = "rabbitmq";
/// The operation, which begins the span's name: [`PUBLISH`], [`CREATE`], [`PROCESS`], [`ACK`] or [`NACK`].
pub const OPERATION_NAME: &str = "messaging.operation.name";
/// The operation's type: `send`, `create`, `process` or `settle`.
pub const OPERATION_TYPE: &str = "messaging.operation.type";
/// Where the message goes, or came from: `exchange:key`, and for a consumer `exchange:key:queue`, without empty parts.
pub const DESTINATION: &str = "messaging.destination.name";
/// One name for many destinations, if the route gives one (`Route::key_template`).
pub const DESTINATION_TEMPLATE: &str = "messaging.destination.template";
/// The value of [`DESTINATION`] if exchange and routing key are empty.
pub const DEFAULT_EXCHANGE: &str = "amq.default";
/// The routing key, if it is not empty.
pub const ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";
/// AMQP's delivery tag.
pub const DELIVERY_TAG: &str = "messaging.rabbitmq.message.delivery_tag";
/// The message's id. Message *i* of a batch `<id>` has the id `<id>/<i>`.
pub const MESSAGE_ID: &str = "messaging.message.id";
/// The correlation id, if there is one.
pub const CONVERSATION_ID: &str = "messaging.message.conversation_id";
/// How many messages the batch has.
pub const BATCH_MESSAGE_COUNT: &str = "messaging.batch.message_count";
/// Why the operation failed: [`FAILED`], [`REJECTED`], [`CRASHED`], [`ITEMS_FAILED`], or the outcome of a publish.
pub const ERROR_TYPE: &str = "error.type";
/// The broker's host, if [`Traces::server`](super::Traces::server) gives it.
pub const SERVER_ADDRESS: &str = "server.address";
/// The broker's port.
pub const SERVER_PORT: &str = "server.port";

/// The queue from which the message was consumed.
pub const QUEUE: &str = "fluffle.queue";
/// The number of the attempt, from 1.
pub const ATTEMPT: &str = "fluffle.attempt";
/// What came of the operation: `handled`, an error type, or the outcome of a publish.
pub const OUTCOME: &str = "fluffle.outcome";
/// On a link: [`CREATION`] or [`ATTEMPT_BEFORE`].
pub const LINK: &str = "fluffle.link";
/// The trace's id, for log lines.
pub const TRACE_ID: &str = "trace_id";

/// A link to the span that created the message.
pub const CREATION: &str = "creation";
/// A link to the span of the attempt before.
pub const ATTEMPT_BEFORE: &str = "attempt_before";

/// A message, or batch, is sent. The span ends when its outcome is known.
pub const PUBLISH: &str = "publish";
/// A message joins a batch.
pub const CREATE: &str = "create";
/// A handler has a message, or batch.
pub const PROCESS: &str = "process";
/// A message is acked, after its copy is placed if it has failed.
pub const ACK: &str = "ack";
/// A message is put back into its queue.
pub const NACK: &str = "nack";
/// The type of [`ACK`] and [`NACK`].
pub const SETTLE: &str = "settle";
/// The type of [`PUBLISH`].
pub const SEND: &str = "send";

/// The span sends a message whose span of creation it is.
pub const PRODUCER: &str = "producer";
/// The span handles a message.
pub const CONSUMER: &str = "consumer";
/// The span sends messages that have spans of creation of their own.
pub const CLIENT: &str = "client";

/// The handler has handled the message.
pub const HANDLED: &str = "handled";
/// The handler has failed, and the message may be tried again.
pub const FAILED: &str = "failed";
/// The handler or a middleware has rejected the message for good.
pub const REJECTED: &str = "rejected";
/// The handler or a middleware panicked, or the actor ended.
pub const CRASHED: &str = "crashed";
/// The handler has failed messages of its batch.
pub const ITEMS_FAILED: &str = "items_failed";
/// The broker has confirmed the message.
pub const CONFIRMED: &str = "confirmed";
/// The broker returned the message, because no queue took it.
pub const RETURNED: &str = "returned";
/// The broker nacked the message.
pub const NACKED: &str = "nacked";
/// The message was not sent, because its sender had stopped waiting.
pub const WITHDRAWN: &str = "withdrawn";
/// What became of the message: it is acked.
pub const ACKED: &str = "acked";
/// It failed, and comes again for its next attempt.
pub const RETRIED: &str = "retried";
/// It failed for good; a copy is in the dead-letter queue.
pub const DEAD_LETTERED: &str = "dead_lettered";
/// It was put back into its queue.
pub const REQUEUED: &str = "requeued";
/// Its channel was lost before the ack, so that the broker delivers it again.
pub const LOST: &str = "lost";
/// It was acked for another reason: a request that was refused or too late, or a message that was dropped.
pub const NOT_HANDLED: &str = "not_handled";
/// Nobody waited for the outcome of a message that a journal keeps.
pub const UNKNOWN: &str = "unknown";
