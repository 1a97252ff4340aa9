//! Runs the program, and sets a broker up.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use tempfile::NamedTempFile;

/// The limit for what a test waits for.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What a run printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: i32,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// `status` of the items, by kind and name.
    pub(crate) fn statuses(&self) -> BTreeMap<String, String> {
        let json = self.json();
        let plan = if json["plan"].is_null() { &json } else { &json["plan"] };
        let items = plan["items"].as_array().unwrap_or_else(|| panic!("{self:?}"));
        let name = |item: &Value| match item["kind"].as_str().unwrap() {
            "binding" => format!("binding {} {} {}", word(&item["from"]), word(&item["to"]), word(&item["key"])),
            kind => format!("{kind} {}", word(&item["name"])),
        };
        items.iter().map(|item| (name(item), word(&item["status"]))).collect()
    }

    /// The item of this name.
    pub(crate) fn item(&self, name: &str) -> Value {
        let json = self.json();
        let items = json["items"].as_array().unwrap();
        items.iter().find(|item| item["name"] == name).unwrap_or_else(|| panic!("no {name}: {json:#}")).clone()
    }
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Runs `fluffle topology` to its end, within the limit.
pub(crate) fn topology(arguments: &[&str]) -> Run {
    let mut command = Command::new("timeout");
    command.arg(LIMIT.as_secs().to_string()).arg(env!("CARGO_BIN_EXE_fluffle")).arg("topology").args(arguments);
    command.env_remove("AMQP_URL").env_remove("RABBITMQ_API").stdin(Stdio::null());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Run { out: text(&output.stdout), err: text(&output.stderr), code: output.status.code().unwrap_or(-1) }
}

/// A file with this text.
pub(crate) fn file(text: &str, suffix: &str) -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(suffix).tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

pub(crate) fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

/// A connection that sets a broker up. It lives as long as this value.
pub(crate) struct Hand {
    runtime: tokio::runtime::Runtime,
    _connection: Connection,
    channel: Channel,
}

pub(crate) fn hand(url: &str) -> Hand {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (connection, channel) = runtime.block_on(async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        (connection, channel)
    });
    Hand { runtime, _connection: connection, channel }
}

/// Arguments of a declaration.
pub(crate) fn arguments<const N: usize>(pairs: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert(name.into(), value);
    }
    table
}

pub(crate) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

impl Hand {
    pub(crate) fn exchange(&self, name: &str, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        self.runtime
            .block_on(self.channel.exchange_declare(name.into(), kind, options, FieldTable::default()))
            .unwrap();
    }

    pub(crate) fn queue(&self, name: &str, arguments: FieldTable) {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.declare(name, options, arguments);
    }

    pub(crate) fn declare(&self, name: &str, options: QueueDeclareOptions, arguments: FieldTable) {
        self.runtime.block_on(self.channel.queue_declare(name.into(), options, arguments)).unwrap();
    }

    pub(crate) fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let bound = self.channel.queue_bind(
            queue.into(),
            exchange.into(),
            key.into(),
            Default::default(),
            FieldTable::default(),
        );
        self.runtime.block_on(bound).unwrap();
    }

    pub(crate) fn unbind(&self, queue: &str, exchange: &str, key: &str) {
        let unbound = self.channel.queue_unbind(queue.into(), exchange.into(), key.into(), FieldTable::default());
        self.runtime.block_on(unbound).unwrap();
    }

    /// Publishes one message to the queue, and waits for its confirm.
    pub(crate) fn publish(&self, queue: &str) {
        self.runtime.block_on(async {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let published =
                self.channel.basic_publish("".into(), queue.into(), options, b"m", BasicProperties::default()).await;
            let confirmation = published.unwrap().await.unwrap();
            assert!(confirmation.is_ack() && confirmation.take_message().is_none(), "not routed");
        });
    }

    /// Takes one message, which stays unacknowledged.
    pub(crate) fn get(&self, queue: &str) {
        let got = self.runtime.block_on(self.channel.basic_get(queue.into(), Default::default())).unwrap();
        assert!(got.is_some(), "{queue} is empty");
    }

    pub(crate) fn delete_queue(&self, name: &str) {
        self.runtime.block_on(self.channel.queue_delete(name.into(), Default::default())).unwrap();
    }
}
