//! The broker, with a fresh queue for each round.

use std::{sync::Arc, time::Duration};

use fluffle_harness::Broker;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::{
    runtime::{self, Runtime},
    time::{Instant, sleep},
};

use crate::{cpu::Processes, failure::Failure, scenario::Terms};

/// How long the broker may take to process everything a contestant did.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);

/// The pause between two looks at a queue.
const POLL: Duration = Duration::from_millis(10);

/// The broker that `AMQP_URL` names, or a private node for the duration of the comparison.
pub(crate) struct Node {
    broker: Arc<Broker>,
    runtime: Runtime,
    connection: Connection,
    queues: u32,
}

impl Node {
    pub(crate) fn start() -> Result<Self, Failure> {
        let broker = Arc::new(Broker::from_env_or_private()?);
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let connection = runtime.block_on(Connection::connect(&broker.url(), ConnectionProperties::default()))?;
        Ok(Self { broker, runtime, connection, queues: 0 })
    }

    pub(crate) fn url(&self) -> String {
        self.broker.url()
    }

    pub(crate) fn processes(&self) -> Processes {
        Processes::new(self.broker.private("measuring its processor time").ok().and_then(|node| node.pid()))
    }

    /// The traffic it receives, if it is a private node.
    pub(crate) fn traffic(&self) -> Option<Traffic> {
        self.broker.private("counting bytes").ok()?;
        Some(Traffic(Arc::clone(&self.broker)))
    }

    /// Its version, if it is a private node.
    pub(crate) fn version(&self) -> Option<String> {
        self.broker.private("asking for its version").ok()?.eval("rabbit_misc:version()").ok()
    }

    /// Declares an empty queue with a unique name. It is durable, because later brokers support no other queue shared
    /// between connections. Whether messages are written to the disk depends on the messages.
    pub(crate) fn fresh_queue(&mut self, terms: &Terms) -> Result<String, Failure> {
        self.queues += 1;
        let name = format!("fluffle.compare.{}.{}", std::process::id(), self.queues);
        let kind = if terms.durable { "quorum" } else { "classic" };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        self.with_channel(async |channel| {
            channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
            Ok(())
        })?;
        Ok(name)
    }

    /// Deletes the queue, and Fluffle's dead-letter queue for it, when everything delivered from it has been
    /// acknowledged.
    ///
    /// # Errors
    ///
    /// If something was not acknowledged, and so is back in the queue after the consumer has gone. Acknowledgements
    /// that a channel has not passed on to a quorum queue end with the channel, so up to a prefetch of messages may be
    /// back.
    pub(crate) fn remove_queue(&self, name: &str, terms: &Terms) -> Result<(), Failure> {
        let returned = if terms.durable { terms.prefetch.into() } else { 0 };
        self.with_channel(async |channel| {
            let deadline = Instant::now() + SETTLED_WITHIN;
            while let Some(left) = unsettled(&channel, name, returned).await? {
                if Instant::now() >= deadline {
                    return Err(format!("{left} within {SETTLED_WITHIN:?} of the end").into());
                }
                sleep(POLL).await;
            }
            let options = QueueDeleteOptions::default();
            channel.queue_delete(name.into(), options).await?;
            match channel.queue_delete(format!("{name}.dead").into(), options).await? {
                0 => Ok(()),
                dead => Err(format!("{dead} messages ended as dead letters").into()),
            }
        })
    }

    /// Uses a new channel for each call, because an error closes the channel.
    fn with_channel<T>(&self, work: impl AsyncFnOnce(Channel) -> Result<T, Failure>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            let channel = self.connection.create_channel().await?;
            let done = work(channel.clone()).await?;
            channel.close(200, "done".into()).await?;
            Ok(done)
        })
    }
}

/// The bytes the node has received on the currently open connections.
#[derive(Debug)]
pub(crate) struct Traffic(Arc<Broker>);

impl Traffic {
    pub(crate) fn received(&self) -> Option<u64> {
        let expression = "integer_to_list(lists:sum([Bytes || Pid <- rabbit_networking:connections(), \
                          {recv_oct, Bytes} <- rabbit_reader:info(Pid, [recv_oct])]))";
        self.0.private("counting bytes").ok()?.eval(expression).ok()?.parse().ok()
    }
}

/// Describes why a queue is not finished: it has a consumer, or more than `returned` messages. A quorum queue processes
/// acknowledgements, and the end of its consumer, with a delay.
async fn unsettled(channel: &Channel, name: &str, returned: u32) -> Result<Option<String>, Failure> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(name.into(), options, FieldTable::default()).await?;
    let (messages, consumers) = (queue.message_count(), queue.consumer_count());
    let left = format!("{messages} messages were handled and not acknowledged, {consumers} consumers were not gone");
    Ok((messages > returned || consumers > 0).then_some(left))
}
