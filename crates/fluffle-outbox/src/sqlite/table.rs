//! The queries of a relay on SQLite.

use std::{fmt::Write, time::Duration};

use sqlx::{SqliteConnection, SqlitePool};

use crate::{
    rows::{Books, Claim, LEASE, PRUNED, Row},
    sqlite::{milliseconds, now, writing::write},
};

pub(crate) async fn claim(pool: &SqlitePool, claim: &Claim<'_>) -> Result<Vec<Row>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    // Looks for due rows before the update, because an update takes the only write lock even if it finds no row.
    const LOOK: &str = concat!(
        "select exists (select 1 from fluffle_outbox
            where parked_at is null and published_at is null and (due_at <= ",
        now!(),
        " or claimed_by = $1) and id not in (select value from json_each($2)))"
    );
    let look = sqlx::query_scalar::<_, bool>(LOOK).bind(claim.relay).bind(json(&claim.except));
    let is_due = look.fetch_one(&mut *connection).await?;
    drop(connection);
    if !is_due {
        return Ok(Vec::new());
    }
    write(pool, async |tx| claim_on(tx, claim).await).await
}

async fn claim_on(connection: &mut SqliteConnection, claim: &Claim<'_>) -> Result<Vec<Row>, sqlx::Error> {
    const CLAIM: &str = concat!(
        "update fluffle_outbox set claimed_by = $1, due_at = ",
        now!(),
        " + $4
        where id in (
            select id from (
                select id, size, sum(size) over (order by id rows unbounded preceding) as total
                from (
                    select id, length(message) as size from fluffle_outbox
                    where parked_at is null and published_at is null and (due_at <= ",
        now!(),
        " or claimed_by = $1) and id not in (select value from json_each($5))
                    order by id limit $2))
            where total <= $3 or ($6 and total = size))
        returning id, message, attempts"
    );
    let rows: Vec<(i64, Vec<u8>, i32)> = sqlx::query_as(CLAIM)
        .bind(claim.relay)
        .bind(claim.rows())
        .bind(claim.bytes())
        .bind(milliseconds(LEASE))
        .bind(json(&claim.except))
        .bind(claim.is_larger_allowed)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(Row::from).collect())
}

pub(crate) async fn settle(pool: &SqlitePool, relay: &str, books: &Books<'_>, keep: bool) -> Result<(), sqlx::Error> {
    write(pool, async |tx| settle_on(tx, relay, books, keep).await).await
}

/// Writes the outcomes of claimed rows, and claims the next ones, in one transaction: each one waits for the only write
/// lock and for the disk.
pub(crate) async fn settle_and_claim(
    pool: &SqlitePool,
    claim: &Claim<'_>,
    books: &Books<'_>,
    keep: bool,
) -> Result<Vec<Row>, sqlx::Error> {
    write(pool, async |tx| {
        settle_on(tx, claim.relay, books, keep).await?;
        claim_on(tx, claim).await
    })
    .await
}

async fn settle_on(
    connection: &mut SqliteConnection,
    relay: &str,
    books: &Books<'_>,
    keep: bool,
) -> Result<(), sqlx::Error> {
    // Marked even if another relay has claimed them by now, because the broker has them.
    let published = match keep {
        true => concat!(
            "update fluffle_outbox set published_at = ",
            now!(),
            ", claimed_by = null
            where id in (select value from json_each($1))"
        ),
        false => "delete from fluffle_outbox where id in (select value from json_each($1))",
    };
    if !books.published.is_empty() {
        sqlx::query(published).bind(json(&books.published)).execute(&mut *connection).await?;
    }
    if !books.again.is_empty() {
        const RELEASE: &str = concat!(
            "update fluffle_outbox set claimed_by = null, due_at = ",
            now!(),
            " where id in (select value from json_each($1)) and claimed_by = $2"
        );
        let release = sqlx::query(RELEASE).bind(json(&books.again)).bind(relay);
        release.execute(&mut *connection).await?;
    }
    for (id, attempts, error, wait) in &books.refused {
        const REFUSED: &str = concat!(
            "update fluffle_outbox set claimed_by = null, attempts = $3, error = $4,
                due_at = ",
            now!(),
            " + coalesce($5, 0),
                parked_at = case when $5 is null then ",
            now!(),
            " end
            where id = $1 and claimed_by = $2"
        );
        let wait = wait.map(milliseconds);
        let refused = sqlx::query(REFUSED).bind(id).bind(relay).bind(attempts).bind(*error).bind(wait);
        refused.execute(&mut *connection).await?;
    }
    Ok(())
}

/// The number of rows that wait, and how many seconds the first of them has waited.
pub(crate) async fn waiting(pool: &SqlitePool) -> Result<(i64, Option<f64>), sqlx::Error> {
    const WAITING: &str = concat!(
        "select count(*), (
            select (",
        now!(),
        " - enqueued_at) / 1000.0 from fluffle_outbox
            where parked_at is null and published_at is null order by id limit 1)
        from fluffle_outbox where parked_at is null and published_at is null"
    );
    sqlx::query_as(WAITING).fetch_one(pool).await
}

pub(crate) async fn prune(pool: &SqlitePool, age: Duration) -> Result<u64, sqlx::Error> {
    const PRUNE: &str = concat!(
        "delete from fluffle_outbox where id in (
            select id from fluffle_outbox where published_at < ",
        now!(),
        " - $1 order by published_at limit $2)"
    );
    let prune =
        async |tx: &mut SqliteConnection| sqlx::query(PRUNE).bind(milliseconds(age)).bind(PRUNED).execute(tx).await;
    write(pool, prune).await.map(|done| done.rows_affected())
}

/// A JSON array of ids, because SQLite cannot bind an array but can read JSON.
fn json(ids: &[i64]) -> String {
    let mut text = String::from("[");
    for (index, id) in ids.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{comma}{id}");
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_are_written_as_a_json_array() {
        assert_eq!(super::json(&[]), "[]");
        assert_eq!(super::json(&[7, -1]), "[7,-1]");
    }
}
