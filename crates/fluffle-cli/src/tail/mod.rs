//! `fluffle tail`: a copy of what passes.

pub(crate) mod args;
mod filter;
mod message;
mod run;
mod source;
mod text;

pub(crate) use run::command;
