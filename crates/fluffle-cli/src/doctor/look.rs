//! Looks at queues and exchanges over AMQP, and measures a confirm. Nothing is created but a queue of doctor's own.

use std::time::{Duration, Instant};

use lapin::{
    BasicProperties, Connection, ErrorKind, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    types::FieldTable,
};

use crate::{
    common::{
        amqp::{self, ANSWER},
        failure::Failure,
    },
    doctor::{
        finding::{Evidence::ProvedOverAmqp, Kind, Level, Report},
        pages,
        rules::queues::{find_no_consumer, find_too_deep},
    },
};

pub(crate) static MISSING: Kind = Kind {
    id: "queue.missing",
    level: Level::Error,
    why: "Consumers of it fail with 404, and messages for it reach no queue.",
    page: pages::QUEUES,
};
static EXCHANGE_MISSING: Kind = Kind {
    id: "exchange.missing",
    level: Level::Error,
    why: "A publish to it closes the publisher's channel with 404, and takes its unconfirmed messages along.",
    page: pages::EXCHANGES,
};
static LOCKED: Kind = Kind {
    id: "queue.exclusive_elsewhere",
    level: Level::Error,
    why: "The queue is exclusive to another connection: nobody else may look at it, bind it or consume from it, and it \
          ends with that connection.",
    page: pages::QUEUES,
};
static REFUSED: Kind = Kind {
    id: "queue.refused",
    level: Level::Error,
    why: "A service with this user fails with 403 as soon as it uses the queue.",
    page: pages::ACCESS,
};
static BLOCKED: Kind = Kind {
    id: "broker.blocks_publishers",
    level: Level::Error,
    why: "An alarm is raised: the broker reads nothing from connections that publish until memory or disk space is \
          free again. Messages wait in the publishers.",
    page: pages::ALARMS,
};
static NO_CONFIRM: Kind = Kind {
    id: "broker.no_confirm",
    level: Level::Error,
    why: "The broker took a message and does not confirm it. Publishers with confirms stand still.",
    page: pages::CONFIRMS,
};
static SLOW: Kind = Kind {
    id: "broker.slow_confirm",
    level: Level::Warning,
    why: "A message for a queue in memory of the same node is confirmed this late. A publisher that waits for each \
          confirm is not faster than one message in that time.",
    page: pages::PUBLISHERS,
};

/// Confirms that are measured; the median counts.
const SAMPLES: usize = 11;
/// From here on a confirm is slow. On a LAN it takes about a millisecond.
const SLOW_FROM: Duration = Duration::from_millis(100);

/// What the broker said to a question.
enum Answer {
    Yes {
        messages: u64,
        consumers: u64,
    },
    /// A reply code, and its text.
    No(u16, String),
    Failed(String),
}

/// Looks at each queue and exchange.
pub(crate) async fn entities(
    connection: &Connection,
    queues: &[String],
    exchanges: &[String],
    depth: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    for name in queues {
        match ask_queue(connection, name).await? {
            Answer::Yes { messages, consumers } => {
                let value = format!("{name}: {messages} messages ready, {consumers} consumers");
                report.fact("queue", value, ProvedOverAmqp);
                if messages > depth {
                    find_too_deep(report, ProvedOverAmqp, name, messages, consumers);
                } else if messages > 0 && consumers == 0 {
                    report.unknown(
                        format!(
                            "whether the {messages} messages of {name} wait for a consumer, for a person or for a time"
                        ),
                        "--api: whether it is a dead-letter or retry queue",
                    );
                }
                if messages > depth && consumers == 0 {
                    find_no_consumer(report, ProvedOverAmqp, name, messages);
                }
            }
            Answer::No(404, why) => {
                let mend = "declare it: start the service that owns it, or `fluffle topology apply`";
                report.find(&MISSING, ProvedOverAmqp, format!("queue {name}"), why, mend);
            }
            Answer::No(405, why) => {
                let mend = "rabbitmqctl list_queues name exclusive owner_pid, and list_connections pid name: end that \
                            connection, or use another name";
                report.find(&LOCKED, ProvedOverAmqp, format!("queue {name}"), why, mend);
            }
            Answer::No(403, why) => {
                let mend = "rabbitmqctl list_permissions, and set_permissions for this user";
                report.find(&REFUSED, ProvedOverAmqp, format!("queue {name}"), why, mend);
            }
            Answer::No(_, why) | Answer::Failed(why) => report.unknown(format!("queue {name}: {why}"), "a second look"),
        }
    }
    for name in exchanges {
        match ask_exchange(connection, name).await? {
            Answer::Yes { .. } => {}
            Answer::No(404, why) => {
                let mend = "declare it: start the service that owns it, or `fluffle topology apply`";
                report.find(&EXCHANGE_MISSING, ProvedOverAmqp, format!("exchange {name}"), why, mend);
            }
            Answer::No(_, why) | Answer::Failed(why) => {
                report.unknown(format!("exchange {name}: {why}"), "a second look");
            }
        }
    }
    Ok(())
}

/// Asks on a channel of its own, which a refusal closes.
async fn ask_queue(connection: &Connection, name: &str) -> Result<Answer, Failure> {
    let channel = amqp::channel(connection).await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let asked = channel.queue_declare(name.into(), options, FieldTable::default());
    let answer = bounded(asked).await;
    let answer = answer.map(|queue| (u64::from(queue.message_count()), u64::from(queue.consumer_count())));
    let answer = answer.map_or_else(|no| no, |(messages, consumers)| Answer::Yes { messages, consumers });
    close(channel, &answer).await;
    Ok(answer)
}

async fn ask_exchange(connection: &Connection, name: &str) -> Result<Answer, Failure> {
    let channel = amqp::channel(connection).await?;
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let asked = channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default());
    let answer = bounded(asked).await;
    let answer = answer.map_or_else(|no| no, |()| Answer::Yes { messages: 0, consumers: 0 });
    close(channel, &answer).await;
    Ok(answer)
}

async fn close(channel: lapin::Channel, answer: &Answer) {
    if matches!(answer, Answer::Yes { .. }) {
        // A channel that does not close ends with its connection.
        let _ = tokio::time::timeout(ANSWER, channel.close(200, "looked".into())).await;
    }
}

async fn bounded<T>(answer: impl Future<Output = lapin::Result<T>>) -> Result<T, Answer> {
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(match error.kind() {
            ErrorKind::ProtocolError(amqp) => Answer::No(amqp.get_id(), amqp.get_message().to_string()),
            _ => Answer::Failed(error.to_string()),
        }),
        Err(_) => Err(Answer::Failed(format!("no answer within {ANSWER:?}"))),
    }
}

/// Measures how long a confirm takes, on a queue that ends with the connection. Finds out whether the broker blocks
/// publishers: that is told only to those that publish. Nothing else can be asked on the connection after that.
pub(crate) async fn confirm(connection: &Connection, report: &mut Report) -> Result<(), Failure> {
    let channel = amqp::channel(connection).await?;
    amqp::in_time("confirm.select", channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare("".into(), options, FieldTable::default());
    let queue = match bounded(declared).await {
        Ok(queue) => queue.name().to_string(),
        Err(Answer::No(code, why)) => {
            report.unknown(
                format!("how long a confirm takes: {code} {why}"),
                "a user that may declare a queue of its own (configure on amq\\.gen.*)",
            );
            return Ok(());
        }
        Err(_) => return Err(Failure::new("queue.declare: no answer")),
    };
    let mut times = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let started = Instant::now();
        let publish = channel.basic_publish(
            "".into(),
            queue.as_str().into(),
            BasicPublishOptions::default(),
            b"fluffle doctor",
            BasicProperties::default(),
        );
        let confirmed = async { publish.await?.await };
        if !in_time(connection, confirmed, report).await {
            return Ok(());
        }
        times.push(started.elapsed());
    }
    times.sort_unstable();
    let median = times[SAMPLES / 2];
    let text = format!("{:.1} ms", median.as_secs_f64() * 1e3);
    report.fact("confirm", format!("{text}, the median of {SAMPLES} messages"), ProvedOverAmqp);
    if median > SLOW_FROM {
        let mend = "look at the node's CPU and disk (rabbitmq-diagnostics observer), and at the network: ping; \
                    publish with many confirms outstanding instead of one";
        report.find(&SLOW, ProvedOverAmqp, "broker", format!("a confirm takes {text}"), mend);
    }
    Ok(())
}

/// Waits for a confirm. If none comes, says why.
async fn in_time<T>(
    connection: &Connection,
    confirmed: impl Future<Output = lapin::Result<T>>,
    report: &mut Report,
) -> bool {
    let is_blocked = async {
        while !connection.status().blocked() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let answer = async {
        tokio::select! {
            confirm = confirmed => Some(confirm),
            () = is_blocked => None,
        }
    };
    let (kind, what): (&'static Kind, String) = match tokio::time::timeout(ANSWER, answer).await {
        Ok(Some(Ok(_))) => return true,
        Ok(Some(Err(error))) => (&NO_CONFIRM, error.to_string()),
        Ok(None) => (&BLOCKED, "it blocks the connection as soon as it publishes (connection.blocked)".to_owned()),
        Err(_) => (&NO_CONFIRM, format!("no confirm within {ANSWER:?}")),
    };
    let mend = "rabbitmq-diagnostics alarms names the node and the resource: free disk space, or see \
                rabbitmq-diagnostics memory_breakdown";
    report.find(kind, ProvedOverAmqp, "broker", what, mend);
    false
}
