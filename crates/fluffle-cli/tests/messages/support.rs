//! The program as a child process, and a client of the broker beside it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use fluffle_harness::RabbitMq;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

/// The limit for anything that a test waits for. If it takes longer, it hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// What a run of the program printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) code: Option<i32>,
}

impl Ended {
    /// Each line of standard output as JSON.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{self:?}"))).collect()
    }
}

/// A running `fluffle`, which is killed if the test ends before it.
pub(crate) struct Running {
    child: Child,
    out: Receiver<String>,
    err: Receiver<String>,
    said: String,
    complained: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { return };
            if send.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Starts `fluffle` with these arguments.
pub(crate) fn start(arguments: &[&str]) -> Running {
    start_with_input(arguments, b"")
}

/// Starts `fluffle` with these arguments, and gives it this input.
pub(crate) fn start_with_input(arguments: &[&str], input: &'static [u8]) -> Running {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fluffle"));
    command.args(arguments).env_remove("AMQP_URL").env_remove("RABBITMQ_API").env_remove("RUST_LOG");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    thread::spawn(move || {
        let _ = stdin.write_all(input);
    });
    let (out, err) = (lines(child.stdout.take().unwrap()), lines(child.stderr.take().unwrap()));
    Running { child, out, err, said: String::new(), complained: String::new() }
}

/// Runs `fluffle` to its end.
pub(crate) fn run(arguments: &[&str]) -> Ended {
    start(arguments).end()
}

impl Running {
    /// Waits for a line of standard error with this text.
    pub(crate) fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.err.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.complained.push_str(&line);
                    self.complained.push('\n');
                    if line.contains(text) {
                        return;
                    }
                }
                Err(why) => panic!("no `{text}` ({why}): {}", self.complained),
            }
        }
    }

    /// Waits for a line of standard output.
    pub(crate) fn line(&mut self) -> String {
        let line = self.out.recv_timeout(LIMIT);
        let line = line.unwrap_or_else(|why| panic!("no line ({why}): {}", self.complained));
        self.said.push_str(&line);
        self.said.push('\n');
        line
    }

    /// Sends a signal, as Ctrl-C does: `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        let deadline = Instant::now() + LIMIT;
        let rest = |lines: &Receiver<String>, text: &mut String| {
            loop {
                match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(line) => text.extend([line.as_str(), "\n"]),
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => panic!("it hangs: {text}"),
                }
            }
        };
        rest(&self.out, &mut self.said);
        rest(&self.err, &mut self.complained);
        let status: ExitStatus = self.child.wait().unwrap();
        let (out, err) = (std::mem::take(&mut self.said), std::mem::take(&mut self.complained));
        Ended { out, err, code: status.code() }
    }
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

    pub(crate) fn exchange(&self, name: &str, kind: ExchangeKind) {
        let declared =
            self.channel.exchange_declare(name.into(), kind, ExchangeDeclareOptions::default(), FieldTable::default());
        self.runtime.block_on(declared).unwrap();
    }

    /// A durable queue of this type.
    pub(crate) fn queue(&self, name: &str, kind: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.runtime.block_on(self.channel.queue_declare(name.into(), options, arguments)).unwrap();
    }

    pub(crate) fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let options = QueueBindOptions::default();
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        self.runtime.block_on(self.channel.queue_bind(queue, exchange, key, options, FieldTable::default())).unwrap();
    }

    /// Publishes, and waits for the confirm.
    pub(crate) fn publish(&self, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) {
        self.runtime.block_on(async {
            let options = BasicPublishOptions::default();
            let sent = self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
            assert!(sent.unwrap().await.unwrap().is_ack());
        });
    }

    /// How many messages are ready in the queue.
    pub(crate) fn ready(&self, queue: &str) -> u32 {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = self.channel.queue_declare(queue.into(), passive, FieldTable::default());
        self.runtime.block_on(declared).unwrap().message_count()
    }

    /// Waits until this many messages are ready in the queue.
    pub(crate) fn wait_ready(&self, queue: &str, count: u32) {
        let deadline = Instant::now() + LIMIT;
        while self.ready(queue) != count {
            assert!(Instant::now() < deadline, "{queue} has {}, not {count}", self.ready(queue));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until at least this many messages are ready in the queue.
    pub(crate) fn wait_at_least(&self, queue: &str, count: u32) {
        let deadline = Instant::now() + LIMIT;
        while self.ready(queue) < count {
            assert!(Instant::now() < deadline, "{queue} has {}, not {count}", self.ready(queue));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// A consumer that has one message in hand, and answers for none.
    pub(crate) fn consume(&self, queue: &str) -> lapin::Consumer {
        self.runtime.block_on(async {
            self.channel.basic_qos(1, BasicQosOptions::default()).await.unwrap();
            let options = BasicConsumeOptions::default();
            self.channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap()
        })
    }

    pub(crate) fn delete(&self, queue: &str) {
        self.runtime.block_on(self.channel.queue_delete(queue.into(), QueueDeleteOptions::default())).unwrap();
    }

    /// Takes the next message out of the queue.
    pub(crate) fn take(&self, queue: &str) -> Option<lapin::message::BasicGetMessage> {
        self.runtime.block_on(self.channel.basic_get(queue.into(), BasicGetOptions { no_ack: true })).unwrap()
    }
}

/// Runs the test on the embedded broker and on RabbitMQ, each with a client of its own.
pub(crate) fn on_both(test: impl Fn(&str, &Client)) {
    let embedded = fluffle_broker::Broker::start().unwrap();
    test(&embedded.url(), &Client::connect(&embedded.url()));
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    test(vhost.url(), &Client::connect(vhost.url()));
}

/// Properties of a persistent message with this id.
pub(crate) fn properties(id: &str) -> BasicProperties {
    BasicProperties::default().with_message_id(id.into()).with_delivery_mode(2)
}
