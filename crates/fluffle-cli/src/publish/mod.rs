//! `fluffle publish`: messages with confirm and mandatory.

pub(crate) mod args;
mod batches;
mod draft;
mod encode;
mod input;
mod pace;
mod run;
mod tally;

pub(crate) use run::command;
