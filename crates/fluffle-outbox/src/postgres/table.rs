//! The queries of a relay on PostgreSQL.

use std::time::Duration;

use sqlx::PgPool;

use crate::rows::{Books, Claim, LEASE, PRUNED, Row};

pub(crate) async fn claim(pool: &PgPool, claim: &Claim<'_>) -> Result<Vec<Row>, sqlx::Error> {
    // Rows that another relay is claiming at this moment are skipped; rows that it has claimed are not due.
    const CLAIM: &str = "
        with due as (
            select id, octet_length(message) as size from fluffle_outbox
            where parked_at is null and published_at is null and (due_at <= now() or claimed_by = $1)
                and not id = any($5)
            order by id limit $2 for update skip locked
        ), fitting as (
            select id, size, sum(size) over (order by id rows unbounded preceding) as total from due
        )
        update fluffle_outbox set claimed_by = $1, due_at = now() + make_interval(secs => $4)
        from fitting where fluffle_outbox.id = fitting.id and (total <= $3 or ($6 and total = size))
        returning fluffle_outbox.id, message, attempts";
    let rows: Vec<(i64, Vec<u8>, i32)> = sqlx::query_as(CLAIM)
        .bind(claim.relay)
        .bind(claim.rows())
        .bind(claim.bytes())
        .bind(LEASE.as_secs_f64())
        .bind(&claim.except)
        .bind(claim.is_larger_allowed)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(Row::from).collect())
}

pub(crate) async fn settle(pool: &PgPool, relay: &str, books: &Books<'_>, keep: bool) -> Result<(), sqlx::Error> {
    let mut tx = pool.begin().await?;
    // Marked even if another relay has claimed them by now, because the broker has them.
    let published = match keep {
        true => "update fluffle_outbox set published_at = now(), claimed_by = null where id = any($1)",
        false => "delete from fluffle_outbox where id = any($1)",
    };
    if !books.published.is_empty() {
        sqlx::query(published).bind(&books.published).execute(&mut *tx).await?;
    }
    if !books.again.is_empty() {
        const RELEASE: &str = "update fluffle_outbox set claimed_by = null, due_at = now() \
                               where id = any($1) and claimed_by = $2";
        let release = sqlx::query(RELEASE).bind(&books.again).bind(relay);
        release.execute(&mut *tx).await?;
    }
    for (id, attempts, error, wait) in &books.refused {
        const REFUSED: &str = "
            update fluffle_outbox set claimed_by = null, attempts = $3, error = $4,
                due_at = now() + make_interval(secs => coalesce($5, 0)),
                parked_at = case when $5 is null then now() end
            where id = $1 and claimed_by = $2";
        let wait = wait.map(|wait| wait.as_secs_f64());
        let refused = sqlx::query(REFUSED).bind(id).bind(relay).bind(attempts).bind(*error).bind(wait);
        refused.execute(&mut *tx).await?;
    }
    tx.commit().await
}

/// The number of rows that wait, and how many seconds the first of them has waited.
pub(crate) async fn waiting(pool: &PgPool) -> Result<(i64, Option<f64>), sqlx::Error> {
    const WAITING: &str = "
        select count(*), (
            select extract(epoch from now() - enqueued_at)::float8 from fluffle_outbox
            where parked_at is null and published_at is null order by id limit 1)
        from fluffle_outbox where parked_at is null and published_at is null";
    sqlx::query_as(WAITING).fetch_one(pool).await
}

pub(crate) async fn prune(pool: &PgPool, age: Duration) -> Result<u64, sqlx::Error> {
    const PRUNE: &str = "
        delete from fluffle_outbox where id in (
            select id from fluffle_outbox where published_at < now() - make_interval(secs => $1)
            order by published_at limit $2)";
    let done = sqlx::query(PRUNE).bind(age.as_secs_f64()).bind(PRUNED).execute(pool).await?;
    Ok(done.rows_affected())
}
