//! One node for many tests.

use std::{env, path::Path, sync::OnceLock};

use crate::{Builder, HarnessError, NODE_VAR, RabbitMq};

static SHARED: OnceLock<Result<RabbitMq, HarnessError>> = OnceLock::new();

/// A plugin that some of the tests on the shared node need. The others are not affected by it.
const PLUGIN: &str = "rabbitmq_consistent_hash_exchange";

impl RabbitMq {
    /// A builder for a node like the one that [`shared`](Self::shared) starts, for a program that shares one among
    /// several test processes: with the plugin `rabbitmq_consistent_hash_exchange`.
    pub fn to_share() -> Builder {
        Self::builder().plugin(PLUGIN)
    }

    /// The node that all tests of this process share, started when the first one asks.
    ///
    /// If `FLUFFLE_HARNESS_NODE` is set, as `cargo xtask test` does, it is a node that all test *processes* share. In
    /// both cases the node can be used but not stopped ([`HarnessError::NeedsOwnBroker`]), and each test must use a
    /// vhost of its own ([`RabbitMq::fresh_vhost`]). Statics are never dropped, so the watcher ends the node when the
    /// process ends.
    ///
    /// # Errors
    ///
    /// The errors of [`Builder::start`](crate::Builder::start). A failure is remembered, and the start is not tried
    /// again.
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
