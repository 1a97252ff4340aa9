//! The messages that a consumer has handled, in PostgreSQL. The [crate's page](crate#de-duplication) says what this
//! guarantees.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

/// Records that `consumer` handles the message [`id`](crate::seen::key), in the transaction that `connection` is in.
/// Pass `&mut tx`. Returns `false` if the message has been handled before.
///
/// If another open transaction has recorded the same message, this waits until that transaction ends.
///
/// # Errors
/// If the database cannot answer. At `repeatable read` and above, also if another transaction has recorded the same
/// message meanwhile: the handler then fails, and its retry gets `false`.
pub async fn insert(connection: &mut PgConnection, consumer: &str, id: &str) -> Result<bool, sqlx::Error> {
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
/// If the database cannot be reached.
pub async fn prune(pool: &PgPool, age: Duration) -> Result<u64, sqlx::Error> {
    sqlx::query("delete from fluffle_seen where seen_at < now() - make_interval(secs => $1)")
        .bind(age.as_secs_f64())
        .execute(pool)
        .await
        .map(|done| done.rows_affected())
}
