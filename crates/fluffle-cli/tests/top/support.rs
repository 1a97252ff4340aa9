//! The program as a child process, and a client of the broker beside it.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

/// The limit for anything that a test waits for.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);

/// What a run printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) fn top(arguments: &[&str]) -> Run {
    // coreutils' timeout ends a run that hangs.
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", "60", env!("CARGO_BIN_EXE_fluffle"), "top"]).args(arguments);
    for variable in ["AMQP_URL", "RABBITMQ_API", "AMQP_PASSWORD_FILE", "RUST_LOG"] {
        command.env_remove(variable);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code().expect("it hung");
    Run { code, out: text(&output.stdout), err: text(&output.stderr) }
}

/// One look.
pub(crate) fn json(arguments: &[&str]) -> Value {
    let run = top(&[arguments, &["--once", "--json"]].concat());
    serde_json::from_str(&run.out).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

/// Looks until `enough`: the management API tells of changes some seconds late.
pub(crate) fn json_until(arguments: &[&str], enough: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let look = json(arguments);
        if enough(&look) {
            return look;
        }
        assert!(Instant::now() < deadline, "{look:#}");
        thread::sleep(Duration::from_millis(300));
    }
}

/// This queue of a look.
pub(crate) fn queue<'a>(look: &'a Value, name: &str) -> &'a Value {
    look["queues"].as_array().unwrap().iter().find(|queue| queue["name"] == name).unwrap_or(&Value::Null)
}

/// A client of the broker.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    _connection: Connection,
    channel: Channel,
}

impl Client {
    pub(crate) fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            (connection, channel)
        });
        Self { runtime, _connection: connection, channel }
    }

    /// A durable queue of this type, with so many messages that were sent 100 s ago.
    pub(crate) fn queue(&self, name: &str, kind: &str, messages: usize) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let sent = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - 100;
        let properties = BasicProperties::default().with_timestamp(sent).with_delivery_mode(2);
        self.runtime.block_on(async {
            self.channel.queue_declare(name.into(), options, arguments).await.unwrap();
            for _ in 0..messages {
                let options = BasicPublishOptions::default();
                let sent = self.channel.basic_publish("".into(), name.into(), options, b"x", properties.clone()).await;
                assert!(sent.unwrap().await.unwrap().is_ack());
            }
        });
    }
}
