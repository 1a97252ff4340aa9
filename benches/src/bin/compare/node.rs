//! The broker, and a fresh queue on it for each round.

use fluffle_harness::Broker;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{QueueDeclareOptions, QueueDeleteOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::runtime::{self, Runtime};

use crate::{Failure, cpu::Processes, scenario::Terms};

/// The broker that `AMQP_URL` names, or a private node for the time of the comparison.
pub(crate) struct Node {
    broker: Broker,
    runtime: Runtime,
    connection: Connection,
    queues: u32,
}

impl Node {
    pub(crate) fn start() -> Result<Self, Failure> {
        let broker = Broker::from_env_or_private()?;
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

    /// Its version, when it is a node of our own.
    pub(crate) fn version(&self) -> Option<String> {
        self.broker.private("asking for its version").ok()?.eval("rabbit_misc:version()").ok()
    }

    /// Declares an empty queue of a name of its own. Durable, for brokers to come know no other that is shared between
    /// connections; whether messages go to the disk is their own affair.
    pub(crate) fn fresh_queue(&mut self, terms: &Terms) -> Result<String, Failure> {
        self.queues += 1;
        let name = format!("fluffle.compare.{}.{}", std::process::id(), self.queues);
        let kind = if terms.durable { "quorum" } else { "classic" };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        self.with_channel(async |channel| {
            channel.queue_declare(name.as_str().into(), QueueDeclareOptions::durable(), arguments).await
        })?;
        Ok(name)
    }

    /// Deletes the queue, and Fluffle's queue of its dead letters; answers how many messages were left in both. Whatever was
    /// delivered and not acknowledged is back by now.
    pub(crate) fn remove_queue(&self, name: &str) -> Result<u32, Failure> {
        self.with_channel(async |channel| {
            let options = QueueDeleteOptions::default();
            let dead = channel.queue_delete(format!("{name}.dead").into(), options).await?;
            Ok(dead + channel.queue_delete(name.into(), options).await?)
        })
    }

    /// A channel for each, for an error would close it.
    fn with_channel<T>(&self, work: impl AsyncFnOnce(Channel) -> lapin::Result<T>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            let channel = self.connection.create_channel().await?;
            let done = work(channel.clone()).await?;
            channel.close(200, "done".into()).await?;
            Ok(done)
        })
    }
}
