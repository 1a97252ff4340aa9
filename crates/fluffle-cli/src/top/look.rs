//! What was seen at one moment. These are also the keys of `--json`.

use serde::Serialize;

use crate::top::{lost::Lost, service::Service};

/// Everything that was seen at one moment. Points in time are milliseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Look {
    pub(crate) at: u64,
    /// The broker's addresses, without user and password.
    pub(crate) broker: String,
    pub(crate) vhost: String,
    pub(crate) source: Source,
    /// Set while the broker, or its API, gives no answer.
    pub(crate) lost: Option<Lost>,
    /// While the broker is lost: as they were before.
    pub(crate) queues: Vec<Row>,
    /// What this source does not tell of any queue: names of columns.
    pub(crate) unknown: Vec<&'static str>,
    pub(crate) service: Option<Service>,
}

impl Look {
    /// Whether everything that was asked gave an answer.
    pub(crate) fn is_whole(&self) -> bool {
        self.lost.is_none() && self.service.as_ref().is_none_or(|service| service.lost.is_none())
    }
}

/// Who tells of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    ManagementApi,
    Amqp,
}

/// A queue. `None` is what cannot be known, never 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) ready: Option<u64>,
    pub(crate) unacked: Option<u64>,
    pub(crate) consumers: Option<u64>,
    /// Messages a second that are published to it.
    pub(crate) in_rate: Option<f64>,
    /// Messages a second that are given to consumers, or taken with `basic.get`.
    pub(crate) delivered_rate: Option<f64>,
    pub(crate) acked_rate: Option<f64>,
    /// The age of the oldest message, ready or unacked, by its property `timestamp`.
    pub(crate) oldest_seconds: Option<u64>,
    /// Why nothing is known of this queue.
    pub(crate) problem: Option<String>,
}
