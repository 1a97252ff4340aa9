//! Which messages a consumer has handled, in SQLite. What this promises is on the [crate's page](crate#de-duplication).

use std::time::Duration;

use sqlx::{SqliteConnection, SqlitePool};

use crate::sqlite::{milliseconds, now};

/// Notes that `consumer` handles the message [`id`](crate::seen::key), in the transaction that `connection` is in; pass
/// `&mut tx`. `false`: it has been handled before.
///
/// As every write it waits until no other transaction writes, for as long as the `busy_timeout` allows.
///
/// # Errors
/// When the database cannot say: the handler fails, and is retried.
pub async fn insert(connection: &mut SqliteConnection, consumer: &str, id: &str) -> Result<bool, sqlx::Error> {
    let inserted =
        sqlx::query("insert into fluffle_seen (consumer, message_id) values ($1, $2) on conflict do nothing")
            .bind(consumer)
            .bind(id)
            .execute(connection)
            .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Forgets what was handled longer than `age` ago, by any consumer, and gives how many that were. Call it now and then;
/// `age` should be longer than a duplicate can be on its way: the retries of the relay and of the consumer, and the time
/// messages may wait in queues.
///
/// # Errors
/// When the file cannot be written.
pub async fn prune(pool: &SqlitePool, age: Duration) -> Result<u64, sqlx::Error> {
    sqlx::query(concat!("delete from fluffle_seen where seen_at < ", now!(), " - $1"))
        .bind(milliseconds(age))
        .execute(pool)
        .await
        .map(|done| done.rows_affected())
}
