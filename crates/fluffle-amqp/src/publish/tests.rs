//! A channel for the unit tests of this folder, to a broker inside the process: these tests run where no RabbitMQ is.

use fluffle_broker::Broker;
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{ConfirmSelectOptions, QueueDeclareOptions},
    types::FieldTable,
};

/// A channel on a fresh broker that has the queue `q`.
pub(crate) struct TestChannel {
    pub(crate) channel: Channel,
    connection: Connection,
    broker: Broker,
}

impl TestChannel {
    pub(crate) async fn open() -> Self {
        let test = Self::without_confirms().await;
        test.channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        test
    }

    pub(crate) async fn without_confirms() -> Self {
        let broker = Broker::start().unwrap();
        let connection = Connection::connect(&broker.url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()).await.unwrap();
        Self { channel, connection, broker }
    }

    pub(crate) async fn close(self) {
        self.connection.close(200, "done".into()).await.unwrap();
        self.broker.stop().unwrap();
    }
}
