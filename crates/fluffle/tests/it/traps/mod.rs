//! Known traps, in which systems like this one lose messages. Each has a test that fails without the code against it.
//! `docs/RELIABILITY.md`, "The field's traps", lists all of them. The tests of those that are not here are with the
//! consumers, publishers or services that they concern.

mod acknowledging;
mod compression;
mod delay;
mod prefetch;
mod process_deaths;
mod publishing;
mod rabbitmq_4;
mod recovery;
pub(crate) mod tap;
