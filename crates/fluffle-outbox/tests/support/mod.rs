//! Helpers for the outbox's tests: a database for each test, of either kind; messages; waits with a deadline.
#![allow(dead_code, unreachable_pub)]

use std::{future::Future, time::Duration};

use fluffle::{prelude::*, testing::TestBroker};
use fluffle_harness::Postgres;
use fluffle_outbox::{Relay, Table, postgres, sqlite};
use sqlx::{
    PgPool, SqlitePool,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tempfile::TempDir;
use tokio::time::{interval, timeout};

/// The longest that a single wait may take before the test fails.
pub const SOON: Duration = Duration::from_secs(30);

/// Defines each scenario, an `async fn(Database)`, as a test on PostgreSQL and as one on SQLite.
#[macro_export]
macro_rules! on_both {
    ($($scenario:ident),* $(,)?) => {
        mod on_postgres {
            $(#[actix::test]
            async fn $scenario() {
                super::$scenario($crate::support::Database::postgres().await).await;
            })*
        }
        mod on_sqlite {
            $(#[actix::test]
            async fn $scenario() {
                super::$scenario($crate::support::Database::sqlite().await).await;
            })*
        }
    };
}

/// A real PostgreSQL server, or a real SQLite file, with the tables.
pub enum Database {
    Postgres { pool: PgPool, server: Postgres },
    Sqlite { pool: SqlitePool, folder: TempDir },
}

macro_rules! with_pool {
    ($database:expr, $pool:ident, $work:expr) => {
        match $database {
            Database::Postgres { pool: $pool, .. } => $work,
            Database::Sqlite { pool: $pool, .. } => $work,
        }
    };
}

impl Database {
    pub async fn postgres() -> Self {
        let server = Postgres::start().expect("a PostgreSQL server");
        let pool = PgPool::connect(&server.url()).await.unwrap();
        postgres::migrate(&pool).await.unwrap();
        Self::Postgres { pool, server }
    }

    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pool = SqlitePool::connect_with(file(&folder).busy_timeout(SOON)).await.unwrap();
        sqlite::migrate(&pool).await.unwrap();
        Self::Sqlite { pool, folder }
    }

    /// With connections of its own: those that a service has opened end with the service's threads.
    pub fn table(&self) -> Table {
        match self {
            Self::Postgres { server, .. } => PgPoolOptions::new().connect_lazy(&server.url()).unwrap().into(),
            Self::Sqlite { folder, .. } => SqlitePool::connect_lazy_with(file(folder).busy_timeout(SOON)).into(),
        }
    }

    /// The same table with short timeouts, so that the relay soon fails if the database is away or locked.
    pub fn impatient_table(&self) -> Table {
        const TIRED: Duration = Duration::from_millis(100);
        match self {
            Self::Postgres { server, .. } => {
                PgPoolOptions::new().acquire_timeout(TIRED).connect_lazy(&server.url()).unwrap().into()
            }
            Self::Sqlite { folder, .. } => SqlitePool::connect_lazy_with(file(folder).busy_timeout(TIRED)).into(),
        }
    }

    /// Enqueues all messages in one transaction, and commits it or rolls it back.
    pub async fn enqueue(&self, messages: &[Prepared], commit: bool) {
        match self {
            Self::Postgres { pool, .. } => {
                let mut tx = pool.begin().await.unwrap();
                for message in messages {
                    postgres::enqueue(&mut tx, message).await.unwrap();
                }
                if commit { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
            }
            Self::Sqlite { pool, .. } => {
                let mut tx = pool.begin_with("begin immediate").await.unwrap();
                for message in messages {
                    sqlite::enqueue(&mut tx, message).await.unwrap();
                }
                if commit { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
            }
        }
    }

    /// The same with one call.
    pub async fn enqueue_all(&self, messages: &[Prepared], commit: bool) {
        match self {
            Self::Postgres { pool, .. } => {
                let mut tx = pool.begin().await.unwrap();
                postgres::enqueue_all(&mut tx, messages).await.unwrap();
                if commit { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
            }
            Self::Sqlite { pool, .. } => {
                let mut tx = pool.begin_with("begin immediate").await.unwrap();
                sqlite::enqueue_all(&mut tx, messages).await.unwrap();
                if commit { tx.commit().await.unwrap() } else { tx.rollback().await.unwrap() }
            }
        }
    }

    pub async fn execute(&self, sql: &str) {
        with_pool!(self, pool, sqlx::raw_sql(sql).execute(pool).await.map(drop).unwrap());
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.try_number(sql).await.unwrap()
    }

    pub async fn try_number(&self, sql: &str) -> Result<i64, sqlx::Error> {
        with_pool!(self, pool, sqlx::query_scalar(sql).fetch_one(pool).await)
    }

    pub async fn text(&self, sql: &str) -> String {
        with_pool!(self, pool, sqlx::query_scalar(sql).fetch_one(pool).await.unwrap())
    }

    /// Rows in the outbox.
    pub async fn rows(&self) -> i64 {
        self.number("select count(*) from fluffle_outbox").await
    }

    /// Prevents every relay from removing rows from the table, as if it died between confirm and mark.
    pub async fn forbid_marking(&self) {
        self.execute(match self {
            Self::Postgres { .. } => {
                "create function forbid() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;
                 create trigger forbid before delete on fluffle_outbox for each row execute function forbid();"
            }
            Self::Sqlite { .. } => {
                "create trigger forbid before delete on fluffle_outbox begin select raise(abort, 'not now'); end"
            }
        })
        .await;
    }

    pub async fn allow_marking(&self) {
        self.execute(match self {
            Self::Postgres { .. } => "drop trigger forbid on fluffle_outbox",
            Self::Sqlite { .. } => "drop trigger forbid",
        })
        .await;
    }

    /// Has the table `claims` record each claim of a row: its id, the relay, and how many rows are claimed then.
    pub async fn record_claims(&self) {
        const RECORD: &str = "insert into claims select new.id, new.claimed_by, count(*) from fluffle_outbox
                              where claimed_by is not null;";
        let trigger = match self {
            Self::Postgres { .. } => format!(
                "create function record() returns trigger language plpgsql as $$ begin {RECORD} return null; end $$;
                 create trigger record after update on fluffle_outbox for each row when (new.claimed_by is not null)
                     execute function record();"
            ),
            Self::Sqlite { .. } => format!(
                "create trigger record after update on fluffle_outbox when new.claimed_by is not null
                 begin {RECORD} end"
            ),
        };
        self.execute("create table claims (id bigint, relay text, in_hand bigint)").await;
        self.execute(&trigger).await;
    }

    /// Prevents every relay from claiming the last row.
    pub async fn forbid_claiming_the_last(&self) {
        let last = self.number("select max(id) from fluffle_outbox").await;
        let trigger = match self {
            Self::Postgres { .. } => format!(
                "create function forbid() returns trigger language plpgsql as $$ begin raise 'not now'; end $$;
                 create trigger forbid before update on fluffle_outbox for each row when (new.id = {last})
                     execute function forbid();"
            ),
            Self::Sqlite { .. } => format!(
                "create trigger forbid before update on fluffle_outbox when new.id = {last}
                 begin select raise(abort, 'not now'); end"
            ),
        };
        self.execute(&trigger).await;
    }

    /// Ends all leases, as if a minute had passed for every row.
    pub async fn end_leases(&self) {
        self.execute(match self {
            Self::Postgres { .. } => "update fluffle_outbox set due_at = now()",
            Self::Sqlite { .. } => "update fluffle_outbox set due_at = 0",
        })
        .await;
    }
}

fn file(folder: &TempDir) -> SqliteConnectOptions {
    let file = SqliteConnectOptions::new().filename(folder.path().join("outbox.sqlite"));
    file.create_if_missing(true).journal_mode(SqliteJournalMode::Wal)
}

/// A broker inside the test, with a queue `q`.
pub fn broker() -> (TestBroker, Topology) {
    (TestBroker::start().unwrap(), Topology::new().queue(Queue::classic("q")))
}

/// Prepared messages with these texts for the queue `q`.
pub fn prepared(texts: impl IntoIterator<Item = impl ToString>) -> Vec<Prepared> {
    prepared_for("q", texts)
}

pub fn prepared_for(queue: &str, texts: impl IntoIterator<Item = impl ToString>) -> Vec<Prepared> {
    let route = Route::<String>::queue(queue);
    texts.into_iter().map(|text| route.prepare(&text.to_string(), &MessageOptions::new()).unwrap()).collect()
}

/// A relay that polls and restarts fast.
pub fn relay(database: &Database, app: &App) -> Relay {
    relay_of(database.table(), app)
}

pub fn relay_of(table: Table, app: &App) -> Relay {
    let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(100)).unwrap();
    Relay::new(table, app.forwarder("outbox")).poll_every(Duration::from_millis(10)).backoff(backoff)
}

/// A service with a relay, running.
pub async fn relaying(database: &Database, broker: &TestBroker, topology: &Topology) -> Service {
    let app = App::new(broker.client().unwrap()).topology(topology.clone());
    let relay = relay(database, &app);
    started(app.supervise(relay)).await
}

/// Starts the service and waits until it is ready.
pub async fn started(app: App) -> Service {
    let service = app.start().await.expect("it starts");
    soon("ready", service.ready()).await.expect("it runs");
    service
}

/// How often the relay was restarted.
pub fn restarts(service: &Service) -> u64 {
    service.snapshot().find("app/application/outbox").expect("a relay").restarts
}

/// Message ids in a queue, in order.
pub fn ids(broker: &TestBroker, queue: &str) -> Vec<String> {
    broker.messages(queue).unwrap().into_iter().map(|message| message.message_id.unwrap()).collect()
}

/// The texts in a queue, in order.
pub fn texts(broker: &TestBroker, queue: &str) -> Vec<String> {
    broker.read::<String>(queue).unwrap().into_iter().map(|text| text.message().unwrap().clone()).collect()
}

/// The future's output. The test fails if it takes longer than [`SOON`].
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {SOON:?}"),
    }
}

/// Waits until `check` returns true. Polls every 5 ms, because tables and queues send no event.
pub async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    soon(what, async {
        let mut look = interval(Duration::from_millis(5));
        while !check().await {
            look.tick().await;
        }
    })
    .await;
}
