//! Shared by the tests on a real broker: a scripted handler with a record, raw messages, waiting with a deadline.
//! Compiled for each of the binaries `it`, `broker` and `broker_cluster`; none of them uses everything.
#![allow(dead_code, unreachable_pub, unused_imports, unused_macros)]

mod envelope;
pub mod log_lines;
mod numbers;
mod place;
pub mod process;
mod queue;
mod tree;

use std::{
    future::Future,
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fluffle::{
    amqp::{ConsumerStats, ServiceError},
    prelude::*,
};
use lapin::{BasicProperties, Connection, ConnectionProperties, options::BasicPublishOptions};
use tokio::{sync::mpsc, time::timeout};

pub use envelope::{batch, encoded, labels, send_batch};
pub use numbers::{Numbers, publish_numbers};
pub use place::{OpenConnection, Place, vhost};
pub use queue::{app, app_with_q, counts, nothing_left, publish, publish_before_consuming};
pub use tree::{children, node};

/// The longest any single wait may take before the test has failed.
pub const SOON: Duration = Duration::from_secs(30);

/// A broker configuration that reconnects fast, so that tests do not wait for backoffs.
pub fn broker(url: &str) -> Broker {
    Broker::new(url).expect("a URI").reconnect(fast())
}

/// Waits of 10 to 200 ms.
pub fn fast() -> Backoff {
    Backoff::exponential(Duration::from_millis(10), Duration::from_millis(200)).expect("a backoff")
}

/// `attempts` in all, 50 ms apart.
pub fn retry(attempts: u32) -> Retry {
    Retry::exponential(attempts, Duration::from_millis(50), 1.0).expect("a policy")
}

/// The broker of the service as it says itself, and its version.
pub fn version(service: &Service) -> (String, (u32, u32)) {
    let said = service.connections()[0].broker.clone().expect("the broker says what it is");
    let mut numbers = said.split([' ', '.']).skip(1).map(|part| part.parse::<u32>().expect("a number"));
    let version = (numbers.next().expect("a version"), numbers.next().expect("a minor version"));
    (said, version)
}

/// The future's output. Fails the test if that takes longer than [`SOON`].
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    match timeout(SOON, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {SOON:?}"),
    }
}

/// Calls `check` every 20 ms until it returns true. Fails the test after [`SOON`].
///
/// For conditions that no event reports, such as those at the broker.
pub async fn until(what: &str, mut check: impl FnMut() -> bool) {
    soon(what, async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !check() {
            look.tick().await;
        }
    })
    .await;
}

/// Starts the app and waits until everything runs.
pub async fn started(app: App) -> Service {
    let service = app.start().await.expect("it starts");
    soon("ready", service.ready()).await.expect("it runs");
    service
}

/// The counts of a service's first consumer.
pub fn stats(service: &Service) -> ConsumerStats {
    service.consumers()[0].1
}

/// Starts the app, which must be refused because settings exclude one another. Returns the error's text.
pub async fn contradiction(app: App) -> String {
    match soon("an answer", app.start()).await.err().expect("it is refused") {
        fluffle::Error::Service(error @ ServiceError::Contradiction { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The key of a message: its first letter. Panics for the message `!`.
pub fn key(text: &String) -> char {
    assert_ne!(text, "!", "no key");
    text.chars().next().unwrap()
}

/// One delivery as a handler saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub text: String,
    pub attempt: u32,
    pub redelivered: bool,
    pub instance: usize,
}

/// What a scripted handler does with a delivery.
pub type Script = Arc<dyn Fn(&Seen) -> Act + Send + Sync>;

pub enum Act {
    Ok,
    Err(Failure),
    Panic,
    /// Blocks the thread.
    Block(Duration),
    /// Never answers.
    Hang,
    /// Answers when the test notifies this.
    Wait(Arc<tokio::sync::Notify>),
}

/// A recorder: the script of the handlers, and where they report what they saw.
pub struct Recorder {
    script: Script,
    seen: mpsc::UnboundedSender<Seen>,
    instances: Arc<AtomicUsize>,
}

pub type Record = mpsc::UnboundedReceiver<Seen>;

/// A factory of handlers that do what `script` says, and the record of what they were given.
pub fn handlers(
    script: impl Fn(&Seen) -> Act + Send + Sync + 'static,
) -> (impl Fn() -> Scripted + Send + Sync + 'static, Record) {
    let (seen, record) = mpsc::unbounded_channel();
    let script: Script = Arc::new(script);
    let instances = Arc::new(AtomicUsize::new(0));
    let factory = move || Scripted {
        script: Arc::clone(&script),
        seen: seen.clone(),
        instance: instances.fetch_add(1, Ordering::SeqCst),
    };
    (factory, record)
}

/// The next delivery that a handler saw.
pub async fn next(record: &mut Record) -> Seen {
    soon("a delivery", record.recv()).await.expect("handlers are alive")
}

pub struct Scripted {
    script: Script,
    seen: mpsc::UnboundedSender<Seen>,
    instance: usize,
}

impl Actor for Scripted {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Scripted {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let seen = Seen {
            text: text.clone(),
            attempt: text.attempt(),
            redelivered: text.redelivered(),
            instance: self.instance,
        };
        let act = (self.script)(&seen);
        // Created before the test learns of the delivery, because `notify_waiters` wakes every `Notified` that exists,
        // even if it was not polled.
        let told = if let Act::Wait(go) = &act { Some(Arc::clone(go).notified_owned()) } else { None };
        self.seen.send(seen).expect("the test listens");
        match act {
            Act::Ok => Box::pin(async { Ok(()) }),
            Act::Err(failure) => Box::pin(async { Err(failure) }),
            Act::Panic => panic!("scripted panic"),
            Act::Block(time) => {
                std::thread::sleep(time);
                Box::pin(async { Ok(()) })
            }
            Act::Hang => Box::pin(std::future::pending()),
            Act::Wait(_) => Box::pin(async move {
                if let Some(told) = told {
                    told.await;
                }
                Ok(())
            }),
        }
    }
}

/// A message taken out of a queue.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub body: Vec<u8>,
    pub properties: BasicProperties,
}

impl DeadLetter {
    pub fn header(&self, name: &str) -> Option<String> {
        let value = self.properties.headers().as_ref()?.inner().get(name)?;
        match value {
            lapin::types::AMQPValue::LongString(text) => Some(text.to_string()),
            lapin::types::AMQPValue::LongLongInt(number) => Some(number.to_string()),
            other => Some(format!("{other:?}")),
        }
    }
}

/// A plain lapin client, which uses none of the code under test.
pub struct Raw {
    connection: Connection,
    channel: lapin::Channel,
}

impl Raw {
    pub async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.expect("connected");
        let channel = connection.create_channel().await.expect("a channel");
        Self { connection, channel }
    }

    pub fn channel(&self) -> &lapin::Channel {
        &self.channel
    }

    pub async fn fresh_channel(&self) -> lapin::Channel {
        self.connection.create_channel().await.expect("a channel")
    }

    /// Publishes a body to a queue through the default exchange.
    pub async fn put(&self, queue: &str, body: &[u8], properties: BasicProperties) {
        self.channel
            .basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties)
            .await
            .expect("published");
    }

    /// Takes the next message out of a queue, waiting for it.
    pub async fn take(&self, queue: &str) -> DeadLetter {
        soon(&format!("a message in {queue}"), async {
            let mut look = tokio::time::interval(Duration::from_millis(20));
            loop {
                let options = lapin::options::BasicGetOptions { no_ack: true };
                if let Some(message) = self.channel.basic_get(queue.into(), options).await.expect("basic.get") {
                    let delivery = message.delivery;
                    return DeadLetter { body: delivery.data, properties: delivery.properties };
                }
                look.tick().await;
            }
        })
        .await
    }

    /// Messages ready in a queue.
    pub async fn ready(&self, queue: &str) -> u32 {
        let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        let channel = self.fresh_channel().await;
        channel
            .queue_declare(queue.into(), options, Default::default())
            .await
            .expect("the queue exists")
            .message_count()
    }

    /// Replaces a queue by one that is always full, so that every message to it is nacked.
    pub async fn let_nothing_into(&self, queue: &str) {
        self.delete(queue).await;
        let mut full = lapin::types::FieldTable::default();
        full.insert("x-max-length".into(), 0.into());
        full.insert("x-overflow".into(), lapin::types::AMQPValue::LongString("reject-publish".into()));
        self.channel.queue_declare(queue.into(), Default::default(), full).await.expect("declared");
    }

    /// Deletes a queue with all that is in it.
    pub async fn delete(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), Default::default()).await.expect("deleted");
    }
}

/// Counts how often each id was seen.
#[derive(Clone, Default)]
pub struct Tally(Arc<Mutex<std::collections::HashMap<String, usize>>>);

impl Tally {
    pub fn add(&self, id: &str) {
        *self.0.lock().unwrap().entry(id.to_owned()).or_insert(0) += 1;
    }

    pub fn distinct(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn total(&self) -> usize {
        self.0.lock().unwrap().values().sum()
    }

    pub fn has(&self, id: &str) -> bool {
        self.0.lock().unwrap().contains_key(id)
    }
}

/// What the clients of a [`forward`]ed port have sent, by connection.
pub type Heard = Arc<Mutex<Vec<Arc<Mutex<Vec<u8>>>>>>;

/// Forwards every connection to `listener` to `port` on this machine, until the test's process ends.
pub fn forward(listener: std::net::TcpListener, port: u16) -> Heard {
    let heard = Heard::default();
    let all = Arc::clone(&heard);
    std::thread::spawn(move || {
        for inward in listener.incoming() {
            let (Ok(inward), Ok(outward)) = (inward, std::net::TcpStream::connect(("127.0.0.1", port))) else { return };
            let sent = Arc::default();
            all.lock().unwrap().push(Arc::clone(&sent));
            let (inward_too, outward_too) = (inward.try_clone().unwrap(), outward.try_clone().unwrap());
            std::thread::spawn(move || pass(inward, outward, &sent));
            std::thread::spawn(move || pass(outward_too, inward_too, &Mutex::default()));
        }
    });
    heard
}

/// Copies bytes in one direction until either side closes the connection.
fn pass(mut from: std::net::TcpStream, mut to: std::net::TcpStream, heard: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        heard.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
