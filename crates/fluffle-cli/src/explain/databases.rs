//! The tables of an outbox, and of handled ids, in the application's database. They are only read.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use serde_json::json;
use sqlx::{Connection, PgConnection, SqliteConnection, postgres::PgConnectOptions, sqlite::SqliteConnectOptions};

use crate::explain::{
    id::Id,
    report::{Finding, Source, State, at},
};

/// How long the database may take for all questions. A table without an index on the id is read as a whole.
const LIMIT: Duration = Duration::from_secs(30);

/// A row of the outbox; times are milliseconds since 1970-01-01 UTC.
type Row = (i64, i64, i64, Option<String>, i32, Option<String>, Option<i64>, Option<i64>);
/// A handled id: consumer, id, time.
type Handled = (String, String, i64);

/// What the database has.
struct Answer {
    /// `None`: there is no such table.
    rows: Option<Vec<Row>>,
    handled: Option<Vec<Handled>>,
}

/// What the database says.
pub(crate) async fn outbox(url: &str, id: &Id) -> Vec<Finding> {
    let failed = |why: String| vec![Finding::new("database of --outbox", Source::Database, State::Failed).fact(why)];
    let asked = async { if url.starts_with("sqlite:") { sqlite(url, id).await } else { postgres(url, id).await } };
    match tokio::time::timeout(LIMIT, asked).await {
        Ok(Ok(answer)) => vec![rows(answer.rows), handled(answer.handled)],
        Ok(Err(error)) => failed(error.to_string()),
        Err(_) => failed(format!("no answer within {LIMIT:?}")),
    }
}

const HANDLED: &str = "message_id = $1 or substr(message_id, 1, length($1) + 1) = $1 || '/'";

async fn sqlite(url: &str, id: &Id) -> Result<Answer, sqlx::Error> {
    let options = SqliteConnectOptions::from_str(url)?.read_only(true).create_if_missing(false);
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let tables: Vec<String> =
        sqlx::query_scalar("select name from sqlite_schema where type = 'table'").fetch_all(&mut connection).await?;
    let has = |table: &str| tables.iter().any(|name| name == table);
    let (id, batch) = both(id);
    let rows = match has("fluffle_outbox") {
        true => {
            let sql = "select id, enqueued_at, due_at, claimed_by, attempts, error, parked_at, published_at
                from fluffle_outbox where message_id in ($1, $2) order by id limit 100";
            Some(sqlx::query_as(sql).bind(id).bind(batch).fetch_all(&mut connection).await?)
        }
        false => None,
    };
    let handled = match has("fluffle_seen") {
        true => {
            let sql = format!("select consumer, message_id, seen_at from fluffle_seen where {HANDLED} limit 100");
            Some(sqlx::query_as(&sql).bind(id).fetch_all(&mut connection).await?)
        }
        false => None,
    };
    connection.close().await?;
    Ok(Answer { rows, handled })
}

async fn postgres(url: &str, id: &Id) -> Result<Answer, sqlx::Error> {
    let options = PgConnectOptions::from_str(url)?.application_name("fluffle explain");
    // The server refuses every write of this connection.
    let options = options.options([("default_transaction_read_only", "on")]);
    let mut connection = PgConnection::connect_with(&options).await?;
    let has: (bool, bool) =
        sqlx::query_as("select to_regclass('fluffle_outbox') is not null, to_regclass('fluffle_seen') is not null")
            .fetch_one(&mut connection)
            .await?;
    let (id, batch) = both(id);
    let rows = if has.0 {
        let ms = |column: &str| format!("(extract(epoch from {column}) * 1000)::bigint");
        let sql = format!(
            "select id, {}, {}, claimed_by, attempts, error, {}, {}
            from fluffle_outbox where message_id in ($1, $2) order by id limit 100",
            ms("enqueued_at"),
            ms("due_at"),
            ms("parked_at"),
            ms("published_at")
        );
        Some(sqlx::query_as(&sql).bind(id).bind(batch).fetch_all(&mut connection).await?)
    } else {
        None
    };
    let handled = if has.1 {
        let sql = format!(
            "select consumer, message_id, (extract(epoch from seen_at) * 1000)::bigint from fluffle_seen
            where {HANDLED} limit 100"
        );
        Some(sqlx::query_as(&sql).bind(id).fetch_all(&mut connection).await?)
    } else {
        None
    };
    connection.close().await?;
    Ok(Answer { rows, handled })
}

/// The id, and that of its batch, or itself again.
fn both(id: &Id) -> (&str, &str) {
    (&id.text, id.item.as_ref().map_or(&id.text, |(batch, _)| batch))
}

fn rows(rows: Option<Vec<Row>>) -> Finding {
    let new = |state| Finding::new("outbox table fluffle_outbox", Source::Database, state);
    let Some(rows) = rows else { return new(State::Absent).fact("there is no such table") };
    if rows.is_empty() {
        return new(State::Absent).fact(
            "no row: it was never enqueued, its transaction was rolled back, or it was published and its row deleted",
        );
    }
    let mut finding = new(State::Found);
    let mut details = Vec::new();
    for (row, enqueued, due, claimed, attempts, error, parked, published) in rows {
        let state = match (published, parked, &claimed) {
            (Some(time), ..) => format!("published and confirmed at {}", millis(time)),
            (None, Some(time), _) => {
                format!("parked at {}, after {attempts} refusals: a person must decide", millis(time))
            }
            (None, None, Some(relay)) => format!("claimed by the relay {relay}, until {}", millis(due)),
            (None, None, None) => format!("waits for a relay, due at {}", millis(due)),
        };
        finding = finding.fact(format!("row {row}, enqueued at {}: {state}", millis(enqueued)));
        if let Some(error) = &error {
            finding = finding.fact(format!("its last error: {error}"));
        }
        details.push(json!({
            "row": row, "enqueued_at_ms": enqueued, "due_at_ms": due, "claimed_by": claimed, "attempts": attempts,
            "error": error, "parked_at_ms": parked, "published_at_ms": published,
        }));
    }
    finding.details = details.into();
    finding
}

fn handled(handled: Option<Vec<Handled>>) -> Finding {
    let new = |state| Finding::new("table of handled ids fluffle_seen", Source::Database, state);
    let Some(handled) = handled else { return new(State::Absent).fact("there is no such table") };
    if handled.is_empty() {
        return new(State::Absent).fact("no consumer that records its ids here has handled it, or the row was pruned");
    }
    let mut finding = new(State::Found);
    let mut details = Vec::new();
    for (consumer, id, time) in handled {
        finding = finding.fact(format!("handled by {consumer} at {}: {id}", millis(time)));
        details.push(json!({"consumer": consumer, "id": id, "seen_at_ms": time}));
    }
    finding.details = details.into();
    finding
}

/// A time of the database, as text.
fn millis(since_1970: i64) -> String {
    let time = u64::try_from(since_1970).ok().and_then(|millis| {
        // Up to the year 9999, the last that has four digits.
        let since = Duration::from_millis(millis).min(Duration::from_secs(253_402_300_799));
        SystemTime::UNIX_EPOCH.checked_add(since)
    });
    time.map_or_else(|| format!("{since_1970} ms"), at)
}
