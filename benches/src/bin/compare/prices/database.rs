//! A fresh database for one round, with the tables of the outbox.

use std::path::Path;

use fluffle::amqp::Prepared;
use fluffle_outbox::{Table, postgres, sqlite};
use sqlx::{
    PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};

use crate::{failure::Failure, prices::way::Sql};

/// How many transactions handlers have open at a time. SQLite has one writer.
const POSTGRES_TRANSACTIONS: usize = 8;

/// The name under which handlers record ids.
const CONSUMER: &str = "prices";

#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Database {
    /// Opens it empty: a file in `folder`, with SQLite's default of syncing each commit, or the database at `postgres`.
    pub(crate) async fn open(sql: Sql, folder: &Path, postgres: Option<&str>) -> Result<Self, Failure> {
        Ok(match (sql, postgres) {
            (Sql::Sqlite, _) => {
                let file = SqliteConnectOptions::new().filename(folder.join("prices.db")).create_if_missing(true);
                let pool = SqlitePoolOptions::new().connect_with(file.journal_mode(SqliteJournalMode::Wal)).await?;
                sqlite::migrate(&pool).await?;
                Self::Sqlite(pool)
            }
            (Sql::Postgres, Some(url)) => {
                let pool = PgPoolOptions::new().max_connections(POSTGRES_TRANSACTIONS as u32 + 2).connect(url).await?;
                postgres::migrate(&pool).await?;
                sqlx::query("truncate fluffle_outbox, fluffle_seen").execute(&pool).await?;
                Self::Postgres(pool)
            }
            (Sql::Postgres, None) => return Err("PostgreSQL is not installed".into()),
        })
    }

    pub(crate) fn table(&self) -> Table {
        match self {
            Self::Sqlite(pool) => pool.clone().into(),
            Self::Postgres(pool) => pool.clone().into(),
        }
    }

    pub(crate) fn transactions(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(_) => POSTGRES_TRANSACTIONS,
        }
    }

    /// Writes these messages into the outbox, in one transaction.
    pub(crate) async fn enqueue(&self, messages: &[Prepared]) -> Result<(), Failure> {
        match self {
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("begin immediate").await?;
                sqlite::enqueue_all(&mut tx, messages).await?;
                tx.commit().await?;
            }
            Self::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                postgres::enqueue_all(&mut tx, messages).await?;
                tx.commit().await?;
            }
        }
        Ok(())
    }

    /// Whether the outbox has messages that are not known to be published. Counting them took SQLite as much time as
    /// the relay's own work.
    pub(crate) async fn is_waiting(&self) -> Result<bool, Failure> {
        let look = "select exists (select 1 from fluffle_outbox)";
        Ok(match self {
            Self::Sqlite(pool) => sqlx::query_scalar(look).fetch_one(pool).await?,
            Self::Postgres(pool) => sqlx::query_scalar(look).fetch_one(pool).await?,
        })
    }

    /// Records the id of a handled message. Returns whether it is a new one.
    pub(crate) async fn is_new(&self, id: &str) -> Result<bool, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => {
                let mut tx = pool.begin_with("begin immediate").await?;
                let new = sqlite::seen::insert(&mut tx, CONSUMER, id).await?;
                tx.commit().await?;
                Ok(new)
            }
            Self::Postgres(pool) => {
                let mut tx = pool.begin().await?;
                let new = postgres::seen::insert(&mut tx, CONSUMER, id).await?;
                tx.commit().await?;
                Ok(new)
            }
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
