//! The outbox in PostgreSQL (10 or newer; tested with 15).

pub mod offsets;
pub mod seen;
pub(crate) mod table;

use fluffle_amqp::Prepared;
use sqlx::{PgConnection, PgPool};

use crate::error::EnqueueError;

/// The SQL that creates the tables, for an application's own migrations. [`migrate`] runs it. It creates the tables
/// that do not exist, in the schema that is first in the `search_path`.
pub const SCHEMA: &str = include_str!("schema.sql");

/// Creates the tables that do not exist. Several processes may call it at the same time.
///
/// # Errors
/// If the database cannot be reached, or this user is not allowed to create tables.
pub async fn migrate(pool: &PgPool) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    // Takes a lock, because two migrations at the same time would both find the table missing, and one would fail. The
    // key is "fluffle" in ASCII.
    sqlx::query("select pg_advisory_xact_lock($1)").bind(0x66_6c75_6666_6c65_i64).execute(&mut *tx).await?;
    sqlx::raw_sql(SCHEMA).execute(&mut *tx).await?;
    tx.commit().await
}

/// Writes a message in the transaction that `connection` is in. After the commit, a [`Relay`](crate::Relay) publishes
/// it, under the id that [`Prepared::id`] returns. Pass `&mut tx`.
///
/// # Errors
/// If the message was not written. Do not commit the transaction.
///
/// # Cancellation
/// If the future is dropped before it resolves, the message may have been written: roll the transaction back.
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

/// Writes several messages as [`enqueue`] does, in this order, with one statement: the database is asked once, and not
/// once for each message. Does nothing if there are none.
///
/// ```no_run
/// # async fn example(
/// #     tx: &mut sqlx::PgConnection, order: fluffle_amqp::Prepared, bill: fluffle_amqp::Prepared,
/// # ) -> Result<(), fluffle_outbox::EnqueueError> {
/// fluffle_outbox::postgres::enqueue_all(tx, &[order, bill]).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If they were not written; it is all or none. Do not commit the transaction.
///
/// # Cancellation
/// If the future is dropped before it resolves, the messages may have been written: roll the transaction back.
pub async fn enqueue_all<'a>(
    connection: &mut PgConnection,
    messages: impl IntoIterator<Item = &'a Prepared>,
) -> Result<(), EnqueueError> {
    // Without `order by`, the rows could get their ids in another order.
    const INSERT: &str = "
        insert into fluffle_outbox (message_id, message)
        select id, message from unnest($1::text[], $2::bytea[]) with ordinality as given (id, message, place)
        order by place";
    let messages: Vec<&Prepared> = messages.into_iter().collect();
    let Some(first) = messages.first() else { return Ok(()) };
    let ids: Vec<&str> = messages.iter().map(|message| message.id()).collect();
    let bytes = messages.iter().map(|message| message.to_bytes()).collect::<Result<Vec<_>, _>>()?;
    let bytes: Vec<&[u8]> = bytes.iter().map(|bytes| &**bytes).collect();
    let insert = sqlx::query(INSERT).bind(ids).bind(bytes).execute(connection).await;
    insert.map(drop).map_err(|source| EnqueueError::several(first.id(), messages.len(), source))
}
