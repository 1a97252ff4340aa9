//! A broker with dead letters, and the program that is run on it.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use fluffle::wire::headers::{Attempt, DeadLetterInfo, HeaderValue, Origin, Reason};
use fluffle_broker::Broker;
use fluffle_harness::{RabbitMq, Vhost};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::*,
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use tempfile::TempDir;

/// The limit for everything that is waited for. If it is reached, something hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

enum Place {
    RabbitMq(Vhost<'static>),
    Embedded(Broker),
}

pub(crate) struct Bench {
    place: Place,
    pub(crate) connection: Connection,
    pub(crate) channel: Channel,
    /// For files of the test, and for the journals of the program.
    pub(crate) folder: TempDir,
}

/// What the program printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("the program prints UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Bench {
    pub(crate) async fn rabbitmq() -> Self {
        let vhost = RabbitMq::shared().expect("a broker").fresh_vhost().expect("a vhost");
        let url = vhost.url().to_owned();
        Self::new(Place::RabbitMq(vhost), &url).await
    }

    pub(crate) async fn embedded() -> Self {
        let broker = Broker::start().expect("a broker");
        let url = broker.url();
        Self::new(Place::Embedded(broker), &url).await
    }

    async fn new(place: Place, url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { place, connection, channel, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn url(&self) -> String {
        match &self.place {
            Place::RabbitMq(vhost) => vhost.url().to_owned(),
            Place::Embedded(broker) => broker.url(),
        }
    }

    /// The embedded broker, for its faults.
    pub(crate) fn broker(&self) -> &Broker {
        match &self.place {
            Place::RabbitMq(_) => panic!("the test is for the embedded broker"),
            Place::Embedded(broker) => broker,
        }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) async fn declare(&self, queue: &str, arguments: &[(&str, AMQPValue)]) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), options, table).await.unwrap();
    }

    pub(crate) async fn classic(&self, queue: &str) {
        self.declare(queue, &[]).await;
    }

    pub(crate) async fn quorum(&self, queue: &str) {
        self.declare(queue, &[("x-queue-type", AMQPValue::LongString("quorum".into()))]).await;
    }

    pub(crate) async fn publish(&self, queue: &str, properties: BasicProperties, body: &[u8]) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish("".into(), queue.into(), options, body, properties).await.unwrap();
        assert!(sent.await.unwrap().is_ack());
    }

    /// Puts a dead letter of Fluffle into `orders.dead`, which came from `orders`.
    pub(crate) async fn bury(&self, id: &str, reason: Reason, error: &str) {
        self.publish("orders.dead", letter(id, reason, error), format!("body of {id}").as_bytes()).await;
    }

    pub(crate) async fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap().message_count()
    }

    /// Waits until the queue has so many ready messages: the broker takes its time to process acks and requeues.
    pub(crate) async fn has(&self, queue: &str, count: u32) {
        let until = Instant::now() + LIMIT;
        loop {
            let ready = self.ready(queue).await;
            if ready == count {
                return;
            }
            assert!(Instant::now() < until, "`{queue}` has {ready} messages, not {count}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Takes all messages out of a queue.
    pub(crate) async fn drain(&self, queue: &str) -> Vec<Delivery> {
        let mut all = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(got) = self.channel.basic_get(queue.into(), options).await.unwrap() {
            all.push(got.delivery);
        }
        all
    }

    pub(crate) async fn drain_ids(&self, queue: &str) -> Vec<String> {
        self.drain(queue).await.iter().map(id_of).collect()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fluffle"));
        command.arg("dlq").args(arguments).env_remove("RABBITMQ_API").env("AMQP_URL", self.url());
        command.env("XDG_STATE_HOME", self.folder.path().join("state"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `fluffle dlq` to its end.
    pub(crate) async fn dlq(&self, arguments: &[&str]) -> Ran {
        finish(self.command(arguments).spawn().unwrap()).await
    }

    /// Whether the program has left a journal.
    pub(crate) fn has_journal(&self) -> bool {
        !self.journals().is_empty()
    }

    /// Whether no journal is of a replay that ended early. One may be left of a replay that is over, with the letters
    /// that were acked in the moment of a kill.
    pub(crate) fn is_over(&self) -> bool {
        self.journals().iter().all(|path| {
            let journal = fs::read_to_string(path).unwrap();
            let state: Value = serde_json::from_str(journal.lines().last().unwrap()).unwrap();
            state["state"]["replay"].is_null()
        })
    }

    fn journals(&self) -> Vec<PathBuf> {
        let entries = self.folder.path().join("state/fluffle").read_dir();
        let paths = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|end| end == "journal")).collect()
    }
}

pub(crate) async fn finish(child: Child) -> Ran {
    let pid = child.id().to_string();
    let waiting = tokio::task::spawn_blocking(move || child.wait_with_output());
    match tokio::time::timeout(LIMIT * 5, waiting).await {
        Ok(output) => Ran::of(output.unwrap().unwrap()),
        Err(_) => {
            let _ = Command::new("kill").args(["-9", &pid]).status();
            panic!("the program hangs");
        }
    }
}

/// The properties of a dead letter of Fluffle that came from `orders`.
pub(crate) fn letter(id: &str, reason: Reason, error: &str) -> BasicProperties {
    letter_of(id, reason, error, Duration::from_secs(7200))
}

/// The same, first delivered so long ago.
pub(crate) fn letter_of(id: &str, reason: Reason, error: &str, ago: Duration) -> BasicProperties {
    let info = DeadLetterInfo {
        reason,
        error: error.to_owned(),
        attempts: Attempt::new(5).unwrap(),
        origin: Origin {
            exchange: "shop".into(),
            key: "order.placed".into(),
            queue: "orders".into(),
            first_seen: std::time::SystemTime::now() - ago,
        },
    };
    let mut table = FieldTable::default();
    for (name, value) in info.headers() {
        let value = match value {
            HeaderValue::Str(text) => AMQPValue::LongString(text.into()),
            HeaderValue::Int(number) => AMQPValue::LongLongInt(number),
        };
        table.insert(name.into(), value);
    }
    table.insert("tenant".into(), AMQPValue::LongString("eu".into()));
    BasicProperties::default()
        .with_message_id(id.into())
        .with_type("shop.Order".into())
        .with_delivery_mode(2)
        .with_headers(table)
}

pub(crate) fn id_of(delivery: &Delivery) -> String {
    delivery.properties.message_id().as_ref().map_or("-".to_owned(), |id| id.to_string())
}

pub(crate) fn header(delivery: &Delivery, name: &str) -> Option<String> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        other => Some(format!("{other:?}")),
    }
}

/// Each test on RabbitMQ and on the embedded broker.
#[macro_export]
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_rabbitmq {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::Bench::rabbitmq().await).await; })*
        }
        mod on_the_embedded_broker {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::Bench::embedded().await).await; })*
        }
    };
}
