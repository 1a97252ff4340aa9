//! OTP-style supervision for [actix](https://docs.rs/actix) actors: a tree in which every actor has somebody who
//! notices how it ended and decides whether it lives again, and a mailbox that outlives its crashes. Knows nothing of
//! what the actors do; usable in any actix 0.13 program.
//!
//! ```text
//! app                     one-for-one, 3 restarts in 5 s; gives up -> the program ends with the whole chain of causes
//! ├─ consume              rest-for-one: without its socket a worker is worth nothing
//! │  ├─ socket            says itself when it is ready; until then the workers wait
//! │  ├─ worker-1          on a thread of its own
//! │  └─ worker-2          on a thread of its own
//! └─ status               transient: once finished it is left alone
//! ```
//!
//! actix's own `Supervisor` restarts the same value, notices no panic, and knows neither limit nor delay. Here a child
//! is built by a factory for each *incarnation*, on the arbiter it was given; panics in any hook are caught; and what
//! happens next is OTP's: [`Restart`], [`Strategy`], [`Intensity`], and a [`Backoff`] with full jitter.
//!
//! # Example
//!
//! ```
//! use actix::prelude::*;
//! use fluffle_supervise::{ActorSpec, Backoff, SendErrorKind, SupervisorSpec};
//! use std::time::Duration;
//!
//! #[derive(Default)]
//! struct Divider;
//!
//! impl Actor for Divider {
//!     type Context = Context<Self>;
//! }
//!
//! #[derive(Message)]
//! #[rtype(u32)]
//! struct Divide(u32, u32);
//!
//! impl Handler<Divide> for Divider {
//!     type Result = u32;
//!
//!     fn handle(&mut self, Divide(a, b): Divide, _: &mut Self::Context) -> u32 {
//!         a / b // panics on zero
//!     }
//! }
//!
//! #[actix::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let divider = ActorSpec::new("divider", Divider::default)
//!         .backoff(Backoff::exponential(Duration::from_millis(10), Duration::from_secs(1))?);
//!     let addr = divider.addr(); // stable across restarts
//!     let app = SupervisorSpec::new("app").child(divider).start();
//!
//!     let crash = addr.send(Divide(1, 0));
//!     let waits = addr.send(Divide(6, 3));
//!     assert_eq!(crash.await.unwrap_err().kind(), SendErrorKind::Crashed);
//!     assert_eq!(waits.await?, 2); // by the next incarnation
//!
//!     println!("{}", app.snapshot());
//!     assert_eq!(app.snapshot().children[0].restarts, 1);
//!     app.shutdown().await;
//!     Ok(())
//! }
//! ```
//!
//! # How an incarnation ends
//!
//! | what happened | [`ExitReason`] | [normal](ExitReason::is_normal) |
//! |---|---|---|
//! | `ctx.stop()`, `ctx.terminate()` | [`Finished`](ExitReason::Finished) | yes |
//! | its supervisor, or a handle, asked it to stop | [`Stopped`](ExitReason::Stopped) | yes |
//! | [`ctx.fail(error)`](SupervisedContext::fail) | [`Failed`](ExitReason::Failed), transient or [permanent](ExitError::permanent) | no |
//! | a panic in its factory, a hook, a handler, a future or its drop | [`Panicked`](ExitReason::Panicked), with text and [`Phase`] | no |
//! | its arbiter died | [`ArbiterDied`](ExitReason::ArbiterDied) | no |
//! | it did not stop by its deadline | [`Killed`](ExitReason::Killed) | no |
//! | a supervisor gave up on a child | [`Escalated`](ExitReason::Escalated), with the chain of causes | no |
//!
//! # What its supervisor does then
//!
//! 1. [`Restart`] says whether the child lives again. If not, it is *over*: its mailbox closes, for good.
//! 2. A permanent error is not restarted: the supervisor stops its other children and ends, and so does each one above
//!    it, up to the root. (A temporary child just ends.)
//! 3. If the [`Intensity`] has no restart left, or the child's arbiter died and it has
//!    [no other](ActorSpec::on_each), the supervisor stops its other children and ends. The one above treats that as any
//!    failure of a child: it may restart the whole part, with its own backoff and its own budget.
//! 4. [`Strategy`] names the siblings that go down with the child: in reverse start order, each with its own deadline.
//! 5. The child waits out its [`Backoff`]. Then it and those siblings start in order, each when the one before it is
//!    ready.
//!
//! | | [one-for-one](Strategy::OneForOne) | [rest-for-one](Strategy::RestForOne) | [one-for-all](Strategy::OneForAll) |
//! |---|---|---|---|
//! | siblings stopped and started with it | none | those after it | all |
//! | temporary ones among them | | are over | are over |
//! | transient ones that are over | | stay over | stay over |
//! | a child added to the running supervisor | starts at once | when those before it are ready | when those before it are ready |
//!
//! # What becomes of messages
//!
//! The mailbox of a [`SupervisedAddr`] is outside the actor.
//!
//! | the message | when the child crashes | when it is over | when the sender gives up waiting |
//! |---|---|---|---|
//! | waits for room, or in the mailbox | waits on, in order | comes back: [`Closed`](SendError::Closed) | comes back: [`TimedOut`](SendError::TimedOut) |
//! | is in the actor's hands | [`Crashed`](SendError::Crashed) | [`Crashed`](SendError::Crashed) | [`TimedOutInHand`](SendError::TimedOutInHand) |
//!
//! Messages to a bare actix address (`ctx.address()`) go to that incarnation alone and end with it.
//!
//! # Stopping
//!
//! A child that is asked to stop sees what `ctx.stop()` shows it: `stopping`, which may answer `Running::Continue`,
//! finish what there is to finish (messages are still delivered), and call `ctx.stop()` later. Past its
//! [deadline](ActorSpec::shutdown) it is [`Killed`](ExitReason::Killed): its task is aborted, and its supervisor goes
//! on without it even if its thread is blocked; its value is dropped when the thread comes back. Until then an old and
//! a new incarnation may exist side by side, but only the new one receives messages.
//!
//! # Needs
//!
//! - `panic = "unwind"` (Cargo's default): with `"abort"` there is nothing to catch.
//! - An actix system on the threads where supervisors and children live. Timers are tokio's, and so can be paused in
//!   tests.
//! - Actors with `type Context = actix::Context<Self>`.

mod addr;
mod backoff;
mod context;
mod control;
mod current;
mod envelope;
mod escalation;
mod event;
mod exit;
mod incarnation;
mod intensity;
mod mailbox;
mod node;
mod policy;
mod pump;
mod request;
mod send_error;
mod snapshot;
mod spec;
mod supervisor;

pub use crate::{
    addr::SupervisedAddr,
    backoff::Backoff,
    context::SupervisedContext,
    escalation::{Escalation, GivingUp},
    event::{Event, EventStream, Missed, What},
    exit::{ExitError, ExitReason, Panicked, Phase},
    intensity::Intensity,
    mailbox::MailboxDepth,
    policy::{PolicyError, Restart, Strategy},
    request::{Posting, Request},
    send_error::{SendError, SendErrorKind},
    snapshot::{NodeKind, NodeSnapshot, State},
    spec::{ActorSpec, ChildSpec},
    supervisor::{StartChildError, StopChildError, SupervisorHandle, SupervisorSpec},
};
