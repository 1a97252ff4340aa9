//! Asks the broker for its queues: the management API, or passive declarations over AMQP.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use lapin::{Channel, Connection, ErrorKind, options::QueueDeclareOptions, types::FieldTable};

use crate::{
    common::{
        amqp::{self, ANSWER},
        broker::BrokerArgs,
        failure::Failure,
        management,
    },
    doctor::{
        api::{Api, Refusal},
        json::Object,
    },
    top::{
        look::{Row, Source},
        pattern::Pattern,
    },
};

/// What passive declarations do not tell.
const NOT_OVER_AMQP: [&str; 7] =
    ["type", "state", "unacked", "in_rate", "delivered_rate", "acked_rate", "oldest_seconds"];

/// Only what is shown, because the whole answer is some ten times as long; and rates by the broker's samples, which are
/// 5 s apart. Without `msg_rates_*`, RabbitMQ 3.10 was seen to tell a rate of 0 for a busy queue every other time.
const COLUMNS: &str = "&msg_rates_age=15&msg_rates_incr=5&columns=name,type,state,messages_ready,\
                       messages_unacknowledged,consumers,head_message_timestamp,message_stats.publish_details.rate,\
                       message_stats.deliver_get_details.rate,message_stats.ack_details.rate";

/// Where the queues are asked for.
pub(crate) struct Queues {
    broker: BrokerArgs,
    vhost: String,
    patterns: Vec<Pattern>,
    api: Option<Api>,
    /// Whether the broker counts rates; `None` until it was asked.
    has_rates: Option<bool>,
    open: Option<(Connection, Channel)>,
}

impl Queues {
    pub(crate) fn new(broker: &BrokerArgs, vhost: &str, patterns: &[Pattern]) -> Result<Self, Failure> {
        let api = management::access(broker)?.map(Api::new).transpose()?;
        let (broker, vhost, patterns) = (broker.clone(), vhost.to_owned(), patterns.to_vec());
        Ok(Self { broker, vhost, patterns, api, has_rates: None, open: None })
    }

    pub(crate) fn source(&self) -> Source {
        if self.api.is_some() { Source::ManagementApi } else { Source::Amqp }
    }

    /// The columns of which nothing can be known.
    pub(crate) fn unknown(&self) -> Vec<&'static str> {
        match (&self.api, self.has_rates) {
            (None, _) => NOT_OVER_AMQP.to_vec(),
            (Some(_), Some(false)) => vec!["in_rate", "delivered_rate", "acked_rate"],
            (Some(_), _) => Vec::new(),
        }
    }

    /// Looks. Over AMQP at the queues named on the command line and `also`.
    pub(crate) async fn look(&mut self, also: &BTreeSet<String>) -> Result<Vec<Row>, Failure> {
        let looked = if self.api.is_some() { self.over_api().await } else { self.over_amqp(also).await };
        if looked.is_err() {
            // The next look begins anew: the broker may be another version then.
            self.has_rates = None;
            self.open = None;
        }
        looked
    }

    async fn over_api(&mut self) -> Result<Vec<Row>, Failure> {
        let Some(api) = &self.api else { return Ok(Vec::new()) };
        let refused = |why: Refusal| Failure::new(format!("the management API: {}", why.text()));
        let has_rates = match self.has_rates {
            Some(has_rates) => has_rates,
            None => {
                let overview = api.get("overview").await.map_err(refused)?;
                let has_rates = overview.text("rates_mode") != "none" && !overview.is("disable_stats");
                self.has_rates = Some(has_rates);
                has_rates
            }
        };
        let queues = api.queues(&self.vhost, COLUMNS).await.map_err(refused)?;
        let wanted = |row: &Row| self.patterns.is_empty() || self.patterns.iter().any(|it| it.holds(&row.name));
        Ok(queues.iter().map(|queue| row(queue, has_rates, SystemTime::now())).filter(wanted).collect())
    }

    async fn over_amqp(&mut self, also: &BTreeSet<String>) -> Result<Vec<Row>, Failure> {
        let (connection, mut channel) = match self.open.take() {
            Some((connection, channel)) if connection.status().connected() => (connection, channel),
            _ => {
                let connection = amqp::connect(&self.broker, "top").await?;
                let channel = amqp::channel(&connection).await?;
                (connection, channel)
            }
        };
        let named = self.patterns.iter().filter_map(Pattern::name);
        let names: BTreeSet<&str> = named.chain(also.iter().map(String::as_str)).collect();
        let mut rows = Vec::with_capacity(names.len());
        for name in names {
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
            let declared = channel.queue_declare(name.into(), passive, FieldTable::default());
            let row = match tokio::time::timeout(ANSWER, declared).await {
                Ok(Ok(queue)) => Row {
                    ready: Some(u64::from(queue.message_count())),
                    consumers: Some(u64::from(queue.consumer_count())),
                    ..Row::default()
                },
                Ok(Err(error)) => {
                    let ErrorKind::ProtocolError(refusal) = error.kind() else { return Err(error.into()) };
                    if !connection.status().connected() {
                        return Err(error.into());
                    }
                    let problem = Some(refusal.get_message().to_string());
                    // A refusal closes its channel.
                    channel = amqp::channel(&connection).await?;
                    Row { problem, ..Row::default() }
                }
                Err(_) => return Err(Failure::new(format!("no answer over AMQP within {ANSWER:?}"))),
            };
            rows.push(Row { name: name.to_owned(), ..row });
        }
        self.open = Some((connection, channel));
        Ok(rows)
    }

    /// Closes the connection. Nothing depends on it.
    pub(crate) async fn close(&mut self) {
        if let Some((connection, _)) = self.open.take() {
            let _ = tokio::time::timeout(Duration::from_secs(2), connection.close(200, "done".into())).await;
        }
    }
}

/// A queue as the management API tells it. The API leaves out what it has not counted yet.
fn row(queue: &Object, has_rates: bool, now: SystemTime) -> Row {
    let ready = queue.number("messages_ready");
    let rate = |of: &str| {
        // A queue without statistics of messages had none: those of a queue that is down are left out as well.
        let known = has_rates && ready.is_some();
        known.then(|| queue.decimal(&format!("message_stats/{of}_details/rate")).unwrap_or(0.0))
    };
    let text = |key: &str| Some(queue.text(key).to_owned()).filter(|text| !text.is_empty());
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Row {
        name: queue.text("name").to_owned(),
        kind: text("type"),
        state: text("state"),
        ready,
        unacked: queue.number("messages_unacknowledged"),
        consumers: queue.number("consumers"),
        in_rate: rate("publish"),
        delivered_rate: rate("deliver_get"),
        acked_rate: rate("ack"),
        oldest_seconds: queue.number("head_message_timestamp").map(|at| now.saturating_sub(at)),
        problem: None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_leaves_out_is_unknown_and_not_zero() {
        let down = Object::new(json!({"name": "q", "state": "down", "type": "classic"}));
        let seen = row(&down, true, SystemTime::now());
        assert_eq!((seen.ready, seen.unacked, seen.consumers, seen.in_rate), (None, None, None, None));
        let idle = Object::new(json!({"name": "q", "messages_ready": 3, "head_message_timestamp": ""}));
        let seen = row(&idle, true, SystemTime::now());
        assert_eq!((seen.ready, seen.in_rate, seen.oldest_seconds), (Some(3), Some(0.0), None));
        assert_eq!(row(&idle, false, SystemTime::now()).in_rate, None, "the broker counts no rates");
    }
}
