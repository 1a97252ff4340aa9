//! Shared by the lessons: logging, tables, and a count of the handled messages.

pub mod feed;
mod seen;
mod show;
mod status;

use std::io::IsTerminal;

use fluffle::Error;
use tracing_subscriber::EnvFilter;

pub use crate::{
    seen::Seen,
    show::{Progress, say, table, wrapped},
    status::{keep_up, status_page},
};

#[allow(missing_docs, unreachable_pub, clippy::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/protos.rs"));
}

/// The lessons' messages, compiled from `proto/lessons/v1/lessons.proto`.
pub use generated::lessons::v1 as messages;

/// The messages of the web shop, compiled from `proto/shop/v1/shop.proto`.
pub use generated::shop::v1 as shop;

/// Logs warnings and errors to standard error: retries, dead letters, restarts. `RUST_LOG=info` also shows every start,
/// `RUST_LOG=off` shows nothing.
pub fn logging() {
    // lapin also logs lost sockets, which the supervisors already report.
    logging_from("warn,lapin=off");
}

/// Like [`logging`], with this filter if `RUST_LOG` is not set.
pub fn logging_from(filter: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    let color = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(color);
    log.without_time().with_target(false).compact().init();
}

/// Checks a claim of a lesson.
///
/// # Errors
/// If `holds` is false; the error names `claim`.
pub fn check(holds: bool, claim: impl std::fmt::Display) -> Result<(), Error> {
    if holds { Ok(()) } else { Err(Error::other(format!("this should not happen: {claim}"))) }
}
