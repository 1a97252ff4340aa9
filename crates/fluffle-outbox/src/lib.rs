//! The transactional outbox, and de-duplication, in the application's own SQL transaction: PostgreSQL and SQLite, on
//! [sqlx](https://docs.rs/sqlx).
//!
//! A service that changes a database and publishes a message about it does two things that can fail apart. Here it does
//! one: it writes the message into a table, in the transaction of the change. A [`Relay`], an actor of the service, publishes
//! what has been committed, waits for the broker's confirm, and takes it off the table.
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
//!         self.waker.wake();                                    // else within the poll interval, 200 ms
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
//! With SQLite it is `sqlite::` in the place of `postgres::`.
//!
//! # What is promised
//!
//! | | |
//! |---|---|
//! | a transaction that is rolled back | its messages are never published. (A database told not to wait for its disk, `synchronous_commit = off` or SQLite's `synchronous = normal`, may lose a commit with its machine that others have seen, this relay too) |
//! | a transaction that is committed | its messages are published at least once, each under the id it was prepared with |
//! | twice | what the broker has and the table does not say so: the process, its machine or the database ended between confirm and mark; or a confirm did not come within 30 s and the message was published again. Several relays alone cause none: a row is claimed by one of them |
//! | a message the broker refuses for good (no such exchange, no queue took it, not permitted) | tried again after 1, 5, 25 and 125 s, then *parked* with its error ([`Relay::retry`]); the others go on meanwhile |
//! | the broker is away, blocks or nacks | the rows stay; nothing is counted against them |
//! | the database is away | the relay is restarted with backoff; what it knows to be confirmed it marks first |
//!
//! **Order.** With one relay messages reach the broker in the order of their rows' ids: the order of `enqueue` within a
//! transaction, and of transactions that came one after the other. Of transactions that ran at the same time each is in
//! order in itself, and none is before the other. A message that failed is overtaken by those that did not. With several
//! relays each publishes its batches in order, side by side with the others. What a process had claimed when it died
//! comes after its lease, up to a minute late.
//!
//! # The tables
//!
//! [`postgres::SCHEMA`] and [`sqlite::SCHEMA`] have the same columns:
//!
//! | `fluffle_outbox` | |
//! |---|---|
//! | `id` | ascending: the order of publishing |
//! | `message_id`, `message` | the id, and the bytes of [`Prepared::to_bytes`](fluffle_amqp::Prepared::to_bytes) |
//! | `enqueued_at` | when its transaction began (PostgreSQL) or inserted it (SQLite) |
//! | `due_at` | no other relay takes it before: the lease of the one that has it, or the wait after a failure |
//! | `claimed_by` | the relay that has it |
//! | `attempts`, `error` | how often the broker refused it for good, and what it said last |
//! | `parked_at` | set: tried too often; a person has to look |
//! | `published_at` | set: published, and kept for a while ([`Relay::keep_published`]); without that the row is deleted |
//!
//! | `fluffle_seen` | |
//! |---|---|
//! | `consumer`, `message_id` | the primary key |
//! | `seen_at` | what `prune` goes by |
//!
//! SQLite has its times as milliseconds since 1970-01-01 UTC. All times are the database's: clocks of relays do not matter.
//!
//! What waits, and for how long: `select count(*), min(enqueued_at) from fluffle_outbox where parked_at is null and
//! published_at is null`. To try parked messages again: `update fluffle_outbox set parked_at = null, attempts = 0 where
//! parked_at is not null`; to give one up, delete its row.
//!
//! **Claims are leases, not locks.** A relay takes rows by writing its name and a time into them, in a transaction of a
//! moment (`for update skip locked` on PostgreSQL), not by holding them locked until the broker has confirmed. A
//! transaction open for as long as a broker takes would keep VACUUM from every table and, with SQLite, every writer waiting.
//! The price is one more update for each message, and a minute's wait for what a dead process had claimed.
//!
//! **No LISTEN/NOTIFY.** `NOTIFY` takes a lock at commit that puts all commits which notify in a row, database-wide; an
//! outbox would make that every commit of the application. [`Waker::wake`] costs nothing within the process, and between
//! processes polling costs an index lookup each 200 ms.
//!
//! # De-duplication
//!
//! What is published at least once is delivered at least once. A handler whose effects are in a database has them exactly
//! once when it notes the message's id in the same transaction ([`postgres::seen::insert`], [`sqlite::seen::insert`]):
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
//!                 return Ok(());                                // done before: ack
//!             }
//!             sqlx::query("insert into invoices (name) values ($1)").bind(&*order).execute(&mut *tx).await?;
//!             tx.commit().await?;                               // the effect and the id, or neither
//!             Ok(())
//!         })
//!     }
//! }
//! ```
//!
//! - A handler that fails, or crashes, before its commit leaves no trace: the retry does the work.
//! - A second delivery, also one at the same time on another machine, waits for the first one's commit and then has no
//!   effect; or does the work, if that rolls back.
//! - A *deliberate* replay passes: a message from the dead-letter queue, because no handler's transaction was committed for it; one
//!   that was handled, when it is sent with a replay id (the header `x-fluffle-replay`), which [`seen::key`] makes part of
//!   the key.
//! - What still repeats: effects outside of the transaction (mail, HTTP calls, messages published directly: enqueue them in the same
//!   transaction instead); a duplicate that comes after its id was pruned; the same thing sent under two ids.

mod actor;
mod error;
mod outcome;
#[cfg(feature = "postgres")]
pub mod postgres;
mod relay;
mod rows;
pub mod seen;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod table;

pub use error::EnqueueError;
pub use relay::{Relay, Waker};
pub use table::Table;

#[cfg(not(any(feature = "postgres", feature = "sqlite")))]
compile_error!("an outbox needs a database: enable the feature `postgres` or `sqlite`");
