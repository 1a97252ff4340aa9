//! The outbox in SQLite (3.38 or newer; sqlx brings its own).
//!
//! SQLite has one writer at a time: use `journal_mode = wal`, and begin transactions that write with
//! `pool.begin_with("begin immediate")`; one that has read before it writes may fail with `SQLITE_BUSY` when another wrote
//! meanwhile, whatever its `busy_timeout`.

pub mod seen;
pub(crate) mod table;

use fluffle_amqp::Prepared;
use sqlx::{SqliteConnection, SqlitePool};

use crate::error::EnqueueError;

/// The tables, for an application's own migrations; [`migrate`] runs it. Creates what is not there.
pub const SCHEMA: &str = include_str!("schema.sql");

/// Milliseconds since 1970-01-01 UTC, by the database's clock, in SQL that does without the newest functions.
macro_rules! now {
    () => {
        "cast((julianday('now') - 2440587.5) * 86400000 as integer)"
    };
}
pub(crate) use now;

/// Creates the tables unless they are there. Several processes may do so at once.
///
/// # Errors
/// When the file cannot be written.
pub async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin_with("begin immediate").await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
    tx.commit().await
}

/// Writes a message in the transaction that `connection` is in; a [`Relay`](crate::Relay) publishes it once that is
/// committed, under the id that [`Prepared::id`] tells. Pass `&mut tx`.
///
/// # Errors
/// When it was not written. Roll the transaction back: SQLite would commit the rest of it.
///
/// # Cancellation
/// Dropped before it is ready, the message may have been written: roll the transaction back.
pub async fn enqueue(connection: &mut SqliteConnection, message: &Prepared) -> Result<(), EnqueueError> {
    let bytes = message.to_bytes()?;
    sqlx::query("insert into fluffle_outbox (message_id, message) values ($1, $2)")
        .bind(message.id())
        .bind(&*bytes)
        .execute(connection)
        .await
        .map_err(|source| EnqueueError::Database { id: message.id().to_owned(), source })?;
    Ok(())
}

/// A duration as the tables have it.
pub(crate) fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
