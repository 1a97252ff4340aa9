//! What the broker says over AMQP about one exchange or queue, without changing it.
//!
//! AMQP can compare a declaration with what exists only by declaring, and a declaration creates what is missing. So two
//! methods are sent at once, on a channel of their own: a passive declaration, and the declaration to compare. If the
//! entity is missing, the broker answers 404 to the first and closes the channel, and by AMQP 0-9-1 (1.5.2.5) it
//! discards what follows on that channel. Only if somebody deletes the entity in the microseconds between the two
//! methods is it made again.

use fluffle::amqp::{ArgumentValue, Difference as Refusal, Entity, TopologyErrorKind, bare};
use lapin::{
    Channel, Connection, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};

use crate::{
    common::{
        amqp::{self, ANSWER},
        broker::BrokerArgs,
        failure::Failure,
    },
    topology::{
        item::Difference,
        model::{Arguments, Exchange, Queue},
    },
};

/// More differences than one entity has arguments that RabbitMQ compares.
const MOST_DIFFERENCES: usize = 40;

/// What is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Missing,
    Same,
    /// `complete` is false if the broker's answer could not be read to its end.
    Differs {
        differences: Vec<Difference>,
        complete: bool,
    },
    /// Another connection owns the queue.
    Locked,
    /// The broker does not say; why.
    Unknown(String),
}

/// Messages that are ready, and consumers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ready: u64,
    pub(crate) consumers: u64,
}

/// Asks the broker, on a channel for each question. A refusal that closes the connection is survived.
pub(crate) struct Probe<'a> {
    args: &'a BrokerArgs,
    /// Which subcommand asks; in the connection's name.
    subcommand: &'static str,
    connection: Connection,
}

/// The answer to one pair of methods.
enum Answer<T> {
    Missing,
    Same(T),
    Differs(Option<Refusal>),
    Locked,
    Unknown(String),
}

impl<'a> Probe<'a> {
    pub(crate) async fn new(args: &'a BrokerArgs, subcommand: &'static str) -> Result<Self, Failure> {
        Ok(Self { args, subcommand, connection: amqp::connect(args, subcommand).await? })
    }

    /// A channel; on a new connection, if the broker closed the last one over a refusal.
    pub(crate) async fn channel(&mut self) -> Result<Channel, Failure> {
        if !self.connection.status().connected() {
            self.connection = amqp::connect(self.args, self.subcommand).await?;
        }
        amqp::channel(&self.connection).await
    }

    pub(crate) async fn close(self) {
        // The command is done with the broker, whatever it says now.
        let _ = tokio::time::timeout(ANSWER, self.connection.close(200, "done".into())).await;
    }

    /// Whether the exchange exists.
    pub(crate) async fn exchange_exists(&mut self, name: &str) -> Result<Found, Failure> {
        let channel = self.channel().await?;
        let declared = channel.exchange_declare(
            short(name)?,
            ExchangeKind::Direct,
            ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() },
            FieldTable::default(),
        );
        let found = match in_time(declared).await? {
            Ok(()) => Found::Same,
            Err(error) => existence(Entity::Exchange(name.to_owned()), error),
        };
        finish(&channel).await;
        Ok(found)
    }

    /// Whether the queue exists, and what is in it.
    pub(crate) async fn queue_exists(&mut self, name: &str) -> Result<(Found, Option<Counts>), Failure> {
        let channel = self.channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let answer = in_time(channel.queue_declare(short(name)?, passive, FieldTable::default())).await?;
        let found = match answer {
            Ok(queue) => (Found::Same, Some(counts(&queue))),
            Err(error) => (existence(Entity::Queue(name.to_owned()), error), None),
        };
        finish(&channel).await;
        Ok(found)
    }

    /// Compares an exchange with what exists.
    pub(crate) async fn exchange(&mut self, wanted: &Exchange) -> Result<Found, Failure> {
        let mut asked = wanted.clone();
        let mut differences = Vec::new();
        loop {
            let refusal = match next(self.ask_about_exchange(&asked).await?, &mut differences) {
                Ok(refusal) => refusal,
                Err((found, _)) => return Ok(found),
            };
            match (refusal.argument.as_str(), refusal.existing.as_deref()) {
                ("type", Some(kind)) => kind.clone_into(&mut asked.kind),
                ("durable", Some(is)) => asked.durable = is == "true",
                ("auto_delete", Some(is)) => asked.auto_delete = is == "true",
                ("internal", Some(is)) => asked.internal = is == "true",
                (name, existing) => adopt(&mut asked.arguments, name, existing),
            }
        }
    }

    /// Compares a queue with what exists.
    pub(crate) async fn queue(&mut self, wanted: &Queue) -> Result<(Found, Option<Counts>), Failure> {
        let mut asked = wanted.clone();
        let mut differences = Vec::new();
        loop {
            let refusal = match next(self.ask_about_queue(&asked).await?, &mut differences) {
                Ok(refusal) => refusal,
                Err(found) => return Ok(found),
            };
            match (refusal.argument.as_str(), refusal.existing.as_deref()) {
                ("durable", Some(is)) => asked.durable = is == "true",
                ("auto_delete", Some(is)) => asked.auto_delete = is == "true",
                (name, existing) => adopt(&mut asked.arguments, name, existing),
            }
        }
    }

    async fn ask_about_exchange(&mut self, asked: &Exchange) -> Result<Answer<()>, Failure> {
        let channel = self.channel().await?;
        let declare = |passive| {
            let options = ExchangeDeclareOptions {
                passive,
                durable: asked.durable,
                auto_delete: asked.auto_delete,
                internal: asked.internal,
                nowait: false,
            };
            let kind = ExchangeKind::Custom(asked.kind.clone());
            Ok::<_, Failure>(channel.exchange_declare(
                short(&asked.name)?,
                kind,
                options,
                bare::arguments(&asked.arguments)?,
            ))
        };
        let (exists, equal) = in_time(both(declare(true)?, declare(false)?)).await?;
        finish(&channel).await;
        Ok(answer(Entity::Exchange(asked.name.clone()), exists, equal))
    }

    async fn ask_about_queue(&mut self, asked: &Queue) -> Result<Answer<Counts>, Failure> {
        let channel = self.channel().await?;
        let declare = |passive| {
            let options = QueueDeclareOptions {
                passive,
                durable: asked.durable,
                exclusive: false,
                auto_delete: asked.auto_delete,
                nowait: false,
            };
            Ok::<_, Failure>(channel.queue_declare(short(&asked.name)?, options, bare::arguments(&asked.arguments)?))
        };
        let (exists, equal) = in_time(both(declare(true)?, declare(false)?)).await?;
        finish(&channel).await;
        let equal = equal.map(|queue| counts(&queue));
        Ok(answer(Entity::Queue(asked.name.clone()), exists, equal))
    }
}

/// Sends two methods before it waits for the first answer.
async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    futures_util::join!(first, second)
}

async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, Failure> {
    let answered = tokio::time::timeout(ANSWER, answer).await;
    answered.map_err(|_| Failure::new(format!("the broker does not answer a declaration within {ANSWER:?}")))
}

/// Closes the channel, unless the broker has. Errors are of no use: the answer is there.
async fn finish(channel: &Channel) {
    if channel.status().connected() {
        let _ = tokio::time::timeout(ANSWER, channel.close(200, "asked".into())).await;
    }
}

fn short(name: &str) -> Result<ShortString, Failure> {
    ShortString::try_new(name).map_err(|error| Failure::new(format!("the name {name:?}: {error}")))
}

fn counts(queue: &lapin::Queue) -> Counts {
    Counts { ready: queue.message_count().into(), consumers: queue.consumer_count().into() }
}

/// What the error of a passive declaration says.
fn existence(entity: Entity, error: lapin::Error) -> Found {
    if bare::says_missing(&error) {
        return Found::Missing;
    }
    let text = error.to_string();
    match bare::refusal(entity, error).kind() {
        TopologyErrorKind::Locked { .. } => Found::Locked,
        TopologyErrorKind::Connection { .. } => Found::Unknown(text),
        refusal => Found::Unknown(refusal.to_string()),
    }
}

fn answer<A, T>(entity: Entity, exists: lapin::Result<A>, equal: lapin::Result<T>) -> Answer<T> {
    if let Err(error) = exists {
        return match existence(entity, error) {
            Found::Missing => Answer::Missing,
            Found::Locked => Answer::Locked,
            Found::Unknown(why) => Answer::Unknown(why),
            Found::Same | Found::Differs { .. } => Answer::Differs(None),
        };
    }
    let error = match equal {
        Ok(counts) => return Answer::Same(counts),
        Err(error) => error,
    };
    let text = error.to_string();
    match bare::refusal(entity, error).kind() {
        TopologyErrorKind::Conflict { difference, .. } => Answer::Differs(difference.clone()),
        TopologyErrorKind::Locked { .. } => Answer::Locked,
        TopologyErrorKind::Connection { .. } => Answer::Unknown(text),
        refusal => Answer::Unknown(refusal.to_string()),
    }
}

/// The refusal that names one more difference, which it has added; or what is found in the end.
fn next<T>(answer: Answer<T>, differences: &mut Vec<Difference>) -> Result<Refusal, (Found, Option<T>)> {
    let differs = |differences: &mut Vec<Difference>, complete| Found::Differs {
        differences: std::mem::take(differences),
        complete,
    };
    match answer {
        Answer::Missing => Err((Found::Missing, None)),
        Answer::Same(counts) if differences.is_empty() => Err((Found::Same, Some(counts))),
        Answer::Same(counts) => Err((differs(differences, true), Some(counts))),
        Answer::Locked => Err((Found::Locked, None)),
        Answer::Unknown(why) if differences.is_empty() => Err((Found::Unknown(why), None)),
        Answer::Unknown(_) | Answer::Differs(None) => Err((differs(differences, false), None)),
        Answer::Differs(Some(refusal)) => {
            // The broker names the same argument again if its value was not understood.
            if differences.len() == MOST_DIFFERENCES || differences.iter().any(|it| it.argument == refusal.argument) {
                return Err((differs(differences, false), None));
            }
            differences.push(Difference {
                argument: refusal.argument.clone(),
                wanted: refusal.declared.clone(),
                existing: refusal.existing.clone(),
            });
            Ok(refusal)
        }
    }
}

/// Takes the broker's value, so that the next question finds the next difference.
fn adopt(arguments: &mut Arguments, name: &str, existing: Option<&str>) {
    match existing {
        None => {
            arguments.remove(name);
        }
        Some(text) => {
            let value = match (text.parse::<i64>(), text) {
                (Ok(number), _) => ArgumentValue::Int(number),
                (_, "true" | "false") => ArgumentValue::Bool(text == "true"),
                _ => ArgumentValue::Text(text.to_owned()),
            };
            arguments.insert(name.to_owned(), value);
        }
    }
}
