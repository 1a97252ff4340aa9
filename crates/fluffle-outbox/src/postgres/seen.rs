//! Which messages a consumer has handled, in PostgreSQL. What this promises is on the [crate's page](crate#de-duplication).

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

/// Notes that `consumer` handles the message [`id`](crate::seen::key), in the transaction that `connection` is in; pass
/// `&mut tx`. `false`: it has been handled before.
///
/// While another transaction has noted the same and is not over, this waits for its end.
///
/// # Errors
/// When the database cannot say. At `repeatable read` and above also when another transaction noted the same meanwhile:
/// the handler fails, and its retry is told `false`.
pub async fn insert(connection: &mut PgConnection, consumer: &str, id: &str) -> Result<bool, sqlx::Error> {
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
/// When the database is away; what was deleted before is.
pub async fn prune(pool: &PgPool, age: Duration) -> Result<u64, sqlx::Error> {
    sqlx::query("delete from fluffle_seen where seen_at < now() - make_interval(secs => $1)")
        .bind(age.as_secs_f64())
        .execute(pool)
        .await
        .map(|done| done.rows_affected())
}
