//! Hand-written amqprs code: two connections, each with its own thread and current-thread runtime. Deliveries are taken
//! in bursts and acknowledged once for each burst. Confirms are counted in the callback, because amqprs leaves them to
//! its users.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use amqprs::{
    Ack, BasicProperties, Cancel, CloseChannel, Nack, Return,
    callbacks::ChannelCallback,
    channel::{
        BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
        ConfirmSelectArguments, ConsumerMessage,
    },
    connection::{Connection, OpenConnectionArguments},
};
use async_trait::async_trait;
use lapin::uri::AMQPUri;
use tokio::sync::{Notify, mpsc::UnboundedReceiver};

use crate::{
    contestants::side_by_side::side_by_side,
    course::{Course, Lap},
    failure::Failure,
};

/// How many deliveries are taken together.
const BURST: usize = 50;

pub(crate) fn run(course: &Arc<Course>) -> Result<(), Failure> {
    side_by_side(course, publish(course), consume(course))
}

async fn connect(course: &Course) -> Result<Connection, Failure> {
    let uri: AMQPUri = course.url.parse()?;
    let (place, user) = (&uri.authority, &uri.authority.userinfo);
    let mut arguments = OpenConnectionArguments::new(&place.host, place.port, &user.username, &user.password);
    Ok(Connection::open(&arguments.virtual_host(&uri.vhost).finish()).await?)
}

async fn publish(course: &Arc<Course>) -> Result<(), Failure> {
    let connection = connect(course).await?;
    let channel = connection.open_channel(None).await?;
    let confirms = Arc::new(Confirms::default());
    channel.register_callback(Judge { confirms: Arc::clone(&confirms), floor: 0, above: BTreeSet::new() }).await?;
    channel.confirm_select(ConfirmSelectArguments::default()).await?;
    course.attached().await;
    let properties = BasicProperties::default().with_delivery_mode(course.terms.delivery_mode()).finish();
    let arguments = BasicPublishArguments::new("", &course.queue);
    let mut published = 0;
    for mut lap in course.laps() {
        while let Some(burst) = lap.burst(BURST.min(course.terms.window)).await {
            for number in burst {
                let (properties, body) = (properties.clone(), course.bodies.encoded(number));
                channel.basic_publish(properties, body, arguments.clone()).await?;
                published += 1;
            }
            confirms.reach(published - published.min(course.terms.window as u64), &mut lap, course).await?;
        }
        confirms.reach(published, &mut lap, course).await?;
        lap.finish().await?;
    }
    channel.close().await?;
    connection.close().await?;
    Ok(())
}

/// The confirms received so far on this channel.
#[derive(Default)]
struct Confirms {
    confirmed: AtomicU64,
    told: AtomicU64,
    failed: AtomicBool,
    changed: Notify,
}

impl Confirms {
    /// Waits for the first `count` confirms, and reports them to the lap.
    async fn reach(&self, count: u64, lap: &mut Lap, course: &Course) -> Result<(), Failure> {
        loop {
            let confirmed = self.confirmed.load(Ordering::Acquire);
            lap.confirmed(confirmed - self.told.swap(confirmed, Ordering::Relaxed));
            if self.failed.load(Ordering::Relaxed) {
                return Err("the broker refused a message or closed the channel".into());
            }
            if confirmed >= count {
                return Ok(());
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = course.over() => return Err("the consumer ended before its time".into()),
            }
        }
    }

    fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }
}

/// Tracks confirms, each for one message or for all up to it, in any order.
struct Judge {
    confirms: Arc<Confirms>,
    /// All up to this tag are confirmed.
    floor: u64,
    above: BTreeSet<u64>,
}

impl Judge {
    fn confirm(&mut self, tag: u64, multiple: bool) {
        if multiple {
            self.floor = self.floor.max(tag);
            self.above = self.above.split_off(&(self.floor + 1));
        } else if tag == self.floor + 1 {
            self.floor = tag;
        } else {
            self.above.insert(tag);
        }
        while self.above.first() == Some(&(self.floor + 1)) {
            self.above.pop_first();
            self.floor += 1;
        }
        self.confirms.confirmed.store(self.floor + self.above.len() as u64, Ordering::Release);
        self.confirms.changed.notify_one();
    }
}

#[async_trait]
impl ChannelCallback for Judge {
    async fn close(&mut self, _: &Channel, _: CloseChannel) -> Result<(), amqprs::error::Error> {
        self.confirms.fail();
        Ok(())
    }

    async fn cancel(&mut self, _: &Channel, _: Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }

    async fn flow(&mut self, _: &Channel, _: bool) -> Result<bool, amqprs::error::Error> {
        Ok(true)
    }

    async fn publish_ack(&mut self, _: &Channel, ack: Ack) {
        self.confirm(ack.delivery_tag(), ack.mutiple());
    }

    async fn publish_nack(&mut self, _: &Channel, _: Nack) {
        self.confirms.fail();
    }

    async fn publish_return(&mut self, _: &Channel, _: Return, _: BasicProperties, _: Vec<u8>) {
        self.confirms.fail();
    }
}

async fn consume(course: &Arc<Course>) -> Result<(), Failure> {
    let connection = connect(course).await?;
    let channel = connection.open_channel(None).await?;
    channel.basic_qos(BasicQosArguments::new(0, course.terms.prefetch, false)).await?;
    let arguments = BasicConsumeArguments::new(&course.queue, "").finish();
    let (_, mut deliveries) = channel.basic_consume_rx(arguments).await?;
    course.consumes();
    tokio::select! {
        taken = take(course, &channel, &mut deliveries) => taken?,
        () = course.over() => {}
    }
    channel.close().await?;
    connection.close().await?;
    Ok(())
}

async fn take(
    course: &Course,
    channel: &Channel,
    deliveries: &mut UnboundedReceiver<ConsumerMessage>,
) -> Result<(), Failure> {
    let mut burst = Vec::with_capacity(BURST);
    while deliveries.recv_many(&mut burst, BURST).await > 0 {
        let mut last = None;
        for message in burst.drain(..) {
            course.handled(&message.content.unwrap_or_default());
            last = message.deliver.map(|deliver| deliver.delivery_tag());
        }
        if let Some(tag) = last {
            channel.basic_ack(BasicAckArguments::new(tag, true)).await?;
        }
    }
    Err("the consumer was cancelled".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_count_whatever_their_order() {
        let confirms = Arc::new(Confirms::default());
        let mut judge = Judge { confirms: Arc::clone(&confirms), floor: 0, above: BTreeSet::new() };
        let mut counts = Vec::new();
        for (tag, multiple) in [(1, false), (3, false), (5, false), (2, false), (4, true), (9, true), (8, true)] {
            judge.confirm(tag, multiple);
            counts.push(confirms.confirmed.load(Ordering::Acquire));
        }
        assert_eq!(counts, [1, 2, 3, 4, 5, 9, 9]);
    }
}
