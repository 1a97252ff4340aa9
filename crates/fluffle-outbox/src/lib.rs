//! A transactional outbox and de-duplication, both in the application's own SQL transaction: PostgreSQL and SQLite, on
//! [sqlx](https://docs.rs/sqlx).
//!
//! A service that changes a database and publishes a message about the change does two things, and each can fail alone.
//! With an outbox it does one: it writes the message into a table, in the transaction of the change. A [`Relay`], an
//! actor of the service, publishes the committed messages, waits for the broker's confirm, and removes them from the
//! table.
//!
//! ```no_run
//! use fluffle::prelude::*;
//! use fluffle_outbox::{Relay, postgres};
//! use sqlx::PgPool;
//!
//! # #[derive(Clone)] struct Shop { pool: PgPool, placed: std::sync::Arc<Route<String>>, waker: fluffle_outbox::Waker }
//! impl Shop {
//!     async fn place(&self, order: String) -> Result<(), Box<dyn std::error::Error>> {
//!         let message = self.placed.prepare(&order, &MessageOptions::new())?;
//!         let mut tx = self.pool.begin().await?;
//!         sqlx::query("insert into orders (name) values ($1)").bind(&order).execute(&mut *tx).await?;
//!         postgres::enqueue(&mut tx, &message).await?;
//!         tx.commit().await?;                                   // both, or neither
//!         self.waker.wake();                                    // otherwise within the poll interval, 200 ms
//!         Ok(())
//!     }
//! }
//!
//! # async fn run(pool: PgPool) -> Result<(), Box<dyn std::error::Error>> {
//! postgres::migrate(&pool).await?;                              // or postgres::SCHEMA in your own migrations
//! let app = App::new(Broker::from_env()?);
//! let relay = Relay::new(pool.clone(), app.forwarder("outbox"));
//! let shop = Shop { pool, placed: Route::exchange("orders").into(), waker: relay.waker() };
//! app.supervise(relay).run_until_signal().await?;
//! # Ok(())
//! # }
//! ```
//!
//! With SQLite, use `sqlite::` instead of `postgres::`.
//!
//! # Guarantees
//!
//! - **A transaction is rolled back:** its messages are never published. (Exception: a database that does not wait for
//!   its disk, `synchronous_commit = off` or SQLite's `synchronous = normal`, may lose a commit in a crash of its
//!   machine after others, including the relay, have seen it.)
//! - **A transaction is committed:** its messages are published at least once, each under the id with which it was
//!   prepared.
//! - **A message is published twice** if the broker has it but the table does not say so: the process, its machine or
//!   the database ended between publish and mark, or a confirm did not come within 30 s (8 s at shutdown) and the
//!   message was published again. Using several relays causes no duplicates while the database answers within seconds,
//!   because each row is claimed by one of them.
//! - **The broker refuses a message for good** (no such exchange, no queue took it, not permitted): it is tried again
//!   after 1, 5, 25 and 125 s, then *parked* with its error ([`Relay::retry`]). The other messages are published
//!   meanwhile.
//! - **The broker is away, blocks or nacks:** the rows stay, and nothing is counted against them.
//! - **The database is away:** the relay is restarted with backoff. It first marks the rows that it knows to be
//!   confirmed.
//!
//! **Order.** With one relay, messages reach the broker in the order of their rows' ids. This is the order of `enqueue`
//! within a transaction, and of transactions that ran one after the other. If transactions ran at the same time, the
//! messages of each are in order, but there is no order between the transactions. A message that failed is overtaken by
//! those that did not. While the broker is away, nothing is claimed beside what is under way, so the order stays. With
//! several relays, each publishes its own batches in order, concurrently with the others. If a process dies, the rows
//! that it had claimed are published after their lease, up to a minute late.
//!
//! # The tables
//!
//! [`postgres::SCHEMA`] and [`sqlite::SCHEMA`] have the same columns:
//!
//! | `fluffle_outbox` | |
//! |---|---|
//! | `id` | increasing: the order of publishing |
//! | `message_id`, `message` | the id, and the bytes of [`Prepared::to_bytes`](fluffle_amqp::Prepared::to_bytes) |
//! | `enqueued_at` | when the transaction began (PostgreSQL) or inserted the row (SQLite) |
//! | `due_at` | no other relay takes the row before: the end of the lease, or of the wait after a failure |
//! | `claimed_by` | the relay that has claimed the row |
//! | `attempts`, `error` | how often the broker refused the message for good, and its last error |
//! | `parked_at` | if set, the message was refused too often, and a person must decide |
//! | `published_at` | if set, published and kept for a while ([`Relay::keep_published`]); by default deleted |
//!
//! | `fluffle_seen` | |
//! |---|---|
//! | `consumer`, `message_id` | the primary key |
//! | `seen_at` | when the message was handled; `prune` uses it |
//!
//! | `fluffle_offsets` | |
//! |---|---|
//! | `stream`, `reader` | the primary key |
//! | `next` | the first offset that the reader is not done with |
//! | `kept_at` | when that was kept last |
//!
//! In SQLite, times are milliseconds since 1970-01-01 UTC. All times come from the database's clock, so the clocks of
//! the relays do not matter.
//!
//! To see how many messages wait, and for how long:
//! `select count(*), min(enqueued_at) from fluffle_outbox where parked_at is null and published_at is null`. To try
//! parked messages again: `update fluffle_outbox set parked_at = null, attempts = 0 where parked_at is not null`. To
//! give a message up, delete its row.
//!
//! **Claims are leases, not locks.** A relay claims rows by writing its name and a time into them in a short
//! transaction (`for update skip locked` on PostgreSQL). It does not hold them locked until the broker has confirmed,
//! because such a long transaction would keep VACUUM from cleaning every table and, with SQLite, would make every
//! writer wait. The cost is one more update for each message, and a minute's wait for rows that a dead process had
//! claimed.
//!
//! **No LISTEN/NOTIFY.** `NOTIFY` takes a database-wide lock at commit, so all commits that notify run one after the
//! other. With an outbox, this would apply to every commit of the application. [`Waker::wake`] costs nothing within the
//! process, and between processes polling costs one index lookup each 200 ms.
//!
//! # De-duplication
//!
//! A message that is published at least once is delivered at least once. If the effects of a handler are in a database,
//! it can have them exactly once: it records the message's id in the same transaction ([`postgres::seen::insert`],
//! [`sqlite::seen::insert`]).
//!
//! ```no_run
//! use fluffle::prelude::*;
//! use fluffle_outbox::{postgres, seen};
//! use sqlx::PgPool;
//!
//! struct Invoices { pool: PgPool }
//!
//! impl Actor for Invoices { type Context = Context<Self>; }
//!
//! impl Handler<Delivery<String>> for Invoices {
//!     type Result = ResponseFuture<Result<(), Failure>>;
//!
//!     fn handle(&mut self, order: Delivery<String>, _: &mut Self::Context) -> Self::Result {
//!         let pool = self.pool.clone();
//!         Box::pin(async move {
//!             let id = seen::key(&order).ok_or_else(|| Failure::reject("it has no message id"))?;
//!             let mut tx = pool.begin().await?;
//!             if !postgres::seen::insert(&mut tx, "invoices", &id).await? {
//!                 return Ok(());                                // already done: ack
//!             }
//!             sqlx::query("insert into invoices (name) values ($1)").bind(&*order).execute(&mut *tx).await?;
//!             tx.commit().await?;                               // the effect and the id, or neither
//!             Ok(())
//!         })
//!     }
//! }
//! ```
//!
//! - If a handler fails or crashes before its commit, nothing is recorded: the retry does the work.
//! - A second delivery, even one at the same time on another machine, waits for the first one's transaction. If that
//!   commits, the second has no effect; if it rolls back, the second does the work.
//! - A *deliberate* replay is handled: a message from the dead-letter queue, because no handler's transaction was
//!   committed for it; and a message that was handled before, if it is sent with a replay id (the header
//!   `x-fluffle-replay`), which [`seen::key`] adds to the key.
//! - These can still happen twice: effects outside of the transaction (mail, HTTP calls, messages published directly:
//!   enqueue them in the same transaction instead); a duplicate that arrives after its id was pruned; the same thing
//!   sent under two ids.
//!
//! # Streams
//!
//! A reader of a stream ([`StreamReader`](fluffle_amqp::StreamReader)) can keep its offset in the application's
//! database: [`postgres::offsets::PostgresOffsets`], [`sqlite::offsets::SqliteOffsets`]. If the effects of its handler
//! are there too, it can have them exactly once: the handler keeps the offset in the transaction of its work
//! ([`postgres::offsets::keep`], [`sqlite::offsets::keep`]).
//!
//! ```no_run
//! use fluffle::prelude::*;
//! use fluffle_outbox::postgres::offsets::{self, PostgresOffsets};
//! use sqlx::PgPool;
//!
//! struct Totals { pool: PgPool }
//!
//! impl Actor for Totals { type Context = Context<Self>; }
//!
//! impl Handler<Delivery<String>> for Totals {
//!     type Result = ResponseFuture<Result<(), Failure>>;
//!
//!     fn handle(&mut self, order: Delivery<String>, _: &mut Self::Context) -> Self::Result {
//!         let pool = self.pool.clone();
//!         Box::pin(async move {
//!             let mut tx = pool.begin().await?;
//!             if let Some(position) = order.stream_position()
//!                 && !offsets::keep(&mut tx, &position).await?
//!             {
//!                 return Ok(());                                // already done
//!             }
//!             sqlx::query("update totals set orders = orders + 1").execute(&mut *tx).await?;
//!             tx.commit().await?;                               // the effect and the offset, or neither
//!             Ok(())
//!         })
//!     }
//! }
//!
//! # async fn run(app: App, pool: PgPool) -> Result<(), fluffle::Error> {
//! let reader = StreamReader::new("totals", PostgresOffsets::new(pool.clone()));
//! let consume = Consume::queue("orders").stream(reader).concurrency(1);
//! app.consume(consume, move || Totals { pool: pool.clone() }).run_until_signal().await
//! # }
//! ```
//!
//! This also holds if two processes read under one name: the second finds the offset kept. A message that failed is
//! retried through a queue, where it has no position (`None` above). To have its effects once as well, record its id
//! with [`postgres::seen::insert`] as under [De-duplication](#de-duplication).

#![cfg_attr(docsrs, feature(doc_cfg))]

mod actor;
mod error;
mod offsets;
mod outcome;
#[cfg(feature = "postgres")]
pub mod postgres;
mod relay;
mod rows;
pub mod seen;
mod shared;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod table;
mod under_way;

pub use error::{EnqueueError, KeepError};
pub use relay::{Relay, Waker};
pub use table::Table;

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("an outbox needs a database: enable the feature `postgres` or `sqlite`");
