//! The steps of a shutdown, as the log tells them. What each consumer and publisher leaves, they say themselves.

use std::time::Instant;

use fluffle_supervise::{EventStream, ExitReason, What};

/// Tells of each step when it is over, until the tree is.
pub(crate) async fn tell(mut events: EventStream) {
    let mut begun = Instant::now();
    while let Some(event) = events.next().await {
        let Ok(event) = event else { continue };
        let (What::Exited { reason }, Some(step)) = (&event.what, step(&event.path)) else { continue };
        let took = begun.elapsed();
        match reason {
            ExitReason::Killed => tracing::warn!(step, ?took, "drain: cut off at its deadline"),
            _ => tracing::info!(step, ?took, "drain: stopped"),
        }
        begun = Instant::now();
    }
}

/// In the order in which they come (`tree.rs`).
fn step(path: &str) -> Option<&'static str> {
    match path {
        "app/consume" => Some("consumers"),
        "app/application" => Some("application"),
        "app/publish" => Some("publishers"),
        "app/handlers" => Some("handlers"),
        _ => None,
    }
}
