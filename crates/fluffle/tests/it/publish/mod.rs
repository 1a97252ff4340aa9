//! Publishers and requesters: the outcome of each message, the order of messages, and limits.

mod adaptive;
mod batches;
mod journal;
mod lanes;
mod limits;
mod not_sent;
mod order;
mod outcomes;
mod republished;
mod requests;
