//! What all subcommands share: the broker and how to reach it, output, and errors.

pub(crate) mod amqp;
pub(crate) mod broker;
pub(crate) mod failure;
pub(crate) mod management;
pub(crate) mod output;
pub(crate) mod runtime;
