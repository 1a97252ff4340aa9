//! `fluffle explain`: what can be known of one message.

pub(crate) mod args;
mod databases;
mod facts;
mod files;
mod id;
mod queues;
mod report;
mod run;

pub(crate) use run::command;
