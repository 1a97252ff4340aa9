//! docs/OPERATIONS.md shows what the program prints.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use fluffle::wire::headers::Reason;
use fluffle_harness::RabbitMq;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::*,
    types::{AMQPValue, FieldTable},
};

use serde_json::Value;

use crate::support::*;

const PAGE: &str = include_str!("../../../../docs/OPERATIONS.md");

/// What the page shows behind this command.
fn shown(command: &str) -> Vec<&'static str> {
    let (_, behind) = PAGE.split_once(&format!("$ {command}\n")).unwrap_or_else(|| panic!("the page has no {command}"));
    lines(behind).take_while(|line| !line.starts_with("```") && !line.starts_with("$ ")).collect()
}

/// Without the line that tells what a look costs: on RabbitMQ 4 it is there from the second look on only, because the
/// first one gets letters without a count, as those of a classic queue are.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim_end).filter(|line| !line.starts_with("`orders.dead` is a quorum queue: "))
}

/// The letters of the page: 25 of a database that is down, 10 of orders without a customer, 5 that cannot be decoded.
async fn bury_those_of_the_page(bench: &Bench) {
    let id = |number: u64| format!("0198a2f0-7d5c-7e6e-a1a3-{number:012}");
    for number in 1..=40_u64 {
        let (reason, error, place, oldest, newest, letters) = match number {
            3..=7 => (Reason::Undecodable, "invalid varint".to_owned(), number - 3, 93, 61, 5),
            8..=17 => {
                let error = format!("order {number} has no customer: {}", id(number));
                (Reason::Rejected, error, number - 8, 95, 62, 10)
            }
            _ => {
                let error = format!("order {number}: connect to 10.0.3.{number}:5432: connection refused");
                let place = if number < 3 { number - 1 } else { number - 16 };
                (Reason::AttemptsExhausted, error, place, 100, 64, 25)
            }
        };
        let minutes = oldest - (oldest - newest) * place / (letters - 1);
        // Half a minute more: what the program shows are whole minutes.
        let ago = Duration::from_secs(minutes * 60 + 30);
        bench.publish("orders.dead", letter_of(&id(number), reason, &error, ago), b"an order").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_what_the_program_prints() {
    let bench = Bench::rabbitmq().await;
    bench.classic("orders").await;
    bench.quorum("orders.dead").await;
    bury_those_of_the_page(&bench).await;
    // They are given one message each, and keep it: what is printed does not depend on what they do.
    bench.channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
    let mut consumers = Vec::new();
    for tag in ["one", "other"] {
        let options = BasicConsumeOptions::default();
        let consumer = bench.channel.basic_consume("orders".into(), tag.into(), options, FieldTable::default()).await;
        consumers.push(consumer.unwrap());
    }
    let mut wrong = String::new();
    let poison = "0198a2f0-7d5c-7e6e-a1a3-000000000007";
    for command in [
        "fluffle dlq groups orders.dead".to_owned(),
        "fluffle dlq replay orders.dead --group 94c4f60f".to_owned(),
        "fluffle dlq list orders.dead --reason undecodable".to_owned(),
        format!("fluffle dlq discard orders.dead --id {poison} --export poison.ndjson --go"),
    ] {
        let words: Vec<&str> = command.split_whitespace().skip(2).collect();
        let mut child = bench.command(&words);
        let ran = finish(child.current_dir(bench.folder.path()).stdin(Stdio::null()).spawn().unwrap()).await;
        let printed = format!("{}{}", ran.err, ran.out);
        let printed: Vec<&str> = lines(&printed).collect();
        assert_eq!(ran.code, Some(0), "{ran:?}");
        if shown(&command) != printed {
            wrong.push_str(&format!("$ {command}\n{}\n", printed.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "the page does not show what was printed:\n{wrong}");
}

/// Messages that have left a quorum queue, and that its worker could not hand over yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_the_broker_s_own_worker_keeps_are_counted_where_the_page_says() {
    let broker = RabbitMq::builder().management().config("collect_statistics_interval = 500\n").start().unwrap();
    let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let text = |text: &str| AMQPValue::LongString(text.into());
    // There is no queue `orders`: it stands for one whose confirm was lost in an election.
    let retry = [
        ("x-queue-type", text("quorum")),
        ("x-message-ttl", 1.into()),
        ("x-overflow", text("reject-publish")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text("orders")),
    ];
    let mut table = FieldTable::default();
    for (name, value) in retry {
        table.insert(name.into(), value);
    }
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare("orders.retry".into(), options, table).await.unwrap();
    for _ in 0..3 {
        let options = BasicPublishOptions::default();
        let sent = channel.basic_publish("".into(), "orders.retry".into(), options, b"", BasicProperties::default());
        assert!(sent.await.unwrap().await.unwrap().is_ack());
    }
    let keys = ["messages", "messages_ready", "messages_unacknowledged", "messages_dlx"];
    let command =
        format!(r#"curl -s -u app "$RABBITMQ_API/api/queues/%2F/orders.retry" | jq '{{{}}}'"#, keys.join(", "));
    let shown: Value = serde_json::from_str(&shown(&command).join("\n")).unwrap();
    let url = format!("{}/api/queues/%2F/orders.retry", broker.api_url().unwrap());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let until = Instant::now() + LIMIT;
    loop {
        let answer = client.get(&url).basic_auth("guest", Some("guest")).send().await.unwrap();
        let told: Value = answer.json().await.unwrap();
        if keys.iter().all(|key| told[key] == shown[key]) {
            break;
        }
        assert!(Instant::now() < until, "the page shows {shown}; told is {told:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
