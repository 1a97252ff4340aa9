//! Supervised connections, channels, publishers and consumers for RabbitMQ, on lapin.
//!
//! Applications use this crate through the `fluffle` crate. Its main types:
//!
//! - [`Broker`]: the addresses of the broker, and the settings of the connections to it.
//! - [`Topology`]: exchanges, queues and bindings, which are declared after every connect.
//! - [`Service`]: the supervision tree of one application. Publishers, requesters and consumers are added to it.
//! - [`Publisher`], [`Route`]: publish a message and wait for the broker's confirm.
//! - [`Consume`], [`Delivery`], [`DeliveryBatch`], [`Failure`], [`Retry`]: pass deliveries to a handler actor and
//!   settle them by its answer.
//! - [`Middleware`]: code of the application around every call of a handler.
//! - [`Requester`]: sends requests and receives their answers.
//! - [`Replay`]: publishes dead letters again.
//! - [`Observer`]: hears of what happens to deliveries, messages, channels and connections, for metrics.
//!
//! No type of lapin appears in a signature. lapin's own recovery is off, because the supervision tree recovers
//! connections and channels.
//!
//! # Features
//!
//! `json` (default): proto3 JSON, JSON as serde writes it, and the wrappers of others; see `fluffle_wire`. Without it a
//! message in one of these formats becomes a dead letter whose reason names the feature.
//!
//! `store` (default): [`Journal`], [`SeenIds`] and [`Offsets`], in SQLite. Without it these types cannot be opened; a
//! [`SeenStore`] or an [`OffsetStore`] of the application can.
//!
//! `bare`: `bare::connect`, for tools.
//!
//! # Layers
//!
//! A module imports only modules of lower numbers:
//!
//! 1. `base`: timers, shutdown deadlines, properties and headers of a message, requests, the failure of a handler,
//!    and events.
//! 2. `flow`: circuit breakers, kill switches, rate limits, byte budgets. `topology`: exchanges, queues and bindings as
//!    data. `trace`: the current trace, for applications.
//! 3. `link`: addresses, TLS, sockets, connections, channels and declarations.
//! 4. `publish`; `request` uses it.
//! 5. `consume`; `replay` uses it.
//! 6. `service`: the supervision tree.

#[cfg(feature = "bare")]
pub mod bare;
mod base;
mod consume;
mod flow;
mod link;
mod publish;
mod replay;
mod request;
mod service;
mod topology;

/// The trace that the code on this thread belongs to. Messages that are published carry it.
pub mod trace {
    pub use crate::base::trace::{current, look_first_in, within};
}

pub use base::{
    attempt_report::{AttemptListener, AttemptReport},
    consumer_state::ConsumerState,
    events::{
        BetweenHosts, ChannelEvent, ConnectionEvent, DeliveryEvent, PublishEvent, PublishResult, ReplayEvent,
        RequestEvent, RequestResult, SettledMessages,
    },
    failure::Failure,
    observer::{
        ChannelLabels, ConnectionLabels, ConsumerLabels, Listener, Observer, PublisherLabels, ReplayLabels,
        RequesterLabels,
    },
    one_of::{Contains, OneOf, Types},
    payload::Payload,
    raw::Raw,
    trace::{CreateSpan, PublishInfo, PublishSpan, PublishTracer},
};
pub use consume::{
    events::stats::ConsumerStats,
    handler::{
        batch::{DeliveryBatch, ItemFailures},
        delivery::Delivery,
        handles::{HandledBy, Handles, HandlesBatches},
    },
    message::{delivery_info::DeliveryInfo, progress::StreamPosition, settled::Settled},
    spec::{
        consume::Consume,
        consume_settings::ConsumeSettings,
        guarantee::{AtLeastOnce, AtMostOnce, Guarantee},
        middleware::{HandlerResult, HandlerStep, Handling, Middleware},
        offset_store::{OffsetError, OffsetStore},
        retry::{Retry, RetryError},
        seen_store::{SeenError, SeenStore},
        stream::{StreamOffset, StreamReader},
    },
};
pub use flow::{
    breaker::{CircuitBreaker, KillSwitch},
    rate::RateLimit,
    switch::{BreakerState, RatioError, SwitchStatus, Window},
};
pub use fluffle_store::{Flush, Journal, Offsets, SeenIds, WhenFull};
pub use link::{
    broker::{AMQP_URL, Broker},
    broker_settings::{BrokerSettings, BrokerSettingsError},
    class::Class,
    depth::DepthError,
    endpoint::{Endpoint, Mechanism},
    endpoint_order::EndpointOrder,
    pool::{PoolError, Role},
    pool_config::PoolConfig,
    tls::{Tls, TlsError},
    uri::UriError,
};
pub use publish::{
    backlog::{Backlog, BacklogError, StoreDepth},
    batching::Batching,
    confirm::Returned,
    error::{PublishError, PublishErrorKind},
    forwarder::Forwarder,
    message::{Prepared, PreparedError},
    options::MessageOptions,
    passing::Republish,
    publisher::Publisher,
    receipt::{Confirmed, MessageId, Receipt},
    route::{Confirms, Route},
    route_settings::RouteSettings,
    send_queue::status::PublisherStatus,
    stats::{JournalStatus, PublisherStats},
    travel::NotSent,
};
pub use replay::{BrokerDeath, DeadLetter, Replay, ReplayError, Replayed};
pub use request::{
    actor::RequesterStatus,
    error::{RequestError, RequestErrorKind},
    events::RequesterStats,
    options::RequestOptions,
    requester::Requester,
};
pub use service::{
    DRAIN, Service,
    error::{ServiceEnd, ServiceError},
    handler_place::BlockedIo,
    health::{Finding, Health},
    status::{ChannelStatus, ConnectionStatus, ConsumerStatus, ServiceStatus, StreamStatus, ThreadStatus},
    stores::DeadLetters,
    unstarted::{PublisherPart, RequesterPart},
};
pub use topology::{
    ArgumentValue, Binding, Difference, Entity, Exchange, ExchangeKind, HashProperty, LeaderLocator, Match, Overflow,
    Queue, QueueKind, Topology, TopologyError, TopologyErrorKind,
};
