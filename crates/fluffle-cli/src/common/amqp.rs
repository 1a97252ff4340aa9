//! A connection to the broker without the framework's supervision: for a command that asks a few questions and ends.

use std::time::Duration;

use fluffle::amqp::bare;
use lapin::{Channel, Connection};

use crate::common::{broker::BrokerArgs, failure::Failure};

/// How long the broker may take for an answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// Connects as `fluffle <subcommand>`, which an operator sees in the broker's list of connections.
pub(crate) async fn connect(args: &BrokerArgs, subcommand: &str) -> Result<Connection, Failure> {
    let connecting = bare::connect(&args.broker()?, &format!("fluffle {subcommand}")).await;
    connecting.map_err(|error| {
        let error = error.to_string();
        let advice = advice(&error);
        Failure::new(format!("{error}{advice}"))
    })
}

/// What to do about a connection that failed. A login that was refused says it itself.
fn advice(error: &str) -> &'static str {
    if !is_down(error) && ["ACCESS_REFUSED", "NOT_ALLOWED", "NotAllowed"].iter().any(|refused| error.contains(refused))
    {
        return "";
    }
    ". If the node boots, wait for it (rabbitmqctl await_startup --timeout 60); `fluffle doctor` says how far the \
     connection comes"
}

/// Whether the broker refused the connection because the vhost does not run, as in the middle of a boot.
pub(crate) fn is_down(error: &str) -> bool {
    error.contains("is down") && error.contains("vhost")
}

/// Opens a channel. The broker closes it over the first refusal, so questions that may be refused take one each.
pub(crate) async fn channel(connection: &Connection) -> Result<Channel, Failure> {
    in_time("opening a channel", connection.create_channel()).await
}

/// Waits for an answer of the broker, at most for [`ANSWER`]. `what` says what was asked, for the error.
pub(crate) async fn in_time<T>(what: &str, answer: impl Future<Output = lapin::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(Failure::new(format!("{what}: {error}"))),
        Err(_) => Err(Failure::new(format!("{what}: no answer within {ANSWER:?}"))),
    }
}
