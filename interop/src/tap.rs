//! Looks at messages as they are on the wire, with plain lapin.

use std::{future::Future, time::Duration};

use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, BasicPublishOptions, ConfirmSelectOptions},
};
use tokio::time::{Instant, sleep, timeout};

use crate::peer::BROKER;

/// A queue is asked this often, because `basic.get` does not wait.
const LOOK: Duration = Duration::from_millis(5);

/// A connection and channel of plain lapin.
pub(crate) struct Tap {
    connection: Connection,
    channel: Channel,
    patience: Duration,
}

async fn within<T>(what: &str, work: impl Future<Output = Result<T, lapin::Error>>) -> Result<T, String> {
    let done = timeout(BROKER, work).await.map_err(|_| format!("{what}: not done within {BROKER:?}"))?;
    done.map_err(|error| format!("{what}: {error}"))
}

impl Tap {
    pub(crate) async fn open(url: &str, patience: Duration) -> Result<Self, String> {
        let connecting = Connection::connect(url, ConnectionProperties::default());
        let connection = within("connecting", connecting).await?;
        let channel = within("opening a channel", connection.create_channel()).await?;
        within("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { connection, channel, patience })
    }

    /// Publishes to a queue and waits for the confirm.
    pub(crate) async fn publish(&self, queue: &str, body: &[u8], properties: BasicProperties) -> Result<(), String> {
        let publishing =
            self.channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties);
        let confirm = within("publishing", publishing).await?;
        within("waiting for the confirm", confirm).await.map(drop)
    }

    /// The next message of a queue, acknowledged.
    pub(crate) async fn take(&self, queue: &str) -> Result<Delivery, String> {
        let delivery = self.get(queue).await?;
        within("acknowledging", delivery.ack(BasicAckOptions::default())).await?;
        Ok(delivery)
    }

    /// The next message of a queue, which is put back.
    pub(crate) async fn look(&self, queue: &str) -> Result<Delivery, String> {
        let delivery = self.get(queue).await?;
        let back = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        within("putting back", delivery.nack(back)).await?;
        Ok(delivery)
    }

    async fn get(&self, queue: &str) -> Result<Delivery, String> {
        let end = Instant::now() + self.patience;
        while Instant::now() < end {
            let getting = self.channel.basic_get(queue.into(), BasicGetOptions::default());
            if let Some(message) = within("getting", getting).await? {
                return Ok(message.delivery);
            }
            sleep(LOOK).await;
        }
        Err(format!("no message in {queue} within {:?}", self.patience))
    }

    pub(crate) async fn close(self) -> Result<(), String> {
        within("closing", self.connection.close(200, "done".into())).await
    }
}
