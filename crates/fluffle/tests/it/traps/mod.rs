//! The field's traps: where systems like this one lose messages, and a test for each that fails without its care.
//! `docs/RELIABILITY.md`, "The field's traps", lists all of them; the traps that are not here have their test with the
//! consumers, publishers or services that they concern.

mod acknowledging;
mod compression;
mod delay;
mod prefetch;
mod process_deaths;
mod publishing;
mod rabbitmq_4;
mod recovery;
mod tap;
