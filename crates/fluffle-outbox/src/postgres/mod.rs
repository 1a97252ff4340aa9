//! The outbox in PostgreSQL (10 or newer; tested with 15).

pub mod seen;
pub(crate) mod table;

use fluffle_amqp::Prepared;
use sqlx::{PgConnection, PgPool};

use crate::error::EnqueueError;

/// The tables, for an application's own migrations; [`migrate`] runs it. Creates what is not there, in the schema that is
/// first in the `search_path`.
pub const SCHEMA: &str = include_str!("schema.sql");

/// Creates the tables unless they are there. Several processes may do so at once.
///
/// # Errors
/// When the database is away, or this user may not create tables.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    // Two at once would both find the table missing, and one fail. The key is "fluffle" in ASCII.
    sqlx::query("select pg_advisory_xact_lock($1)").bind(0x66_6c75_6666_6c65_i64).execute(&mut *tx).await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
    tx.commit().await
}

/// Writes a message in the transaction that `connection` is in; a [`Relay`](crate::Relay) publishes it once that is
/// committed, under the id that [`Prepared::id`] tells. Pass `&mut tx`.
///
/// # Errors
/// When it was not written. PostgreSQL has aborted the transaction then.
///
/// # Cancellation
/// Dropped before it is ready, the message may have been written: roll the transaction back.
pub async fn enqueue(connection: &mut PgConnection, message: &Prepared) -> Result<(), EnqueueError> {
    let bytes = message.to_bytes()?;
    sqlx::query("insert into fluffle_outbox (message_id, message) values ($1, $2)")
        .bind(message.id())
        .bind(&*bytes)
        .execute(connection)
        .await
        .map_err(|source| EnqueueError::Database { id: message.id().to_owned(), source })?;
    Ok(())
}
