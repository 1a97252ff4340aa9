//! Supervised connections, channels, publishers and consumers for RabbitMQ, on lapin.
//!
//! Applications use this through the `fluffle` crate. What is here:
//!
//! - [`Broker`]: where the broker is, and how to stay connected to it.
//! - [`Topology`]: exchanges, queues and bindings, declared after every connect.
//! - [`Service`]: the supervision tree of one application; publishers, requesters and consumers are added to it.
//! - [`Publisher`], [`Route`]: from a message to the broker's confirm.
//! - [`Consume`], [`Delivery`], [`DeliveryBatch`], [`Failure`], [`Retry`]: from a queue to a handler actor and back.
//! - [`Middleware`]: code of the application around every call of a handler.
//! - [`Requester`]: questions and answers.
//!
//! No type of lapin's appears in any signature; its own recovery is off, for the tree owns recovery.

mod base;
mod consume;
mod flow;
mod link;
mod publish;
mod replay;
mod request;
mod service;
mod topology;

pub use base::{
    failure::Failure,
    payload::{Handles, HandlesBatches, Payload},
};
pub use consume::{
    events::stats::{ConsumerState, ConsumerStats},
    handler::{
        batch::{DeliveryBatch, ItemFailures},
        delivery::Delivery,
    },
    message::{delivery_info::DeliveryInfo, settled::Settled},
    spec::{
        consume::{AtLeastOnce, AtMostOnce, Consume, Guarantee},
        middleware::{HandlerResult, HandlerStep, Handling, Middleware},
        retry::{Retry, RetryError},
        seen_store::{SeenError, SeenStore},
    },
};
pub use flow::{
    breaker::{CircuitBreaker, KillSwitch},
    rate::RateLimit,
    switch::{BreakerState, RatioError, Window},
};
pub use fluffle_store::{Flush, Journal, SeenIds, WhenFull};
pub use link::{
    broker::{AMQP_URL, Broker},
    class::Class,
    endpoint::{Endpoint, Mechanism, UriError},
    pool::{PoolConfig, PoolError, Role},
    tls::{Tls, TlsError},
};
pub use publish::{
    backlog::{Backlog, BacklogError},
    batching::Batching,
    confirm::Returned,
    error::{PublishError, PublishErrorKind},
    forwarder::Forwarder,
    message::{Prepared, PreparedError},
    options::MessageOptions,
    publisher::Publisher,
    receipt::{Confirmed, MessageId, Receipt},
    route::{Confirms, Route},
    stats::PublisherStats,
    travel::NotSent,
};
pub use replay::{DeadLetter, Replay, ReplayError, Replayed};
pub use request::{
    error::{RequestError, RequestErrorKind},
    requester::Requester,
};
pub use service::{
    DRAIN, Service,
    error::{ServiceEnd, ServiceError},
    status::ConnectionStatus,
    unstarted::{PublisherPart, RequesterPart},
};
pub use topology::{
    ArgumentValue, Binding, Difference, Entity, Exchange, ExchangeKind, HashProperty, Match, Overflow, Queue,
    QueueKind, Topology, TopologyError, TopologyErrorKind,
};
