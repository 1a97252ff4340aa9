//! The types of queues, and the arguments that each of them has in RabbitMQ 3.10.

use super::{
    refusal::Refusal,
    table::{Table, TableValue},
};

/// `x-queue-type`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueKind {
    Classic,
    Quorum,
    Stream,
}

const ALL: [QueueKind; 3] = [QueueKind::Classic, QueueKind::Quorum, QueueKind::Stream];

const CLASSIC: &[&str] = &[
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-queue-version",
    "x-single-active-consumer",
    "x-queue-type",
    "x-queue-master-locator",
];

const QUORUM: &[&str] = &[
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-overflow",
    "x-single-active-consumer",
    "x-queue-type",
    "x-quorum-initial-group-size",
    "x-delivery-limit",
    "x-message-ttl",
    "x-queue-leader-locator",
];

const STREAM: &[&str] = &[
    "x-max-length-bytes",
    "x-queue-type",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-initial-cluster-size",
    "x-queue-leader-locator",
];

impl QueueKind {
    /// The type of a queue with these arguments; `None` if RabbitMQ has no such type.
    pub(crate) fn of(arguments: &Table) -> Option<Self> {
        let Some(name) = arguments.get("x-queue-type").and_then(TableValue::text) else { return Some(Self::Classic) };
        ALL.into_iter().find(|kind| kind.name().as_bytes() == name)
    }

    /// Its name as the value of `x-queue-type`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// Its name in refusals.
    pub(crate) fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }

    /// The arguments of its declaration, in the order in which RabbitMQ compares them.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Classic => CLASSIC,
            Self::Quorum => QUORUM,
            Self::Stream => STREAM,
        }
    }

    /// The arguments of its consumers.
    fn consumer_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Classic => &["x-cancel-on-ha-failover", "x-priority", "x-credit"],
            Self::Quorum => &["x-priority", "x-credit"],
            Self::Stream => &["x-stream-offset", "x-credit"],
        }
    }

    /// 406 if a declaration has an argument that only other types have. Arguments that no type has are ignored.
    pub(crate) fn check_arguments(self, arguments: &Table, entity: &str) -> Result<(), Refusal> {
        self.check(Self::arguments, arguments, entity)
    }

    /// As [`check_arguments`](Self::check_arguments), for a consumer.
    pub(crate) fn check_consumer(self, arguments: &Table, entity: &str) -> Result<(), Refusal> {
        self.check(Self::consumer_arguments, arguments, entity)
    }

    fn check(
        self,
        known: impl Fn(Self) -> &'static [&'static str],
        arguments: &Table,
        entity: &str,
    ) -> Result<(), Refusal> {
        let has = |kind: Self, name: &[u8]| known(kind).iter().any(|argument| argument.as_bytes() == name);
        for (name, _) in arguments.fields() {
            if !has(self, name) && ALL.into_iter().any(|kind| has(kind, name)) {
                let name = String::from_utf8_lossy(name);
                let module = self.module();
                return Err(Refusal::precondition(format!("invalid arg '{name}' for {entity} of queue type {module}")));
            }
        }
        Ok(())
    }
}
