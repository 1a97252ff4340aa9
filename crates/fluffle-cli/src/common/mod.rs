//! What all subcommands share: the broker and how to reach it, output, errors, and exit codes.

pub(crate) mod amqp;
pub(crate) mod broker;
pub(crate) mod delivery_limit;
pub(crate) mod exit;
pub(crate) mod failure;
pub(crate) mod management;
pub(crate) mod output;
pub(crate) mod probe;
pub(crate) mod runtime;
