//! The messages that a consumer has handled, in SQLite. The [crate's page](crate#de-duplication) says what this
//! guarantees.

use std::time::Duration;

use sqlx::{SqliteConnection, SqlitePool};

use crate::sqlite::{milliseconds, now};

/// Records that `consumer` handles the message [`id`](crate::seen::key), in the transaction that `connection` is in.
/// Pass `&mut tx`. Returns `false` if the message has been handled before.
///
/// Like every write, it waits until no other transaction writes, for at most the `busy_timeout`.
///
/// # Errors
/// If the database cannot answer. The handler then fails and is retried.
pub async fn insert(connection: &mut SqliteConnection, consumer: &str, id: &str) -> Result<bool, sqlx::Error> {
    let inserted =
        sqlx::query("insert into fluffle_seen (consumer, message_id) values ($1, $2) on conflict do nothing")
            .bind(consumer)
            .bind(id)
            .execute(connection)
            .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Deletes the records of all consumers that are older than `age`, and returns how many. Call it from time to time.
/// `age` should be longer than a duplicate can take to arrive: the retries of the relay and of the consumer, and the
/// time that messages may wait in queues.
///
/// # Errors
/// If the file cannot be written.
pub async fn prune(pool: &SqlitePool, age: Duration) -> Result<u64, sqlx::Error> {
    sqlx::query(concat!("delete from fluffle_seen where seen_at < ", now!(), " - $1"))
        .bind(milliseconds(age))
        .execute(pool)
        .await
        .map(|done| done.rows_affected())
}
