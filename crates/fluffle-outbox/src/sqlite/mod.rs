//! The outbox in SQLite (3.38 or newer; sqlx brings its own).
//!
//! SQLite has one writer at a time. Use `journal_mode = wal`, and begin transactions that write with
//! `pool.begin_with("begin immediate")`. A transaction that reads before it writes may otherwise fail with
//! `SQLITE_BUSY` if another one wrote meanwhile, whatever its `busy_timeout`.

pub mod offsets;
pub mod seen;
pub(crate) mod table;
mod writing;

use fluffle_amqp::Prepared;
use sqlx::{SqliteConnection, SqlitePool};

use crate::error::EnqueueError;

/// The SQL that creates the tables, for an application's own migrations. [`migrate`] runs it. It creates the tables
/// that do not exist.
pub const SCHEMA: &str = include_str!("schema.sql");

/// Milliseconds since 1970-01-01 UTC, by the database's clock, in SQL that old versions of SQLite also understand.
macro_rules! now {
    () => {
        "cast((julianday('now') - 2440587.5) * 86400000 as integer)"
    };
}
pub(crate) use now;

/// Creates the tables that do not exist. Several processes may call it at the same time.
///
/// # Errors
/// If the file cannot be written.
pub async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin_with("begin immediate").await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
    tx.commit().await
}

/// Writes a message in the transaction that `connection` is in. After the commit, a [`Relay`](crate::Relay) publishes
/// it, under the id that [`Prepared::id`] returns. Pass `&mut tx`.
///
/// # Errors
/// If the message was not written. Roll the transaction back, because SQLite would commit the rest of it.
///
/// # Cancellation
/// If the future is dropped before it resolves, the message may have been written: roll the transaction back.
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

/// The most messages that one statement inserts. Each takes two parameters, and there is one statement for each power
/// of two up to this, so that they all stay prepared.
const MOST_AT_ONCE: usize = 64;

/// Writes several messages as [`enqueue`] does, in this order, with a few statements: the database is not asked once
/// for each message. Does nothing if there are none.
///
/// ```no_run
/// # async fn example(
/// #     tx: &mut sqlx::SqliteConnection, order: fluffle_amqp::Prepared, bill: fluffle_amqp::Prepared,
/// # ) -> Result<(), fluffle_outbox::EnqueueError> {
/// fluffle_outbox::sqlite::enqueue_all(tx, &[order, bill]).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If not all were written. Roll the transaction back, because SQLite would commit the rest of it.
///
/// # Cancellation
/// If the future is dropped before it resolves, messages may have been written: roll the transaction back.
pub async fn enqueue_all<'a>(
    connection: &mut SqliteConnection,
    messages: impl IntoIterator<Item = &'a Prepared>,
) -> Result<(), EnqueueError> {
    let messages: Vec<&Prepared> = messages.into_iter().collect();
    let mut rest = &messages[..];
    while let Some(first) = rest.first() {
        let count = (1 << rest.len().ilog2()).min(MOST_AT_ONCE);
        let (now, later) = rest.split_at(count);
        let sql =
            format!("insert into fluffle_outbox (message_id, message) values (?, ?){}", ", (?, ?)".repeat(count - 1));
        let mut insert = sqlx::query(&sql);
        for message in now {
            insert = insert.bind(message.id()).bind(message.to_bytes()?.to_vec());
        }
        let inserted = insert.execute(&mut *connection).await;
        inserted.map_err(|source| EnqueueError::several(first.id(), rest.len(), source))?;
        rest = later;
    }
    Ok(())
}

/// A duration in the unit of the tables.
pub(crate) fn milliseconds(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
