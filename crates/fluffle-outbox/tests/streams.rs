//! Offsets of readers of streams, kept by the reader or in the handler's own transaction, with real PostgreSQL, SQLite
//! and RabbitMQ.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{sync::Arc, time::Duration};

use fluffle::{amqp::OffsetError, prelude::*};
use fluffle_harness::{RabbitMq, Vhost};
use fluffle_outbox::{KeepError, postgres, sqlite};
use futures_util::future::BoxFuture;
use support::*;

on_both!(
    an_offset_is_kept_for_each_reader_never_goes_back_and_can_be_forgotten,
    work_and_offset_in_one_transaction_have_each_effect_once_whatever_is_cut_and_with_two_readers_of_one_name,
    an_offset_whose_transaction_is_rolled_back_is_not_kept,
    a_message_of_a_batch_cannot_keep_the_offset_of_the_whole_batch,
);

const MESSAGES: usize = 120;

/// The store of either database.
struct Store(Arc<Database>);

impl OffsetStore for Store {
    fn kept<'a>(&'a self, stream: &'a str, reader: &'a str) -> BoxFuture<'a, Result<Option<u64>, OffsetError>> {
        Box::pin(async move {
            match &*self.0 {
                Database::Postgres { pool, .. } => {
                    postgres::offsets::PostgresOffsets::new(pool.clone()).kept(stream, reader).await
                }
                Database::Sqlite { pool, .. } => {
                    sqlite::offsets::SqliteOffsets::new(pool.clone()).kept(stream, reader).await
                }
            }
        })
    }

    fn keep<'a>(&'a self, stream: &'a str, reader: &'a str, next: u64) -> BoxFuture<'a, Result<(), OffsetError>> {
        Box::pin(async move {
            match &*self.0 {
                Database::Postgres { pool, .. } => {
                    postgres::offsets::PostgresOffsets::new(pool.clone()).keep(stream, reader, next).await
                }
                Database::Sqlite { pool, .. } => {
                    sqlite::offsets::SqliteOffsets::new(pool.clone()).keep(stream, reader, next).await
                }
            }
        })
    }
}

async fn an_offset_is_kept_for_each_reader_never_goes_back_and_can_be_forgotten(database: Database) {
    let database = Arc::new(database);
    let store = Store(Arc::clone(&database));
    assert_eq!(store.kept("events", "a").await.unwrap(), None);
    for next in [4, 9, 2] {
        store.keep("events", "a", next).await.unwrap();
    }
    store.keep("events", "b", 0).await.unwrap();
    assert_eq!(store.kept("events", "a").await.unwrap(), Some(9));
    assert_eq!(store.kept("events", "b").await.unwrap(), Some(0));
    assert_eq!(store.kept("other", "a").await.unwrap(), None);
    match &*database {
        Database::Postgres { pool, .. } => {
            postgres::offsets::PostgresOffsets::new(pool.clone()).forget("events", "a").await
        }
        Database::Sqlite { pool, .. } => sqlite::offsets::SqliteOffsets::new(pool.clone()).forget("events", "a").await,
    }
    .unwrap();
    assert_eq!(store.kept("events", "a").await.unwrap(), None);
    assert_eq!(store.kept("events", "b").await.unwrap(), Some(0));
}

/// Adds each message to a table, in the transaction that keeps its offset. The text `fail` is rolled back.
struct Totals {
    database: Arc<Database>,
}

impl Actor for Totals {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Totals {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        const EFFECT: &str = "insert into effects values ($1)";
        let database = Arc::clone(&self.database);
        Box::pin(async move {
            let position = text.stream_position().ok_or_else(|| Failure::reject("not of a stream"))?;
            position.wait_for_turn().await;
            // Long enough for a cut to come between.
            tokio::time::sleep(Duration::from_millis(5)).await;
            match &*database {
                Database::Postgres { pool, .. } => {
                    let mut tx = pool.begin().await?;
                    if !postgres::offsets::keep(&mut tx, &position).await? {
                        return Ok(());
                    }
                    sqlx::query(EFFECT).bind(&*text).execute(&mut *tx).await?;
                    if *text == "fail" {
                        return Err(Failure::reject("rolled back"));
                    }
                    tx.commit().await?;
                }
                Database::Sqlite { pool, .. } => {
                    let mut tx = pool.begin_with("begin immediate").await?;
                    if !sqlite::offsets::keep(&mut tx, &position).await? {
                        return Ok(());
                    }
                    sqlx::query(EFFECT).bind(&*text).execute(&mut *tx).await?;
                    if *text == "fail" {
                        return Err(Failure::reject("rolled back"));
                    }
                    tx.commit().await?;
                }
            }
            Ok(())
        })
    }
}

fn place() -> Vhost<'static> {
    RabbitMq::shared().expect("a broker").fresh_vhost().expect("a vhost")
}

fn app(vhost: &Vhost<'_>) -> App {
    let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(200)).unwrap();
    let broker = Broker::new(vhost.url()).unwrap().reconnect(backoff);
    App::new(broker).topology(Topology::new().queue(Queue::stream("events")))
}

async fn published(vhost: &Vhost<'_>, texts: impl IntoIterator<Item = String>) {
    let app = app(vhost);
    let out = app.publisher::<String>(Route::queue("events"));
    let service = started(app).await;
    for text in texts {
        out.publish(text).await.unwrap();
    }
    service.shutdown().await.unwrap();
}

async fn reading(vhost: &Vhost<'_>, database: &Arc<Database>) -> Service {
    let reader = StreamReader::new("totals", Store(Arc::clone(database)));
    let consume = Consume::queue("events").stream(reader).prefetch(20);
    let database = Arc::clone(database);
    started(app(vhost).consume(consume, move || Totals { database: Arc::clone(&database) })).await
}

async fn kept(database: &Arc<Database>) -> Option<u64> {
    Store(Arc::clone(database)).kept("events", "totals").await.unwrap()
}

async fn work_and_offset_in_one_transaction_have_each_effect_once_whatever_is_cut_and_with_two_readers_of_one_name(
    database: Database,
) {
    let (vhost, database) = (place(), Arc::new(database));
    database.execute("create table effects (n text)").await;
    published(&vhost, (0..MESSAGES).map(|n| n.to_string())).await;
    let (one, other) = (reading(&vhost, &database).await, reading(&vhost, &database).await);
    for part in 1..4 {
        until("some are done", async || {
            database.number("select count(*) from effects").await >= (part * MESSAGES / 5) as i64
        })
        .await;
        vhost.close_connections("a test cuts the connections").unwrap();
    }
    until("all are done", async || kept(&database).await == Some(MESSAGES as u64)).await;
    one.shutdown().await.unwrap();
    other.shutdown().await.unwrap();
    assert_eq!(database.number("select count(*) from effects").await, MESSAGES as i64);
    assert_eq!(database.number("select count(distinct n) from effects").await, MESSAGES as i64);
}

async fn an_offset_whose_transaction_is_rolled_back_is_not_kept(database: Database) {
    let (vhost, database) = (place(), Arc::new(database));
    database.execute("create table effects (n text)").await;
    published(&vhost, ["a", "fail", "b"].map(str::to_owned)).await;
    let service = reading(&vhost, &database).await;
    until("all are done", async || kept(&database).await == Some(3)).await;
    let dead: u64 = service.consumers().iter().map(|(_, stats)| stats.dead_lettered).sum();
    assert_eq!(dead, 1, "the reader kept the offset itself once the dead letter was placed");
    service.shutdown().await.unwrap();
    assert_eq!(database.number("select count(*) from effects").await, 2);
}

/// Tries to keep the offset of each message of a batch, and tells the errors.
struct Itemwise {
    database: Arc<Database>,
    errors: tokio::sync::mpsc::UnboundedSender<KeepError>,
}

impl Actor for Itemwise {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Itemwise {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (database, errors) = (Arc::clone(&self.database), self.errors.clone());
        Box::pin(async move {
            let position = text.stream_position().ok_or_else(|| Failure::reject("not of a stream"))?;
            let kept = match &*database {
                Database::Postgres { pool, .. } => {
                    postgres::offsets::keep(&mut *pool.acquire().await?, &position).await
                }
                Database::Sqlite { pool, .. } => sqlite::offsets::keep(&mut *pool.acquire().await?, &position).await,
            };
            errors.send(kept.expect_err("it is refused"))?;
            Ok(())
        })
    }
}

async fn a_message_of_a_batch_cannot_keep_the_offset_of_the_whole_batch(database: Database) {
    let (vhost, database) = (place(), Arc::new(database));
    let (errors, mut told) = tokio::sync::mpsc::unbounded_channel();
    let app = app(&vhost);
    let route = Route::queue("events").batch(Batching::default().max_items(2).linger(Duration::from_secs(10)));
    let out = app.publisher::<String>(route);
    let reader = StreamReader::new("totals", Store(Arc::clone(&database)));
    let service = started(app.consume(Consume::queue("events").stream(reader), move || Itemwise {
        database: Arc::clone(&database),
        errors: errors.clone(),
    }))
    .await;
    let receipts = [out.enqueue("a".to_owned()).await.unwrap(), out.enqueue("b".to_owned()).await.unwrap()];
    for _ in receipts {
        let error = soon("an error", told.recv()).await.unwrap();
        assert!(matches!(error, KeepError::OfABatch { offset: 0, .. }), "{error}");
        assert!(error.to_string().contains("consume_batches"), "{error}");
    }
    service.shutdown().await.unwrap();
}
