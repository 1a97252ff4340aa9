//! OTP-style supervision for actix actors.

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
