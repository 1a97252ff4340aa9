//! How many messages are ready in a queue, by a passive `queue.declare`.

use lapin::{
    Channel,
    options::QueueDeclareOptions,
    types::{FieldTable, ShortString},
};

use crate::link::{
    bounded::{OPERATION_TIMEOUT, OperationError, bounded},
    class::reply,
    connection::OpenChannel,
    pool::{Pool, PooledConnection},
};

/// Why the messages in queues could not be counted.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DepthError {
    /// The service has no connection of its consumers that is up and has room for one more channel.
    #[error("the messages in the queues cannot be counted: no connection of the consumers is up with a free channel")]
    NoConnection,
    /// The broker refused to count, or did not answer in time.
    #[error("the messages in the queue `{queue}` cannot be counted: {reason}")]
    Refused {
        /// The queue.
        queue: String,
        /// What the broker said.
        reason: String,
    },
}

/// AMQP's reply code for an entity that does not exist.
const NOT_FOUND: u16 = 404;

/// The ready messages of each queue, in order; `None` for a queue that does not exist.
pub(crate) async fn depths(pool: &Pool, queues: Vec<String>) -> Result<Vec<Option<u64>>, DepthError> {
    let place = pool.with_room().ok_or(DepthError::NoConnection)?;
    let mut counted = Vec::with_capacity(queues.len());
    let mut channel = open(&place).await?;
    for queue in queues {
        match depth(&channel, &queue).await {
            Ok(ready) => counted.push(Some(ready)),
            Err(OperationError::Failed(error)) if reply(&error).is_some_and(|(code, _)| code == NOT_FOUND) => {
                counted.push(None);
                // The refusal has closed the channel.
                channel = open(&place).await?;
            }
            Err(error) => return Err(DepthError::Refused { queue, reason: error.to_string() }),
        }
    }
    // If the close fails, the channel or its connection is gone, which was the aim.
    let _ = bounded(OPERATION_TIMEOUT, channel.close(200, "counted".into())).await;
    Ok(counted)
}

async fn open(place: &PooledConnection) -> Result<Channel, DepthError> {
    place.connection.send(OpenChannel).await.ok().and_then(Result::ok).ok_or(DepthError::NoConnection)
}

/// The ready messages of one queue. If it does not exist, the broker closes the channel.
pub(crate) async fn depth(channel: &Channel, queue: &str) -> Result<u64, OperationError> {
    let name = ShortString::try_new(queue)
        .map_err(|error| OperationError::Failed(std::io::Error::other(error.to_string()).into()))?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(name, passive, FieldTable::default());
    bounded(OPERATION_TIMEOUT, declared).await.map(|queue| u64::from(queue.message_count()))
}
