//! The outbox table for the relay, in either database.

use std::{fmt, future::Future, time::Duration};

use fluffle_amqp::StoreDepth;
use tokio::time::timeout;

#[cfg(feature = "postgres")]
use crate::postgres;
#[cfg(feature = "sqlite")]
use crate::sqlite;
use crate::{
    error::RelayError,
    outcome::Outcome,
    rows::{Books, Claim, Row},
};

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

impl Table {
    /// Claims the oldest rows that are due, in order.
    pub(crate) async fn claim(&self, claim: &Claim<'_>) -> Result<Vec<Row>, RelayError> {
        bounded("claiming rows", async {
            match &self.0 {
                #[cfg(feature = "postgres")]
                Kind::Postgres(pool) => postgres::table::claim(pool, claim).await,
                #[cfg(feature = "sqlite")]
                Kind::Sqlite(pool) => sqlite::table::claim(pool, claim).await,
            }
        })
        .await
        .map(in_order)
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

    /// [`settle`](Self::settle), then [`claim`](Self::claim): where it saves time, in one transaction.
    pub(crate) async fn settle_and_claim(
        &self,
        outcomes: &[(i64, Outcome)],
        keep: bool,
        claim: &Claim<'_>,
    ) -> Result<Vec<Row>, RelayError> {
        #[cfg(feature = "sqlite")]
        if let Kind::Sqlite(pool) = &self.0
            && !outcomes.is_empty()
        {
            let books = Books::new(outcomes);
            let work = sqlite::table::settle_and_claim(pool, claim, &books, keep);
            return bounded("marking rows and claiming others", work).await.map(in_order);
        }
        if !outcomes.is_empty() {
            self.settle(claim.relay, outcomes, keep).await?;
        }
        self.claim(claim).await
    }

    /// How many rows wait to be published, including those being published now.
    pub(crate) async fn waiting(&self) -> Result<StoreDepth, RelayError> {
        let (messages, oldest) = bounded("counting rows", async {
            match &self.0 {
                #[cfg(feature = "postgres")]
                Kind::Postgres(pool) => postgres::table::waiting(pool).await,
                #[cfg(feature = "sqlite")]
                Kind::Sqlite(pool) => sqlite::table::waiting(pool).await,
            }
        })
        .await?;
        // A row that another host has written may seem to be from the future.
        let oldest = oldest.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default());
        Ok(StoreDepth { messages: messages.unsigned_abs(), oldest })
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

/// `returning` guarantees no order.
fn in_order(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_unstable_by_key(|row| row.id);
    rows
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
