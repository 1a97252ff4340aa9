//! How far readers of streams have come, in PostgreSQL. The [crate's page](crate#streams) says what this guarantees.

use fluffle_amqp::{OffsetError, OffsetStore, StreamPosition};
use futures_util::future::BoxFuture;
use sqlx::{PgConnection, PgPool};

use crate::{
    error::KeepError,
    offsets::{from_row, to_row},
};

const KEEP: &str = "
    insert into fluffle_offsets (stream, reader, next) values ($1, $2, $3)
    on conflict (stream, reader) do update set next = excluded.next, kept_at = excluded.kept_at
    where fluffle_offsets.next < excluded.next";

/// The offsets of readers in the table `fluffle_offsets`, for
/// [`StreamReader::new`](fluffle_amqp::StreamReader::new). The table is one of [`migrate`](super::migrate).
///
/// ```no_run
/// use fluffle::prelude::*;
/// use fluffle_outbox::postgres;
///
/// # fn example(pool: sqlx::PgPool) {
/// let reader = StreamReader::new("billing", postgres::offsets::PostgresOffsets::new(pool));
/// let consume: Consume<String> = Consume::queue("events").stream(reader);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct PostgresOffsets {
    pool: PgPool,
}

impl PostgresOffsets {
    /// The table in the database of `pool`.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Forgets the offset of `reader`, which then begins in `stream` as a new reader. Call it while the reader is
    /// stopped, because a running one keeps its offset again.
    ///
    /// # Errors
    /// If the database cannot answer.
    pub async fn forget(&self, stream: &str, reader: &str) -> Result<(), sqlx::Error> {
        let forget = sqlx::query("delete from fluffle_offsets where stream = $1 and reader = $2");
        forget.bind(stream).bind(reader).execute(&self.pool).await.map(drop)
    }
}

impl OffsetStore for PostgresOffsets {
    fn kept<'a>(&'a self, stream: &'a str, reader: &'a str) -> BoxFuture<'a, Result<Option<u64>, OffsetError>> {
        Box::pin(async move {
            let find = sqlx::query_scalar("select next from fluffle_offsets where stream = $1 and reader = $2");
            let next: Option<i64> = find.bind(stream).bind(reader).fetch_optional(&self.pool).await?;
            Ok(next.map(from_row))
        })
    }

    fn keep<'a>(&'a self, stream: &'a str, reader: &'a str, next: u64) -> BoxFuture<'a, Result<(), OffsetError>> {
        Box::pin(async move {
            sqlx::query(KEEP).bind(stream).bind(reader).bind(to_row(next)).execute(&self.pool).await?;
            Ok(())
        })
    }
}

/// Keeps that the reader is done with the message at `position`, in the transaction that `connection` is in. Pass
/// `&mut tx`. Returns `false` if it was done before: then roll the transaction back and return `Ok`, so that the work
/// is not done twice.
///
/// First waits until the reader is done with all lower offsets, because what is kept says that everything up to it is.
/// So call it before the transaction locks anything that the handlers of earlier messages need, or set
/// [`concurrency(1)`](fluffle_amqp::Consume::concurrency).
///
/// If another open transaction keeps an offset of the same reader, this waits until that transaction ends.
///
/// # Errors
/// [`KeepError::OfABatch`] for a message of a batch, unless the whole batch is handled at once (`consume_batches`).
/// [`KeepError::Database`] if the database cannot answer. Do not commit the transaction then; the handler fails and is
/// retried.
///
/// # Cancellation
/// If the future is dropped before it resolves, the offset may have been written: roll the transaction back.
pub async fn keep(connection: &mut PgConnection, position: &StreamPosition) -> Result<bool, KeepError> {
    if position.is_of_a_batch() {
        return Err(KeepError::of_a_batch(position));
    }
    position.wait_for_turn().await;
    let keep = sqlx::query(KEEP).bind(position.stream()).bind(position.reader()).bind(to_row(position.offset() + 1));
    match keep.execute(connection).await {
        Ok(done) => Ok(done.rows_affected() == 1),
        Err(source) => Err(KeepError::database(position, source)),
    }
}
