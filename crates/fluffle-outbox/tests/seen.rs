//! De-duplication in the handler's own transaction.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fluffle::{prelude::*, testing::TestBroker};
use fluffle_outbox::{postgres, seen, sqlite};
use support::*;

on_both!(
    an_id_is_seen_once_for_each_consumer_and_only_when_its_transaction_was_committed,
    what_is_older_than_the_window_is_forgotten,
    a_handler_that_fails_after_its_insert_does_the_work_on_its_retry,
    a_duplicate_delivery_has_no_second_effect_and_a_deliberate_replay_has_one,
);

/// A transaction of either database.
enum Tx {
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    Sqlite(sqlx::Transaction<'static, sqlx::Sqlite>),
}

impl Tx {
    async fn begin(database: &Database) -> Self {
        match database {
            Database::Postgres { pool, .. } => Self::Postgres(pool.begin().await.unwrap()),
            Database::Sqlite { pool, .. } => Self::Sqlite(pool.begin_with("begin immediate").await.unwrap()),
        }
    }

    async fn insert(&mut self, consumer: &str, id: &str) -> Result<bool, sqlx::Error> {
        match self {
            Self::Postgres(tx) => postgres::seen::insert(tx, consumer, id).await,
            Self::Sqlite(tx) => sqlite::seen::insert(tx, consumer, id).await,
        }
    }

    async fn effect(&mut self) {
        const EFFECT: &str = "insert into effects values (1)";
        match self {
            Self::Postgres(tx) => sqlx::query(EFFECT).execute(&mut **tx).await.map(drop).unwrap(),
            Self::Sqlite(tx) => sqlx::query(EFFECT).execute(&mut **tx).await.map(drop).unwrap(),
        }
    }

    async fn commit(self) {
        match self {
            Self::Postgres(tx) => tx.commit().await.unwrap(),
            Self::Sqlite(tx) => tx.commit().await.unwrap(),
        }
    }

    async fn roll_back(self) {
        match self {
            Self::Postgres(tx) => tx.rollback().await.unwrap(),
            Self::Sqlite(tx) => tx.rollback().await.unwrap(),
        }
    }
}

/// Inserts and commits.
async fn seen_first(database: &Database, consumer: &str, id: &str) -> bool {
    let mut tx = Tx::begin(database).await;
    let first = tx.insert(consumer, id).await.unwrap();
    tx.commit().await;
    first
}

async fn an_id_is_seen_once_for_each_consumer_and_only_when_its_transaction_was_committed(database: Database) {
    let mut tx = Tx::begin(&database).await;
    assert!(tx.insert("invoices", "a").await.unwrap());
    assert!(!tx.insert("invoices", "a").await.unwrap(), "within the transaction too");
    tx.roll_back().await;
    assert!(seen_first(&database, "invoices", "a").await, "rolled back, it was not seen");
    assert!(!seen_first(&database, "invoices", "a").await);
    assert!(seen_first(&database, "mails", "a").await);
    assert!(seen_first(&database, "invoices", "b").await);
}

async fn what_is_older_than_the_window_is_forgotten(database: Database) {
    seen_first(&database, "invoices", "old").await;
    database
        .execute(match database {
            Database::Postgres { .. } => "update fluffle_seen set seen_at = now() - interval '2 hours'",
            Database::Sqlite { .. } => "update fluffle_seen set seen_at = seen_at - 7200000",
        })
        .await;
    seen_first(&database, "invoices", "new").await;
    let hour = Duration::from_secs(3600);
    let forgotten = match &database {
        Database::Postgres { pool, .. } => postgres::seen::prune(pool, hour).await.unwrap(),
        Database::Sqlite { pool, .. } => sqlite::seen::prune(pool, hour).await.unwrap(),
    };
    assert_eq!(forgotten, 1);
    assert!(seen_first(&database, "invoices", "old").await);
    assert!(!seen_first(&database, "invoices", "new").await);
}

/// Simulates two deliveries of one message at the same time, on two machines.
#[actix::test]
async fn the_second_of_two_at_once_waits_for_the_first_and_then_knows() {
    let database = Database::postgres().await;
    for (commit, id) in [(true, "committed"), (false, "rolled back")] {
        let mut one = Tx::begin(&database).await;
        assert!(one.insert("invoices", id).await.unwrap());
        let mut other = Tx::begin(&database).await;
        let second = actix::spawn(async move {
            let first = other.insert("invoices", id).await.unwrap();
            other.commit().await;
            first
        });
        let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'";
        until("the second to wait", async || database.number(waits).await == 1).await;
        if commit {
            one.commit().await
        } else {
            one.roll_back().await
        }
        assert_eq!(soon("an answer", second).await.unwrap(), !commit);
    }
}

/// Makes one effect for each message that it has not seen. Fails as often as it is told, after its insert.
struct Invoices {
    database: Arc<Database>,
    failures: Arc<AtomicUsize>,
}

impl Actor for Invoices {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Invoices {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, order: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (database, failures) = (Arc::clone(&self.database), Arc::clone(&self.failures));
        Box::pin(async move {
            let id = seen::key(&order).ok_or_else(|| Failure::reject("it has no message id"))?;
            let mut tx = Tx::begin(&database).await;
            if !tx.insert("invoices", &id).await? {
                return Ok(());
            }
            tx.effect().await;
            let fail = failures.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok();
            if fail {
                return Err(Failure::retry("not this time"));
            }
            tx.commit().await;
            Ok(())
        })
    }
}

async fn invoicing(database: Database, failures: usize) -> (TestBroker, Service, Publisher<String>, Arc<Database>) {
    database.execute("create table effects (n integer)").await;
    let broker = TestBroker::start().unwrap();
    let topology = Topology::new().queue(Queue::quorum("orders").dead_letter());
    let app = App::new(broker.client().unwrap()).topology(topology);
    let orders = app.publisher(Route::queue("orders"));
    let (database, failures) = (Arc::new(database), Arc::new(AtomicUsize::new(failures)));
    let retry = Retry::exponential(5, Duration::from_millis(20), 1.0).unwrap();
    let handlers = {
        let database = Arc::clone(&database);
        move || Invoices { database: Arc::clone(&database), failures: Arc::clone(&failures) }
    };
    let service = started(app.consume(Consume::queue("orders").retry(retry), handlers)).await;
    (broker, service, orders, database)
}

async fn a_handler_that_fails_after_its_insert_does_the_work_on_its_retry(database: Database) {
    let (broker, service, orders, database) = invoicing(database, 2).await;
    orders.publish("seven".to_owned()).await.unwrap();
    broker.settled(&service).await.unwrap();
    assert_eq!(service.consumers()[0].1.retried, 2);
    assert_eq!(database.number("select count(*) from effects").await, 1);
    assert!(broker.messages("orders.dead").unwrap().is_empty());
    service.shutdown().await.unwrap();
}

async fn a_duplicate_delivery_has_no_second_effect_and_a_deliberate_replay_has_one(database: Database) {
    let (broker, service, orders, database) = invoicing(database, 0).await;
    let id = || MessageOptions::new().id("order-7");
    for (options, effects) in [
        (id(), 1),
        (id(), 1),
        (id().header("x-fluffle-replay", "monday"), 2),
        (id().header("x-fluffle-replay", "monday"), 2),
        (MessageOptions::new().id("order-8"), 3),
    ] {
        orders.publish_with("seven".to_owned(), options).await.unwrap();
        broker.settled(&service).await.unwrap();
        assert_eq!(database.number("select count(*) from effects").await, effects);
    }
    assert_eq!(service.consumers()[0].1.handled, 5, "each was acked");
    service.shutdown().await.unwrap();
}
