//! Creates what a plan says is missing. Deletes nothing.

use std::io::{IsTerminal, Write, stdin, stdout};

use fluffle::amqp::{Entity as LibraryEntity, bare};
use lapin::{
    ExchangeKind,
    options::{ExchangeBindOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::ShortString,
};
use serde::Serialize;
use tokio::sync::watch;

use crate::{
    common::{amqp::ANSWER, broker::BrokerArgs, failure::Failure, output::safe},
    topology::{
        item::{Entity, Item, Status},
        model::{Binding, Exchange, Model, Place, Queue},
        plan::Plan,
        probe::Probe,
    },
};

/// What has been done.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Done {
    /// In the order in which it was done.
    pub(crate) applied: Vec<Entity>,
    /// Why the rest has not been done.
    pub(crate) stopped: Option<String>,
}

/// What differs between an agreed plan and what holds now, in words. That something has been done since is no
/// difference.
pub(crate) fn changed_since(agreed: &Plan, now: &Plan) -> Vec<String> {
    if (&agreed.broker, &agreed.vhost) != (&now.broker, &now.vhost) {
        let place = |plan: &Plan| format!("{} (virtual host {:?})", plan.broker, plan.vhost);
        return vec![format!("the plan is for {}, this is {}", place(agreed), place(now))];
    }
    let said = |item: &Item| match item.status {
        Status::Create => "missing",
        status => status.words(),
    };
    let mut changes = Vec::new();
    for item in &now.items {
        let name = format!("{} {}", item.entity.kind(), safe(&item.entity.name()));
        match agreed.items.iter().find(|it| it.entity == item.entity) {
            None => changes.push(format!("{name}: it is in the file, but not in the plan")),
            Some(before) if is_as_agreed(before, item) => {}
            Some(before) => changes.push(format!("{name}: it was {}, and is {} now", said(before), said(item))),
        }
    }
    let gone = agreed.items.iter().filter(|it| !now.items.iter().any(|item| item.entity == it.entity));
    changes.extend(gone.map(|it| {
        format!("{} {}: it is in the plan, but no longer in the file", it.entity.kind(), safe(&it.entity.name()))
    }));
    changes
}

fn is_as_agreed(agreed: &Item, now: &Item) -> bool {
    let is_done = agreed.status.is_applied() && matches!(now.status, Status::Unchanged | Status::Bind);
    is_done || (agreed.status == now.status && agreed.differences == now.differences)
}

/// Asks on the terminal.
pub(crate) fn is_agreed(question: &str) -> Result<bool, Failure> {
    if !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure::new("without a terminal nobody can agree: give --yes, best with --plan"));
    }
    print!("{question} [y/N] ");
    stdout().flush()?;
    let mut answer = String::new();
    stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Does what `plan` shows, one entity after the other. Before each, `interrupted` is looked at.
pub(crate) async fn run(
    args: &BrokerArgs,
    model: &Model,
    plan: &Plan,
    interrupted: &watch::Receiver<bool>,
) -> Result<Done, Failure> {
    let mut probe = Probe::new(args, "topology").await?;
    let mut done = Done::default();
    for item in plan.items.iter().filter(|item| item.status.is_applied()) {
        let name = safe(&item.entity.name());
        if *interrupted.borrow() {
            done.stopped = Some(format!("interrupted before {} {name}", item.entity.kind()));
            break;
        }
        match carry_out(&mut probe, model, &item.entity).await {
            Ok(()) => done.applied.push(item.entity.clone()),
            Err(why) => {
                done.stopped = Some(format!(
                    "the broker changed since the plan was made, or refuses: {}; run `fluffle topology plan` again",
                    safe(&why.to_string())
                ));
                break;
            }
        }
    }
    probe.close().await;
    Ok(done)
}

async fn carry_out(probe: &mut Probe<'_>, model: &Model, entity: &Entity) -> Result<(), Failure> {
    let gone = || Failure::new("the plan names an entity that the file does not");
    match entity {
        Entity::Exchange { name } => {
            create_exchange(probe, model.exchanges.iter().find(|it| it.name == *name).ok_or_else(gone)?).await
        }
        Entity::Queue { name } => {
            create_queue(probe, model.queues.iter().find(|it| it.name == *name).ok_or_else(gone)?).await
        }
        Entity::Binding { .. } => {
            bind(probe, model.bindings.iter().find(|it| Entity::from(*it) == *entity).ok_or_else(gone)?).await
        }
    }
}

async fn create_exchange(probe: &mut Probe<'_>, wanted: &Exchange) -> Result<(), Failure> {
    let options = ExchangeDeclareOptions {
        passive: false,
        durable: wanted.durable,
        auto_delete: wanted.auto_delete,
        internal: wanted.internal,
        nowait: false,
    };
    let channel = probe.channel().await?;
    let kind = ExchangeKind::Custom(wanted.kind.clone());
    let declared = channel.exchange_declare(short(&wanted.name)?, kind, options, bare::arguments(&wanted.arguments)?);
    answered(LibraryEntity::Exchange(wanted.name.clone()), declared).await
}

async fn create_queue(probe: &mut Probe<'_>, wanted: &Queue) -> Result<(), Failure> {
    let options = QueueDeclareOptions {
        passive: false,
        durable: wanted.durable,
        exclusive: false,
        auto_delete: wanted.auto_delete,
        nowait: false,
    };
    let channel = probe.channel().await?;
    let declared = channel.queue_declare(short(&wanted.name)?, options, bare::arguments(&wanted.arguments)?);
    answered(LibraryEntity::Queue(wanted.name.clone()), async { declared.await.map(drop) }).await
}

async fn bind(probe: &mut Probe<'_>, wanted: &Binding) -> Result<(), Failure> {
    let channel = probe.channel().await?;
    let (source, key) = (short(&wanted.source)?, short(&wanted.key)?);
    let arguments = bare::arguments(&wanted.arguments)?;
    let entity = |destination| LibraryEntity::Binding {
        exchange: wanted.source.clone(),
        destination: Box::new(destination),
        key: wanted.key.clone(),
    };
    match &wanted.to {
        Place::Queue(name) => {
            let bound = channel.queue_bind(short(name)?, source, key, QueueBindOptions::default(), arguments);
            answered(entity(LibraryEntity::Queue(name.clone())), bound).await
        }
        Place::Exchange(name) => {
            let bound = channel.exchange_bind(short(name)?, source, key, ExchangeBindOptions::default(), arguments);
            answered(entity(LibraryEntity::Exchange(name.clone())), bound).await
        }
    }
}

fn short(text: &str) -> Result<ShortString, Failure> {
    ShortString::try_new(text).map_err(|error| Failure::new(format!("{text:?}: {error}")))
}

async fn answered(entity: LibraryEntity, answer: impl Future<Output = lapin::Result<()>>) -> Result<(), Failure> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let text = error.to_string();
            let refusal = bare::refusal(entity, error);
            // The typed error of a lost connection does not say how it was lost.
            Err(Failure::new(if refusal.is_permanent() { refusal.to_string() } else { format!("{refusal}: {text}") }))
        }
        Err(_) => Err(Failure::new(format!("{entity}: no answer within {ANSWER:?}; whether it was made is not known"))),
    }
}
