//! One node for many tests.

use std::{env, path::Path, sync::OnceLock};

use crate::{Builder, HarnessError, NODE_VAR, RabbitMq};

static SHARED: OnceLock<Result<RabbitMq, HarnessError>> = OnceLock::new();

/// What some of the tests that share a node need, and none minds.
const PLUGIN: &str = "rabbitmq_consistent_hash_exchange";

impl RabbitMq {
    /// A node as [`shared`](Self::shared) starts it, for whoever lends one to several test processes: with the plugin
    /// `rabbitmq_consistent_hash_exchange`.
    pub fn to_share() -> Builder {
        Self::builder().plugin(PLUGIN)
    }

    /// The node that all tests of this process share, started when the first one asks.
    ///
    /// With `FLUFFLE_HARNESS_NODE` set, as `cargo xtask test` does, it is a node that all test *processes* share. Either way
    /// it can be spoken to but not stopped ([`HarnessError::NeedsOwnBroker`]), and a test keeps to a vhost of its own
    /// ([`RabbitMq::fresh_vhost`]). Statics are never dropped: the watcher ends the node when the process ends.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`](crate::Builder::start); a failure is remembered, not tried again.
    pub fn shared() -> Result<&'static Self, HarnessError> {
        SHARED.get_or_init(start_or_attach).as_ref().map_err(Clone::clone)
    }
}

fn start_or_attach() -> Result<RabbitMq, HarnessError> {
    match env::var_os(NODE_VAR) {
        Some(folder) if !folder.is_empty() => RabbitMq::attach(Path::new(&folder)),
        _ => RabbitMq::to_share().start().map(RabbitMq::into_shared),
    }
}
