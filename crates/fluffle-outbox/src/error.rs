//! Errors of enqueueing and of the relay.

use std::time::Duration;

use fluffle_amqp::{PreparedError, StreamPosition};

/// Why a message was not written. Do not commit the transaction, because it would make the change without its message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnqueueError {
    /// The database refused the insert. If the table is missing, call `migrate` first.
    #[error("message {id} was not written to fluffle_outbox: {source}")]
    Database {
        /// The message's id.
        id: String,
        /// The database's answer.
        source: sqlx::Error,
    },
    /// The database refused the insert of several messages.
    #[error("{count} messages, {first} and those behind it, were not written to fluffle_outbox: {source}")]
    Several {
        /// The first one's id.
        first: String,
        /// How many they are.
        count: usize,
        /// The database's answer.
        source: sqlx::Error,
    },
    /// The message cannot be written as bytes.
    #[error(transparent)]
    Message(#[from] PreparedError),
}

impl EnqueueError {
    pub(crate) fn several(first: &str, count: usize, source: sqlx::Error) -> Self {
        Self::Several { first: first.to_owned(), count, source }
    }
}

/// Why an offset was not kept. Do not commit the transaction.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The message is one of a batch, and an offset is that of the whole batch.
    #[error(
        "offset {offset} of stream `{stream}` was not kept: it is that of a whole batch, and this is one of its \
         messages. Handle batches at once with `consume_batches`, or record the ids of messages with `seen::insert`"
    )]
    OfABatch {
        /// The stream.
        stream: String,
        /// The offset of the batch.
        offset: u64,
    },
    /// The database refused it. If the table is missing, call `migrate` first.
    #[error("offset {offset} of stream `{stream}` was not written to fluffle_offsets: {source}")]
    Database {
        /// The stream.
        stream: String,
        /// The offset.
        offset: u64,
        /// The database's answer.
        source: sqlx::Error,
    },
}

impl KeepError {
    pub(crate) fn of_a_batch(position: &StreamPosition) -> Self {
        Self::OfABatch { stream: position.stream().to_owned(), offset: position.offset() }
    }

    pub(crate) fn database(position: &StreamPosition, source: sqlx::Error) -> Self {
        Self::Database { stream: position.stream().to_owned(), offset: position.offset(), source }
    }
}

/// Why an incarnation of a relay ended. After each of these, a restart may help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    #[error("the outbox table cannot be used ({doing}): {source}")]
    Database { doing: &'static str, source: sqlx::Error },
    #[error("the database did not answer within {limit:?} ({doing})")]
    Timeout { doing: &'static str, limit: Duration },
}
