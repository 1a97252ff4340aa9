//! Supervised connections, channels, publishers and consumers for RabbitMQ, on lapin.
//!
//! Applications use this through the `fluffle` crate. What is here:
//!
//! - [`Broker`]: where the broker is, and how to stay connected to it.
//! - [`Topology`]: exchanges, queues and bindings, declared after every connect.
//! - [`Service`]: the supervision tree of one application; publishers, requesters and consumers are added to it.
//! - [`Publisher`], [`Route`]: from a message to the broker's confirm.
//! - [`Consume`], [`Delivery`], [`DeliveryBatch`], [`Failure`], [`Retry`]: from a queue to a handler actor and back.
//! - [`Requester`]: questions and answers.
//!
//! No type of lapin's appears in any signature; its own recovery is off, for the tree owns recovery.

mod broker;
mod channel;
mod class;
mod clock;
mod confirm;
mod connection;
mod consume;
mod drain;
mod endpoint;
mod flow;
mod frame;
mod labels;
mod numbered;
mod orders;
mod part;
mod payload;
mod pool;
mod publish;
mod replay;
mod request;
mod sanitizer;
mod secret;
mod service_error;
mod signals;
mod socket;
mod status;
mod threads;
mod tls;
mod topology;
mod travel;
mod tree;

pub use broker::{AMQP_URL, Broker};
pub use class::Class;
pub use confirm::Returned;
pub use consume::{
    batch::{DeliveryBatch, ItemFailures},
    delivery::Delivery,
    failure::Failure,
    guard::ConsumerState,
    received::Settled,
    retry::{Retry, RetryError},
    seen::{SeenError, SeenStore},
    spec::{AtLeastOnce, AtMostOnce, Consume, Guarantee},
    stats::ConsumerStats,
};
pub use endpoint::{Endpoint, Mechanism, UriError};
pub use flow::{
    breaker::{CircuitBreaker, KillSwitch},
    rate::RateLimit,
    switch::{BreakerState, RatioError, Window},
};
pub use fluffle_store::{Flush, Journal, SeenIds, WhenFull};
pub use part::{PublisherPart, RequesterPart};
pub use payload::{Handles, HandlesBatches, Payload};
pub use pool::{PoolConfig, PoolError, Role};
pub use publish::{
    backlog::{Backlog, BacklogError},
    batching::Batching,
    error::{PublishError, PublishErrorKind},
    forwarder::Forwarder,
    message::{Prepared, PreparedError},
    options::MessageOptions,
    publisher::Publisher,
    receipt::{Confirmed, MessageId, Receipt},
    route::{Confirms, Route},
    stats::PublisherStats,
};
pub use replay::{DeadLetter, Replay, ReplayError, Replayed};
pub use request::{
    error::{RequestError, RequestErrorKind},
    requester::Requester,
};
pub use service_error::{ServiceEnd, ServiceError};
pub use status::ConnectionStatus;
pub use tls::{Tls, TlsError};
pub use topology::{
    ArgumentValue, Binding, Difference, Entity, Exchange, ExchangeKind, HashProperty, Match, Overflow, Queue,
    QueueKind, Topology, TopologyError, TopologyErrorKind,
};
pub use travel::NotSent;
pub use tree::{DRAIN, Service};
