//! A channel, with short calls for what behaviours do most.
//!
//! A method that is named after an AMQP method returns a `Result` if the broker may refuse it; the other methods panic
//! on a refusal.

use std::ops::Deref;

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, Error, ErrorKind, ExchangeKind, Queue,
    message::BasicGetMessage, options::*, types::FieldTable,
};

use crate::{IntoValue, Subscription, within};

/// A reply code and a reply text: a refusal in AMQP.
pub type Refusal = (u16, String);

/// The code and text with which the broker refused.
///
/// # Panics
///
/// If the broker did not refuse, or something else went wrong.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> Refusal {
    let error = result.expect_err("the broker should have refused");
    reason(&error)
}

/// The reply code and text of an error.
pub(crate) fn reason(error: &Error) -> Refusal {
    match error.kind() {
        ErrorKind::ProtocolError(error) => (error.get_id(), error.get_message().to_string()),
        other => panic!("the broker should have refused, but: {other:?}"),
    }
}

/// A body as text.
pub fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// A lapin channel with shorter calls. It dereferences to the lapin channel.
#[derive(Clone)]
pub struct Chan(Channel);

impl Deref for Chan {
    type Target = Channel;

    fn deref(&self) -> &Channel {
        &self.0
    }
}

impl Chan {
    /// Opens a channel.
    pub async fn open(connection: &Connection) -> Self {
        Self(within("a channel", connection.create_channel()).await.unwrap())
    }

    /// Declares a durable queue without arguments.
    pub async fn queue(&self, name: &str) {
        self.queue_with(name, FieldTable::default()).await;
    }

    /// Declares a durable queue with arguments.
    pub async fn queue_with(&self, name: &str, arguments: FieldTable) {
        self.declare(name, QueueDeclareOptions::durable(), arguments).await.unwrap();
    }

    /// Declares a stream without further arguments.
    pub async fn stream(&self, name: &str) {
        self.stream_with(name, FieldTable::default()).await;
    }

    /// Declares a stream with further arguments.
    pub async fn stream_with(&self, name: &str, mut arguments: FieldTable) {
        arguments.insert("x-queue-type".into(), "stream".into_value());
        self.queue_with(name, arguments).await;
    }

    /// `queue.declare`.
    pub async fn declare(
        &self,
        name: &str,
        options: QueueDeclareOptions,
        arguments: FieldTable,
    ) -> lapin::Result<Queue> {
        within("queue.declare-ok", self.queue_declare(name.into(), options, arguments)).await
    }

    /// `queue.declare`, passive.
    pub async fn inspect(&self, name: &str) -> lapin::Result<Queue> {
        self.declare(name, QueueDeclareOptions::default().passive(), FieldTable::default()).await
    }

    /// How many messages are ready in a queue.
    pub async fn ready(&self, name: &str) -> u32 {
        self.inspect(name).await.unwrap().message_count()
    }

    /// Declares a transient exchange.
    pub async fn exchange(&self, name: &str, kind: ExchangeKind) {
        self.exchange_with(name, kind, FieldTable::default()).await;
    }

    /// Declares a transient exchange with arguments.
    pub async fn exchange_with(&self, name: &str, kind: ExchangeKind, arguments: FieldTable) {
        self.declare_exchange(name, kind, ExchangeDeclareOptions::default(), arguments).await.unwrap();
    }

    /// `exchange.declare`.
    pub async fn declare_exchange(
        &self,
        name: &str,
        kind: ExchangeKind,
        options: ExchangeDeclareOptions,
        arguments: FieldTable,
    ) -> lapin::Result<()> {
        within("exchange.declare-ok", self.exchange_declare(name.into(), kind, options, arguments)).await
    }

    /// `queue.bind`.
    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) -> lapin::Result<()> {
        self.bind_with(queue, exchange, key, FieldTable::default()).await
    }

    /// `queue.bind` with arguments.
    pub async fn bind_with(&self, queue: &str, exchange: &str, key: &str, arguments: FieldTable) -> lapin::Result<()> {
        let bound = self.queue_bind(queue.into(), exchange.into(), key.into(), Default::default(), arguments);
        within("queue.bind-ok", bound).await
    }

    /// Publishes and waits for the confirm, if the channel is in confirm mode.
    pub async fn publish(&self, exchange: &str, key: &str, body: &str) -> lapin::Result<Confirmation> {
        self.publish_with(exchange, key, body, BasicProperties::default()).await
    }

    /// Like [`publish`](Self::publish), with properties.
    pub async fn publish_with(
        &self,
        exchange: &str,
        key: &str,
        body: &str,
        properties: BasicProperties,
    ) -> lapin::Result<Confirmation> {
        let options = BasicPublishOptions::default();
        let sent = self.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await?;
        within("a confirm", sent).await
    }

    /// Publishes each body to a queue through the default exchange, in order.
    pub async fn fill(&self, queue: &str, bodies: &[&str]) {
        for body in bodies {
            self.publish("", queue, body).await.unwrap();
        }
    }

    /// `basic.get`, to be acknowledged.
    pub async fn get(&self, queue: &str) -> Option<BasicGetMessage> {
        within("basic.get-ok", self.basic_get(queue.into(), BasicGetOptions::default())).await.unwrap()
    }

    /// Takes all ready messages of a queue, and returns their bodies.
    pub async fn drain(&self, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        while let Some(message) = self.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await.unwrap() {
            bodies.push(text(&message.data));
        }
        bodies
    }

    /// Takes the next `count` messages of a queue, checks that there are no more, and returns their bodies.
    ///
    /// Use this where [`drain`](Self::drain) may look too early: a broker may answer `channel.close` before the
    /// channel's messages are back in their queue.
    pub async fn await_only(&self, queue: &str, count: usize) -> Vec<String> {
        let mut consumer = self.consume_no_ack(queue).await;
        let bodies = consumer.bodies(count).await;
        consumer.is_quiet().await;
        consumer.cancel().await;
        bodies
    }

    /// Consumes from a queue, with acknowledgements.
    pub async fn consume(&self, queue: &str) -> Subscription {
        self.consume_with(queue, "", BasicConsumeOptions::default(), FieldTable::default()).await.unwrap()
    }

    /// Consumes from a queue without acknowledgements.
    pub async fn consume_no_ack(&self, queue: &str) -> Subscription {
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        self.consume_with(queue, "", options, FieldTable::default()).await.unwrap()
    }

    /// Consumes from a stream, from a place in it: `x-stream-offset`. The prefetch must be set.
    pub async fn read(&self, stream: &str, from: impl IntoValue) -> Subscription {
        let arguments = crate::table! { "x-stream-offset" => from };
        self.consume_with(stream, "", BasicConsumeOptions::default(), arguments).await.unwrap()
    }

    /// `basic.consume`.
    pub async fn consume_with(
        &self,
        queue: &str,
        tag: &str,
        options: BasicConsumeOptions,
        arguments: FieldTable,
    ) -> lapin::Result<Subscription> {
        let consumer = self.basic_consume(queue.into(), tag.into(), options, arguments);
        Ok(Subscription::new(self.clone(), within("basic.consume-ok", consumer).await?))
    }

    /// `basic.qos`.
    pub async fn prefetch(&self, count: u16, global: bool) {
        within("basic.qos-ok", self.basic_qos(count, BasicQosOptions { global })).await.unwrap();
    }

    /// Acknowledges one message.
    pub async fn ack(&self, tag: u64) {
        self.basic_ack(tag, BasicAckOptions::default()).await.unwrap();
    }

    /// Acknowledges all messages up to this one.
    pub async fn ack_up_to(&self, tag: u64) {
        self.basic_ack(tag, BasicAckOptions { multiple: true }).await.unwrap();
    }

    /// `basic.reject`.
    pub async fn reject(&self, tag: u64, requeue: bool) {
        self.basic_reject(tag, BasicRejectOptions { requeue }).await.unwrap();
    }

    /// `basic.nack`.
    pub async fn nack(&self, tag: u64, multiple: bool, requeue: bool) {
        self.basic_nack(tag, BasicNackOptions { multiple, requeue }).await.unwrap();
    }

    /// A consumer on an empty queue, which gets the reason if the broker closes the channel. Methods without an answer,
    /// such as `basic.ack`, cannot report it.
    pub async fn sentinel(&self) -> Subscription {
        let queue = self.declare("", QueueDeclareOptions::exclusive(), FieldTable::default()).await.unwrap();
        self.consume_no_ack(queue.name().as_str()).await
    }

    /// Closes the channel. Its unsettled messages go back to the queues.
    pub async fn quit(&self) {
        within("channel.close-ok", self.close(200, "done".into())).await.unwrap();
    }
}
