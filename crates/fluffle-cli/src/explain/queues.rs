//! Looks into queues. A look loses nothing: what was taken is given back when its channel closes.

use std::time::Duration;

use lapin::{
    Connection,
    message::BasicGetMessage,
    options::{BasicGetOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    common::{
        amqp::{channel, in_time},
        delivery_limit::DeliveryLimit,
        failure::Failure,
        output::safe,
    },
    explain::{
        args::ExplainArgs,
        facts,
        id::Id,
        report::{Finding, Source, State},
    },
    message::{
        fields::{self, integer},
        properties::Properties,
    },
};

/// How long one look may take, and how many bytes it may hold, whatever `--most` says.
const LONGEST: Duration = Duration::from_secs(20);
const MOST_BYTES: usize = 64 * 1024 * 1024;

/// A queue to look at.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    /// What counts if it is a quorum queue.
    pub(crate) limit: DeliveryLimit,
    /// Whether a look counts as a delivery: a quorum queue before RabbitMQ 4.3. Taken for granted unless it is known.
    pub(crate) counts: bool,
}

/// What the queue says.
pub(crate) async fn look(connection: &Connection, args: &ExplainArgs, target: &Target, id: &Id) -> Finding {
    let place = format!("queue {}", target.name);
    match take(connection, args, target, id).await {
        Ok(finding) => finding,
        Err(failure) => Finding::new(place, Source::Amqp, State::Failed).fact(failure.to_string()),
    }
}

async fn take(connection: &Connection, args: &ExplainArgs, target: &Target, id: &Id) -> Result<Finding, Failure> {
    let finding = |state| Finding::new(format!("queue {}", target.name), Source::Amqp, state);
    // A look at a message that was handed out `count` times could be one too many.
    let is_spent = |count: u64| target.counts && target.limit.forbids(count);
    if is_spent(0) {
        let why = "its delivery limit is so low that one look could be the last delivery of a message";
        return Ok(finding(State::Refused).fact(why));
    }
    let channel = channel(connection).await?;
    let name = ShortString::try_new(target.name.as_str()).map_err(|_| Failure::new("longer than 255 bytes"))?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(name.clone(), passive, FieldTable::default());
    let queue = in_time("asking for the queue", asked).await?;
    let (ready, consumers) = (queue.message_count(), queue.consumer_count());
    let most = args.most.min(ready);
    let end = Instant::now() + LONGEST;
    let (mut looked, mut bytes) = (0, 0);
    let mut found = None;
    let mut stopped = None;
    while looked < most && found.is_none() {
        if Instant::now() > end || bytes > MOST_BYTES {
            stopped = Some("a look may take no longer, or hold no more".to_owned());
            break;
        }
        let got = channel.basic_get(name.clone(), BasicGetOptions { no_ack: false });
        let Some(message) = in_time("looking at a message", got).await? else { break };
        looked += 1;
        bytes += message.data.len();
        let is_it = message.properties.message_id().as_ref().is_some_and(|found| id.is(found.as_str()));
        let count = deliveries(&message).unwrap_or(0);
        if is_it {
            found = Some((looked, message));
        } else if is_spent(count) {
            let limit = target.limit.limit.unwrap_or_default();
            stopped = Some(format!(
                "its message {looked} has been delivered {count} times in vain, and half of the delivery limit is \
                 {} ({limit}, {}): do not look again, because more looks could make the queue drop or dead-letter it",
                limit / 2,
                target.limit.known
            ));
            break;
        }
    }
    // Gives all back, in their order.
    in_time("giving the messages back", channel.close(200, "looked".into())).await?;
    let shape = format!("{looked} of {ready} messages were looked at and given back; {consumers} consumers");
    let Some((position, message)) = found else {
        let rest = looked < ready;
        let state = if rest { State::NotInPart } else { State::Absent };
        let mut told = finding(state).fact(shape);
        if let Some(why) = stopped {
            told = told.fact(format!("stopped: {why}"));
        } else if rest {
            told = told.fact(format!("the rest was not looked at: --most {} looks at more", ready.max(1)));
        }
        return Ok(if consumers > 0 { told.fact(IN_HAND) } else { told });
    };
    let mut told = finding(State::Found).fact(format!("message {position} in the queue; {shape}"));
    if consumers > 0 {
        told = told.fact(IN_HAND);
    }
    told.facts.extend(facts::of(&message.properties));
    if deliveries(&message).is_some_and(is_spent) {
        let limit = target.limit.limit.unwrap_or_default();
        told = told
            .fact(format!("do not look again: each look counts, and the queue gives it up past {limit} deliveries"));
    }
    let headers = message.properties.headers().as_ref().map(fields::table_to_json).unwrap_or_default();
    told.details = json!({
        "position": position, "looked_at": looked, "ready": ready, "consumers": consumers,
        "exchange": message.exchange.as_str(), "key": message.routing_key.as_str(),
        "redelivered": message.redelivered, "bytes": message.data.len(),
        "properties": Properties::of(&message.properties), "headers": headers,
    });
    Ok(told)
}

const IN_HAND: &str = "messages that its consumers have in hand cannot be looked at";

/// How often a quorum queue has delivered the message in vain.
fn deliveries(message: &BasicGetMessage) -> Option<u64> {
    let count = message.properties.headers().as_ref()?.inner().get("x-delivery-count").and_then(integer)?;
    u64::try_from(count).ok()
}

/// A list of names that a person can read: the first ten, and how many there are beside.
pub(crate) fn shown(names: &[String]) -> String {
    const TOLD: usize = 10;
    let told: Vec<_> = names.iter().take(TOLD).map(|name| safe(name)).collect();
    let rest = names.len().saturating_sub(TOLD);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", told.join(", "))
}
