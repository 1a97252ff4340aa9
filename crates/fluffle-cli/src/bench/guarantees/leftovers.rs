//! Deletes the queues of a run.

use fluffle::amqp::{Broker, bare};
use lapin::options::QueueDeleteOptions;

use crate::common::{
    amqp::{channel, in_time},
    failure::Failure,
};

/// Deletes these queues, with what is in them. A queue that is not there is none to delete.
pub(crate) async fn delete(broker: &Broker, queues: &[String]) -> Result<(), Failure> {
    let connection = bare::connect(broker, "fluffle bench").await?;
    let channel = channel(&connection).await?;
    for queue in queues {
        let deleting = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default());
        in_time(&format!("deleting the queue {queue}"), deleting).await?;
    }
    in_time("closing the connection", connection.close(200, "done".into())).await
}
