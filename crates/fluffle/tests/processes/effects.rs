//! A database in which the handlers of several processes leave their effects, and what the test reads there.

use std::{
    env,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use fluffle::prelude::*;
use fluffle_harness::Postgres;
use fluffle_outbox::{postgres, seen};
use sqlx::PgPool;

use crate::support::{SOON, process::Program, soon};

const DATABASE: &str = "DATABASE_URL";

/// The broker and the database that a process of the service is told of.
pub(crate) fn broker_and_database() -> (String, String) {
    (env::var("AMQP_URL").unwrap(), env::var(DATABASE).unwrap())
}

/// A PostgreSQL server with the tables.
pub(crate) struct Effects {
    pub(crate) pool: PgPool,
    server: Postgres,
}

impl Effects {
    pub(crate) async fn start() -> Self {
        let server = Postgres::start().expect("a PostgreSQL server");
        let pool = PgPool::connect(&server.url()).await.unwrap();
        postgres::migrate(&pool).await.unwrap();
        let table = "create table effects (
            place bigserial, text text not null, at timestamptz not null default clock_timestamp()
        )";
        sqlx::raw_sql(table).execute(&pool).await.unwrap();
        Self { pool, server }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }

    /// Waits until so many different texts were handled.
    pub(crate) async fn handled(&self, texts: usize) {
        soon("all is handled", async {
            let mut look = tokio::time::interval(Duration::from_millis(50));
            while self.number("select count(distinct text) from effects").await < texts as i64 {
                look.tick().await;
            }
        })
        .await;
    }

    /// The texts, in the order of their effects.
    pub(crate) async fn texts(&self) -> Vec<String> {
        sqlx::query_scalar("select text from effects order by place").fetch_all(&self.pool).await.unwrap()
    }

    /// The longest time between two effects, in milliseconds.
    pub(crate) async fn longest_pause(&self) -> i64 {
        self.number(
            "select coalesce(max(extract(epoch from pause) * 1000)::bigint, 0) from (
                select at - lag(at) over (order by at) as pause from effects
            ) as pauses",
        )
        .await
    }
}

/// Leaves an effect for each text, in one transaction with the text's id, so exactly once.
pub(crate) struct Once {
    pool: PgPool,
}

impl Once {
    pub(crate) async fn connect(database: &str) -> PgPool {
        PgPool::connect(database).await.unwrap()
    }

    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

impl Actor for Once {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Once {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.work(text)
    }
}

impl Once {
    pub(crate) fn work(&self, text: Delivery<String>) -> ResponseFuture<Result<(), Failure>> {
        let pool = self.pool.clone();
        Box::pin(async move {
            let id = seen::key(&text).ok_or_else(|| Failure::reject("it has no message id"))?;
            let mut tx = pool.begin().await?;
            if !postgres::seen::insert(&mut tx, "once", &id).await? {
                return Ok(());
            }
            sqlx::query("insert into effects (text) values ($1)").bind(text.as_str()).execute(&mut *tx).await?;
            Ok(tx.commit().await?)
        })
    }
}

/// Tells a process of the broker and of the database.
pub(crate) fn told(program: Program, broker: &str, effects: &Effects) -> Program {
    program.env("AMQP_URL", broker).env(DATABASE, &effects.url())
}

/// Publishes numbers, one each 4 ms, until `is_over`, and counts them. Every publish must succeed.
pub(crate) async fn publish_until(out: &Publisher<String>, published: &AtomicUsize, is_over: impl Fn() -> bool) {
    let mut pace = tokio::time::interval(Duration::from_millis(4));
    while !is_over() {
        pace.tick().await;
        let number = published.load(Ordering::Relaxed);
        let confirmed = tokio::time::timeout(SOON, out.publish(number.to_string())).await;
        confirmed.expect("in time").unwrap_or_else(|error| panic!("message {number}: {error}"));
        published.store(number + 1, Ordering::Relaxed);
    }
}
