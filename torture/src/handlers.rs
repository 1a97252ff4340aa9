//! The handlers, and what they report.

use std::{process, thread};

use fluffle::{amqp::SeenError, prelude::*, wire::headers};
use futures_util::future::{BoxFuture, FutureExt, ready};

use crate::{
    fact::{Fact, Facts},
    id::{BodyType, Id, Lane, NoId},
    script::{Act, BLOCKED, Script},
};

/// The types of the lane with two types: texts, and the same as bytes.
pub type Types = (String, Vec<u8>);

/// Handles each message as the script says, and reports it.
pub(crate) struct Scripted {
    pub(crate) script: Script,
    pub(crate) facts: Facts,
}

/// The same with whole batches. A failure concerns one message, a panic the whole batch.
pub(crate) struct AtOnce {
    pub(crate) script: Script,
    pub(crate) facts: Facts,
}

/// Returns the id of our message with this name and body. In a batch, the framework chose the name.
fn identify(name: &str, body: &str) -> Result<Id, NoId> {
    name.parse().or_else(|_| body.split(' ').next().unwrap_or_default().parse())
}

/// Reports if this handler, or reader of dead letters, is that of another type than the message was published in.
fn check_type(facts: &Facts, id: &Id, handled: BodyType) {
    if id.body_type() != handled {
        facts.tell(&Fact::Mistyped(id.clone()));
    }
}

/// Reports that a handler received a message.
fn begin(script: Script, facts: &Facts, name: &str, body: &str, attempt: u32) -> Result<(Id, Act), NoId> {
    let id = identify(name, body)?;
    if name != id.to_string() {
        facts.tell(&Fact::Named(id.clone(), name.to_owned()));
    }
    facts.tell(&Fact::Begin(id.clone(), attempt));
    if body != script.body(&id) {
        facts.tell(&Fact::Garbled(id.clone()));
    }
    let act = script.act(&id, attempt);
    Ok((id, act))
}

/// Reports when the framework has acked these messages for good.
async fn acked(settled: impl Future<Output = Settled>, ids: Vec<Id>, attempt: u32, facts: Facts) {
    if settled.await == Settled::Acked {
        ids.into_iter().for_each(|id| facts.tell(&Fact::Acked(id, attempt)));
    }
}

/// The text of scripted panics, so that they can be hidden from the output.
pub const PANIC: &str = "scripted panic";

impl Actor for Scripted {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Scripted {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, body: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let text = body.clone();
        self.play(body, &text, BodyType::Text)
    }
}

impl Handler<Delivery<Vec<u8>>> for Scripted {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, body: Delivery<Vec<u8>>, _: &mut Self::Context) -> Self::Result {
        let text = String::from_utf8_lossy(&body).into_owned();
        self.play(body, &text, BodyType::Bytes)
    }
}

#[allow(clippy::panic, reason = "handlers that panic are what is tortured with")]
impl Scripted {
    fn play<T: 'static>(
        &self,
        body: Delivery<T>,
        text: &str,
        handled: BodyType,
    ) -> ResponseFuture<Result<(), Failure>> {
        let (script, facts) = (self.script, self.facts.clone());
        let attempt = body.attempt();
        let (id, act) = match begin(script, &facts, body.message_id().unwrap_or_default(), text, attempt) {
            Ok(begun) => begun,
            Err(error) => return Box::pin(async { Err(Failure::reject(error)) }),
        };
        check_type(&facts, &id, handled);
        match act {
            Act::Panic => panic!("{PANIC}"),
            Act::Abort => process::abort(),
            Act::Block => thread::sleep(BLOCKED),
            _ => {}
        }
        Box::pin(async move {
            match act {
                Act::Ack | Act::Block => {}
                Act::Slow(time) => tokio::time::sleep(time).await,
                Act::Retry => return Err(Failure::retry("scripted failure")),
                Act::Reject => return Err(Failure::reject("scripted rejection")),
                Act::Panic | Act::PanicLater => panic!("{PANIC}"),
                Act::Abort => process::abort(),
                Act::Hang => std::future::pending().await,
            }
            facts.tell(&Fact::Done(id.clone(), attempt));
            // With at-most-once, the message was acked before, and there is nothing more to report.
            if id.lane != Lane::Most {
                actix::spawn(acked(body.settled(), vec![id], attempt, facts));
            }
            Ok(())
        })
    }
}

impl Actor for AtOnce {
    type Context = Context<Self>;
}

#[allow(clippy::panic, reason = "handlers that panic are what is tortured with")]
impl Handler<DeliveryBatch<String>> for AtOnce {
    type Result = ResponseFuture<Result<ItemFailures, Failure>>;

    fn handle(&mut self, batch: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        let facts = self.facts.clone();
        let attempt = batch.attempt();
        let begun = batch.iter().enumerate().map(|(index, body)| {
            let name = batch.id(index).unwrap_or_default();
            begin(self.script, &facts, &name, &body.map_err(Failure::reject)?, attempt).map_err(Failure::reject)
        });
        let begun: Vec<(Id, Act)> = match begun.collect() {
            Ok(begun) => begun,
            Err(unreadable) => return Box::pin(async { Err(unreadable) }),
        };
        let whole = begun.iter().find(|(_, act)| matches!(act, Act::Panic | Act::PanicLater)).cloned();
        if whole.is_some() {
            begun.iter().for_each(|(id, _)| facts.tell(&Fact::Along(id.clone(), attempt)));
        }
        if let Some((_, Act::Panic)) = whole {
            panic!("{PANIC}");
        }
        if begun.iter().any(|(_, act)| *act == Act::Block) {
            thread::sleep(BLOCKED);
        }
        Box::pin(async move {
            match whole {
                Some((id, _)) if id.number.is_multiple_of(2) => panic!("{PANIC}"),
                Some(_) => return Err(Failure::retry("scripted failure of a whole batch")),
                None => {}
            }
            let (mut failures, mut done) = (ItemFailures::none(), Vec::new());
            for (index, (id, act)) in begun.into_iter().enumerate() {
                match act {
                    Act::Retry => failures.add(index, Failure::retry("scripted failure")),
                    Act::Reject => failures.add(index, Failure::reject("scripted rejection")),
                    act => {
                        if let Act::Slow(time) = act {
                            tokio::time::sleep(time).await;
                        }
                        facts.tell(&Fact::Done(id.clone(), attempt));
                        done.push(id);
                    }
                }
            }
            actix::spawn(acked(batch.settled(), done, attempt, facts));
            Ok(failures)
        })
    }
}

/// Reports dead letters.
pub(crate) struct Undertaker {
    pub(crate) facts: Facts,
}

impl Actor for Undertaker {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Undertaker {
    type Result = Result<(), Failure>;

    fn handle(&mut self, letter: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.bury(&letter, &letter, BodyType::Text)
    }
}

impl Handler<Delivery<Vec<u8>>> for Undertaker {
    type Result = Result<(), Failure>;

    fn handle(&mut self, letter: Delivery<Vec<u8>>, _: &mut Self::Context) -> Self::Result {
        self.bury(&letter, &String::from_utf8_lossy(&letter), BodyType::Bytes)
    }
}

impl Undertaker {
    fn bury<T>(&self, letter: &Delivery<T>, text: &str, handled: BodyType) -> Result<(), Failure> {
        let name = letter.message_id().unwrap_or_default();
        let id = identify(name, text).map_err(Failure::reject)?;
        check_type(&self.facts, &id, handled);
        if name != id.to_string() {
            self.facts.tell(&Fact::Named(id.clone(), name.to_owned()));
        }
        let why = letter.header(headers::REASON).unwrap_or_default().to_owned();
        if let Some(times) = letter.header(headers::ERROR).and_then(delivered) {
            self.facts.tell(&Fact::Delivered(id.clone(), times));
        }
        // `attempt` would be the number of the next attempt.
        let attempts = letter.header_integer(headers::ATTEMPT).and_then(|attempts| attempts.try_into().ok());
        self.facts.tell(&Fact::Dead(id, attempts.unwrap_or_default(), why));
        Ok(())
    }
}

/// How often the message was delivered, if its dead letter has the reason `delivery-limit`.
fn delivered(error: &str) -> Option<u32> {
    error.strip_prefix("delivered ")?.split(' ').next()?.parse().ok()
}

/// A store in memory, for a process that is not killed.
#[derive(Debug, Default)]
pub struct Store(std::sync::Mutex<std::collections::HashSet<String>>);

impl Store {
    fn keys(&self) -> std::sync::MutexGuard<'_, std::collections::HashSet<String>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl SeenStore for Store {
    fn contains<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<bool, SeenError>> {
        ready(Ok(self.keys().contains(key))).boxed()
    }

    fn insert<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<(), SeenError>> {
        self.keys().insert(key.to_owned());
        ready(Ok(())).boxed()
    }
}
