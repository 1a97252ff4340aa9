//! OTP-style supervision for [actix](https://docs.rs/actix) actors: every actor in a tree has a supervisor that notices
//! how the actor ended and decides whether it is started again, and a mailbox that outlives the actor's crashes. This
//! crate knows nothing of what the actors do and works in any actix 0.13 program.
//!
//! ```text
//! app                     one-for-one, 3 restarts in 5 s; gives up -> the program ends with the whole chain of causes
//! ├─ consume              rest-for-one: a worker cannot work without its socket
//! │  ├─ socket            reports itself when it is ready; until then the workers wait
//! │  ├─ worker-1          on a thread of its own
//! │  └─ worker-2          on a thread of its own
//! └─ status               transient: once finished, it is not restarted
//! ```
//!
//! actix's own `Supervisor` restarts the same value, notices no panic, and has neither a restart limit nor a delay. In
//! this crate, a factory builds the child anew for each *incarnation*, on the child's arbiter; panics in any hook are
//! caught; and OTP's rules decide what happens next: [`Restart`], [`Strategy`], [`Intensity`], and a [`Backoff`] with
//! full jitter.
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
//! | the actor called `ctx.stop()` or `ctx.terminate()` | [`Finished`](ExitReason::Finished) | yes |
//! | the actor's supervisor, or a handle, asked it to stop | [`Stopped`](ExitReason::Stopped) | yes |
//! | the actor called [`ctx.fail(error)`](SupervisedContext::fail) | [`Failed`], transient or [permanent] | no |
//! | a panic in the factory, a hook, a handler, a future or the drop | [`Panicked`], with text and [`Phase`] | no |
//! | the actor's arbiter died | [`ArbiterDied`](ExitReason::ArbiterDied) | no |
//! | the actor did not stop by its deadline | [`Killed`](ExitReason::Killed) | no |
//! | a supervisor gave up on a child | [`Escalated`](ExitReason::Escalated), with the chain of causes | no |
//!
//! [`Failed`]: ExitReason::Failed
//! [permanent]: ExitError::permanent
//! [`Panicked`]: ExitReason::Panicked
//!
//! # What its supervisor does then
//!
//! 1. [`Restart`] decides whether the child is started again. If not, the child is *over*: its mailbox closes, for
//!    good.
//! 2. If the child failed with a permanent error, it is not restarted: the supervisor stops its other children and
//!    ends, and so does each supervisor above it, up to the root. (A temporary child just ends.)
//! 3. If the [`Intensity`] has no restart left, or if the child's arbiter died and the child has [no
//!    other](ActorSpec::on_each), the supervisor stops its other children and ends. The supervisor above treats that as
//!    any failure of a child: it may restart the failed supervisor with all its children, with its own backoff and its
//!    own budget.
//! 4. [`Strategy`] decides which siblings are stopped with the child: in reverse start order, each with its own
//!    deadline.
//! 5. The child waits for the delay of its [`Backoff`]. Then the child and those siblings start in order, each when the
//!    one before it is ready.
//!
//! | | [one-for-one](Strategy::OneForOne) | [rest-for-one](Strategy::RestForOne) | [one-for-all](Strategy::OneForAll) |
//! |---|---|---|---|
//! | siblings stopped and started with the child | none | those after it | all |
//! | temporary siblings among them | | are over | are over |
//! | transient siblings that are already over | | stay over | stay over |
//! | a child added later starts | at once | when those before it are ready | when those before it are ready |
//!
//! # What becomes of messages
//!
//! The mailbox behind a [`SupervisedAddr`] is outside the actor, so it outlives each incarnation.
//!
//! | the message | when the child crashes | when the child is over | when the sender's limit is over |
//! |---|---|---|---|
//! | waits for room, or in the mailbox | keeps waiting, in order | comes back: [`Closed`] | comes back: [`TimedOut`] |
//! | was taken by the actor | [`Crashed`] | [`Crashed`] | [`TimedOutInHand`] |
//!
//! [`Closed`]: SendError::Closed
//! [`TimedOut`]: SendError::TimedOut
//! [`Crashed`]: SendError::Crashed
//! [`TimedOutInHand`]: SendError::TimedOutInHand
//!
//! A message to a bare actix address (`ctx.address()`) goes to that incarnation alone and is lost when the incarnation
//! ends.
//!
//! # Stopping
//!
//! When a child is asked to stop, actix calls `stopping`, as after `ctx.stop()`. `stopping` may answer
//! `Running::Continue`; the child then finishes its work (messages are still delivered) and calls `ctx.stop()` later.
//! Past its [deadline](ActorSpec::shutdown) the child is [`Killed`](ExitReason::Killed): its task is aborted, and its
//! supervisor goes on without it even if the child's thread is blocked. The actor's value is dropped when the thread is
//! free again. Until then an old and a new incarnation may exist side by side, but only the new one receives messages.
//!
//! # Requirements
//!
//! - `panic = "unwind"` (Cargo's default). With `"abort"` no panic can be caught.
//! - An actix system on the threads where supervisors and children live. Timers are tokio's, so tests can pause them.
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
