//! The text of a service in which everything has happened, as promtool reads it.

use fluffle_harness::promtool;
use fluffle_telemetry::text;

use crate::busy::Busy;

#[actix::test]
async fn promtool_has_nothing_to_say_of_the_metrics_of_a_busy_service() {
    let busy = Busy::start().await;
    busy.provoke().await;
    let text = text::prometheus(&busy.telemetry.read());
    assert!(text.lines().count() > 500, "a full reading: {text}");
    let output = promtool(&["check", "metrics"], &text).unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
    busy.service.shutdown().await.unwrap();
}
