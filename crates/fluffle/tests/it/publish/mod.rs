//! Publishers and requesters: what becomes of each message, in which order, and what holds them back.

mod batches;
mod journal;
mod lanes;
mod limits;
mod not_sent;
mod order;
mod outcomes;
mod requests;
