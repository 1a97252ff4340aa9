//! Makes the plan: asks the broker about each entity of the file. Changes nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    common::{broker::BrokerArgs, exit::Exit, failure::Failure},
    topology::{
        compare,
        item::{Difference, Item, Known, Status},
        model::{Binding, Exchange, Model, Place, Queue},
        probe::{Counts, Found, Probe},
        steps,
        target::Target,
        told::{State, Told},
    },
};

/// What is to be done on one broker for one file. This is the output of `--json`, and its keys are stable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The broker, without user and password.
    pub(crate) broker: String,
    pub(crate) vhost: String,
    /// Whether the management API was asked.
    pub(crate) api: bool,
    /// Exchanges, queues, bindings, in the order of the file.
    pub(crate) items: Vec<Item>,
}

/// What a plan comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Nothing,
    Changes,
    /// Something is to be settled by hand first.
    Refused,
}

impl End {
    pub(crate) fn exit(self) -> Exit {
        match self {
            Self::Nothing => Exit::Clean,
            Self::Changes => Exit::Attention,
            Self::Refused => Exit::Bad,
        }
    }
}

impl Plan {
    pub(crate) fn end(&self) -> End {
        if self.items.iter().any(|item| item.status.is_by_hand()) {
            End::Refused
        } else if self.items.iter().any(|item| item.status.is_applied()) {
            End::Changes
        } else {
            End::Nothing
        }
    }

    pub(crate) fn count(&self, status: Status) -> usize {
        self.items.iter().filter(|item| item.status == status).count()
    }
}

/// Asks the broker about each entity of `wanted`.
pub(crate) async fn make(args: &BrokerArgs, wanted: &Model) -> Result<Plan, Failure> {
    let Target { broker, vhost } = Target::of(args)?;
    let told = Told::read(args, &vhost).await?;
    let mut survey =
        Survey { probe: Probe::new(args, "topology").await?, told, wanted, vhost, missing: BTreeSet::new() };
    let items = survey.items().await;
    survey.probe.close().await;
    Ok(Plan { broker, vhost: survey.vhost, api: survey.told.is_some(), items: items? })
}

struct Survey<'a> {
    probe: Probe<'a>,
    told: Option<Told>,
    wanted: &'a Model,
    vhost: String,
    /// What the broker does not have.
    missing: BTreeSet<Place>,
}

impl Survey<'_> {
    async fn items(&mut self) -> Result<Vec<Item>, Failure> {
        let mut items = Vec::new();
        for exchange in &self.wanted.exchanges {
            items.push(self.exchange(exchange).await?);
        }
        for queue in &self.wanted.queues {
            items.push(self.queue(queue).await?);
        }
        for binding in &self.wanted.bindings {
            items.push(self.binding(binding).await?);
        }
        Ok(items)
    }

    async fn exchange(&mut self, wanted: &Exchange) -> Result<Item, Failure> {
        let told = self.told.as_ref().and_then(|told| told.model.exchanges.iter().find(|it| it.name == wanted.name));
        let (found, known) = match told {
            Some(existing) => (equal_or(compare::exchanges(wanted, existing)), Known::Api),
            None => (self.probe.exchange(wanted).await?, Known::Amqp),
        };
        let item = self.item(wanted.place(), &found, known);
        let Found::Differs { differences, complete } = found else { return Ok(item) };
        let mut item = item;
        let keys = compare::policy(&differences, &wanted.arguments).filter(|_| complete);
        (item.status, item.steps) = match keys {
            Some(keys) => (Status::Policy, steps::policy(&wanted.place(), &self.vhost, &keys, None, false)),
            None => (Status::New, steps::new_exchange(&wanted.name, &self.vhost)),
        };
        item.differences = differences;
        Ok(item)
    }

    async fn queue(&mut self, wanted: &Queue) -> Result<Item, Failure> {
        if wanted.exclusive {
            let why = "each process of the service makes it for itself, on its own connection";
            return Ok(Item::new(&wanted.place(), Status::Skipped, Known::Unknown).because(why));
        }
        let told = self.told.as_ref().and_then(|told| told.model.queues.iter().find(|it| it.name == wanted.name));
        let (found, counts, known) = match told {
            Some(existing) => {
                let (found, counts) = self.probe.queue_exists(&wanted.name).await?;
                match found {
                    Found::Same => (equal_or(compare::queues(wanted, existing)), counts, Known::Api),
                    other => (other, counts, Known::Amqp),
                }
            }
            None => {
                let (found, counts) = self.probe.queue(wanted).await?;
                (found, counts, Known::Amqp)
            }
        };
        let mut item = self.item(wanted.place(), &found, known);
        let state = match (&self.told, &found) {
            (Some(told), Found::Differs { .. }) => Some(told.state(&wanted.name).await?),
            _ => None,
        };
        let counts = self.counts(wanted, counts, &found).await?;
        (item.messages, item.consumers) = counted(counts, state.as_ref());
        let Found::Differs { differences, complete } = found else { return Ok(item) };
        self.settle(&mut item, wanted, (differences, complete), state.as_ref());
        Ok(item)
    }

    /// What is in the queue. If its differences could not be told in full, that question is still open.
    async fn counts(
        &mut self,
        queue: &Queue,
        counts: Option<Counts>,
        found: &Found,
    ) -> Result<Option<Counts>, Failure> {
        match (counts, found) {
            (None, Found::Differs { .. }) => Ok(self.probe.queue_exists(&queue.name).await?.1),
            (counts, _) => Ok(counts),
        }
    }

    /// What is to be done about a queue that differs.
    fn settle(&self, item: &mut Item, wanted: &Queue, found: (Vec<Difference>, bool), state: Option<&State>) {
        let (differences, complete) = found;
        let in_use = item.messages != Some(0) || item.consumers != Some(0);
        let existing = self.told.as_ref().map(|told| &told.model);
        if let Some(keys) = compare::policy(&differences, &wanted.arguments).filter(|_| complete) {
            let now = state.and_then(|state| state.policy.as_ref());
            item.status = Status::Policy;
            item.steps = steps::policy(&wanted.place(), &self.vhost, &keys, now, state.is_some());
        } else {
            item.status = if in_use { Status::Refused } else { Status::New };
            item.steps = steps::new_queue(wanted, &self.vhost, self.wanted, existing, in_use);
            item.why = match (in_use, existing.is_some()) {
                (true, _) => "it is in use, and its properties cannot be changed".to_owned(),
                (false, true) => "it looks empty, and its properties cannot be changed".to_owned(),
                (false, false) => {
                    "no message is ready and no consumer is there; unacknowledged messages cannot be seen over AMQP"
                        .to_owned()
                }
            };
        }
        if !complete {
            item.why.push_str("; there may be more differences: the broker's answer could not be read to its end");
        }
        item.differences = differences;
    }

    /// The item without what follows from differences.
    fn item(&mut self, place: Place, found: &Found, known: Known) -> Item {
        match found {
            Found::Missing => {
                let item = Item::new(&place, Status::Create, known);
                self.missing.insert(place);
                item
            }
            Found::Same | Found::Differs { .. } => Item::new(&place, Status::Unchanged, known),
            Found::Locked => Item::new(&place, Status::Unknown, Known::Unknown)
                .because("another connection owns it (405), and the broker tells nobody else about it"),
            Found::Unknown(why) => Item::new(&place, Status::Unknown, Known::Unknown).because(why.as_str()),
        }
    }

    async fn binding(&mut self, wanted: &Binding) -> Result<Item, Failure> {
        let source = Place::Exchange(wanted.source.clone());
        let is_exclusive = |queue: &Queue| queue.exclusive && queue.place() == wanted.to;
        if self.wanted.queues.iter().any(is_exclusive) {
            let why = "its queue is made by each process of the service";
            return Ok(Item::new(wanted, Status::Skipped, Known::Unknown).because(why));
        }
        if let Some(item) = self.end_is_nowhere(&source, wanted).await? {
            return Ok(item);
        }
        if self.missing.contains(&source) || self.missing.contains(&wanted.to) {
            return Ok(Item::new(wanted, Status::Create, Known::Amqp));
        }
        let Some(told) = &self.told else {
            let why = "AMQP has no question for it; to bind again changes nothing if it is there";
            return Ok(Item::new(wanted, Status::Bind, Known::Unknown).because(why));
        };
        let is_it = |it: &Binding| {
            it.source == wanted.source && it.to == wanted.to && it.key == wanted.key && it.arguments == wanted.arguments
        };
        let status = if told.model.bindings.iter().any(is_it) { Status::Unchanged } else { Status::Create };
        Ok(Item::new(wanted, status, Known::Api))
    }

    /// The finding, if an end of the binding is neither in the file nor on the broker.
    async fn end_is_nowhere(&mut self, source: &Place, wanted: &Binding) -> Result<Option<Item>, Failure> {
        for end in [source, &wanted.to] {
            let in_file = match end {
                Place::Exchange(name) => self.wanted.exchanges.iter().any(|it| it.name == *name),
                Place::Queue(name) => self.wanted.queues.iter().any(|it| it.name == *name),
            };
            if in_file {
                continue;
            }
            let found = match end {
                Place::Exchange(name) => self.probe.exchange_exists(name).await?,
                Place::Queue(name) => self.probe.queue_exists(name).await?.0,
            };
            if found == Found::Missing {
                let why = format!("{end} is neither in the file nor on the broker: correct the name, or add it");
                return Ok(Some(Item::new(wanted, Status::Refused, Known::Amqp).because(why)));
            }
        }
        Ok(None)
    }
}

fn equal_or(differences: Vec<Difference>) -> Found {
    match differences.is_empty() {
        true => Found::Same,
        false => Found::Differs { differences, complete: true },
    }
}

/// Messages and consumers: the larger of what AMQP and the API say, because each sees some that the other does not.
fn counted(counts: Option<Counts>, state: Option<&State>) -> (Option<u64>, Option<u64>) {
    let messages = [counts.map(|it| it.ready), state.map(|it| it.messages)];
    let consumers = [counts.map(|it| it.consumers), state.map(|it| it.consumers)];
    (messages.into_iter().flatten().max(), consumers.into_iter().flatten().max())
}
