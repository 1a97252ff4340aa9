//! The outbox table for the relay, in either database.

use std::{fmt, future::Future, time::Duration};

use tokio::time::timeout;

#[cfg(feature = "postgres")]
use crate::postgres;
#[cfg(feature = "sqlite")]
use crate::sqlite;
use crate::{error::RelayError, outcome::Outcome};

/// How long a claimed row belongs to one relay. Longer than a publish (30 s) and the mark after it can take.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// The most published rows deleted at a time, because a longer statement would hold up others.
pub(crate) const PRUNED: i64 = 1000;

/// How long the database may take to answer, so that a dead connection does not block the relay.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// The database with the outbox, made from a `PgPool` or a `SqlitePool`. The relay uses one of its connections at a
/// time.
#[derive(Clone)]
pub struct Table(Kind);

#[derive(Clone)]
enum Kind {
    #[cfg(feature = "postgres")]
    Postgres(sqlx::PgPool),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlx::SqlitePool),
}

#[cfg(feature = "postgres")]
impl From<sqlx::PgPool> for Table {
    fn from(pool: sqlx::PgPool) -> Self {
        Self(Kind::Postgres(pool))
    }
}

#[cfg(feature = "sqlite")]
impl From<sqlx::SqlitePool> for Table {
    fn from(pool: sqlx::SqlitePool) -> Self {
        Self(Kind::Sqlite(pool))
    }
}

/// Limits of a claim.
pub(crate) struct Claim<'a> {
    /// The relay that claims. It may claim again the rows that it already has.
    pub(crate) relay: &'a str,
    pub(crate) rows: i64,
    /// The most bytes together, but at least one row is always claimed.
    pub(crate) bytes: i64,
}

/// A claimed row.
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) message: Vec<u8>,
    pub(crate) attempts: i32,
}

impl From<(i64, Vec<u8>, i32)> for Row {
    fn from((id, message, attempts): (i64, Vec<u8>, i32)) -> Self {
        Self { id, message, attempts }
    }
}

/// The outcomes of a batch, sorted for the queries.
#[derive(Default)]
pub(crate) struct Books<'a> {
    pub(crate) published: Vec<i64>,
    pub(crate) again: Vec<i64>,
    /// Id, attempts, error, and the wait until the next try. Without a wait the row is parked.
    pub(crate) refused: Vec<(i64, i32, &'a str, Option<Duration>)>,
}

impl<'a> Books<'a> {
    pub(crate) fn new(outcomes: &'a [(i64, Outcome)]) -> Self {
        let mut books = Self::default();
        for (id, outcome) in outcomes {
            let mut refused = |attempts: u32, error: &'a str, wait| {
                books.refused.push((*id, i32::try_from(attempts).unwrap_or(i32::MAX), error, wait));
            };
            match outcome {
                Outcome::Published => books.published.push(*id),
                Outcome::Again => books.again.push(*id),
                Outcome::Later { attempts, error, wait } => refused(*attempts, error, Some(*wait)),
                Outcome::Parked { attempts, error } => refused(*attempts, error, None),
            }
        }
        books
    }
}

impl Table {
    /// Claims the oldest rows that are due, in order.
    pub(crate) async fn claim(&self, claim: &Claim<'_>) -> Result<Vec<Row>, RelayError> {
        let mut rows = bounded("claiming rows", async {
            match &self.0 {
                #[cfg(feature = "postgres")]
                Kind::Postgres(pool) => postgres::table::claim(pool, claim).await,
                #[cfg(feature = "sqlite")]
                Kind::Sqlite(pool) => sqlite::table::claim(pool, claim).await,
            }
        })
        .await?;
        // `returning` guarantees no order.
        rows.sort_unstable_by_key(|row| row.id);
        Ok(rows)
    }

    /// Writes the outcomes of claimed rows in one transaction. A second call with the same outcomes changes nothing.
    pub(crate) async fn settle(&self, relay: &str, outcomes: &[(i64, Outcome)], keep: bool) -> Result<(), RelayError> {
        let books = Books::new(outcomes);
        bounded("marking rows", async {
            match &self.0 {
                #[cfg(feature = "postgres")]
                Kind::Postgres(pool) => postgres::table::settle(pool, relay, &books, keep).await,
                #[cfg(feature = "sqlite")]
                Kind::Sqlite(pool) => sqlite::table::settle(pool, relay, &books, keep).await,
            }
        })
        .await
    }

    /// How many rows wait to be published, including those being published now.
    pub(crate) async fn waiting(&self) -> Result<u64, RelayError> {
        const WAITING: &str = "select count(*) from fluffle_outbox where parked_at is null and published_at is null";
        let waiting: i64 = bounded("counting rows", async {
            match &self.0 {
                #[cfg(feature = "postgres")]
                Kind::Postgres(pool) => sqlx::query_scalar(WAITING).fetch_one(pool).await,
                #[cfg(feature = "sqlite")]
                Kind::Sqlite(pool) => sqlx::query_scalar(WAITING).fetch_one(pool).await,
            }
        })
        .await?;
        Ok(waiting.unsigned_abs())
    }

    /// Deletes some of the rows that were published more than `age` ago. Returns how many.
    pub(crate) async fn prune(&self, age: Duration) -> Result<u64, RelayError> {
        bounded("deleting published rows", async {
            match &self.0 {
                #[cfg(feature = "postgres")]
                Kind::Postgres(pool) => postgres::table::prune(pool, age).await,
                #[cfg(feature = "sqlite")]
                Kind::Sqlite(pool) => sqlite::table::prune(pool, age).await,
            }
        })
        .await
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.0 {
            #[cfg(feature = "postgres")]
            Kind::Postgres(_) => "Table(PostgreSQL)",
            #[cfg(feature = "sqlite")]
            Kind::Sqlite(_) => "Table(SQLite)",
        })
    }
}

async fn bounded<T>(doing: &'static str, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, RelayError> {
    match timeout(ANSWER_WITHIN, work).await {
        Ok(done) => done.map_err(|source| RelayError::Database { doing, source }),
        Err(_) => Err(RelayError::Timeout { doing, limit: ANSWER_WITHIN }),
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_database_that_never_answers_is_given_up() {
        let answer = bounded::<()>("waiting", pending()).await;
        assert!(matches!(answer, Err(RelayError::Timeout { limit: ANSWER_WITHIN, .. })));
    }
}
