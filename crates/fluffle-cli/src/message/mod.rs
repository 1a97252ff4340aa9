//! A message of AMQP as JSON, and back: the form that `fluffle tail --json` prints and `fluffle publish` reads.

pub(crate) mod fields;
pub(crate) mod properties;
