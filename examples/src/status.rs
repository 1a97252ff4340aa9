//! The status page of the larger examples.

use std::time::Duration;

use fluffle::{
    App,
    telemetry::status::{Action, Status},
};

use crate::say;

/// Serves the status page of `app` at `address`, if there is one, and says where. If the environment has a
/// `STATUS_TOKEN`, the page can also act: pause a consumer, replay dead letters, kill a part of the service.
pub fn status_page(app: App, address: Option<&str>) -> App {
    let Some(address) = address else { return app };
    say(format!("The page of this service: http://{address}/"));
    match std::env::var("STATUS_TOKEN") {
        Ok(token) => app.status(Status::on(address).token(token).allow(Action::ALL)),
        Err(_) => app.status(address),
    }
}

/// Waits for this time or for Ctrl-C, so that the page can be looked at.
pub async fn keep_up(time: Duration) {
    if time.is_zero() {
        return;
    }
    say(format!("The service stays up for {time:?}; Ctrl-C ends it."));
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        // Without a handler for the signal the process would end here, and that is what is asked for.
        _ = tokio::signal::ctrl_c() => {}
    }
}
