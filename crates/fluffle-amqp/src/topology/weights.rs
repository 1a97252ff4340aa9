//! What RabbitMQ's plugin requires of the bindings to a consistent-hash exchange.

use crate::topology::{
    error::TopologyError,
    exchange::{Exchange, ExchangeKind},
    queue::Queue,
};

/// Checks that each binding key at a consistent-hash exchange is a weight, and that nothing is bound to such an
/// exchange twice.
pub(super) fn check(exchanges: &[Exchange], queues: &[&Queue]) -> Result<(), TopologyError> {
    let is_consistent_hash =
        |name: &str| exchanges.iter().any(|it| it.name() == name && *it.kind() == ExchangeKind::ConsistentHash);
    let bound_exchanges = exchanges.iter().map(|it| (it.entity(), it.bindings()));
    let bound_queues = queues.iter().map(|it| (it.entity(), it.bindings()));
    for (destination, bindings) in bound_exchanges.chain(bound_queues) {
        let mut weighed = Vec::new();
        for binding in bindings.iter().filter(|binding| is_consistent_hash(binding.exchange())) {
            let problem = if !binding.key().parse::<u32>().is_ok_and(|weight| weight > 0) {
                "a consistent-hash exchange takes the binding key for the queue's weight: make it a number from 1, the \
                 same for equal shares"
            } else if weighed.contains(&binding.exchange()) {
                "it is bound twice to one consistent-hash exchange, which counts only the first: bind it once, with \
                 the sum of the weights"
            } else {
                weighed.push(binding.exchange());
                continue;
            };
            return Err(TopologyError::invalid(binding.entity(destination), problem));
        }
    }
    Ok(())
}
