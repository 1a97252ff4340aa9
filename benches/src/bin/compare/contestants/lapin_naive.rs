//! lapin as in its examples (`examples/pubsub.rs`, `examples/publisher_confirms.rs`): one connection, two channels,
//! tokio's default runtime, each publish awaited, `Delivery::ack` for each message. The examples await each confirm
//! before the next publish, or all of them at the end. To be fair, this contestant keeps up to a window of confirms
//! open.

use std::{collections::VecDeque, sync::Arc};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, PublisherConfirm,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use tokio::runtime;

use crate::{
    course::{Course, Lap},
    failure::Failure,
};

pub(crate) fn run(course: &Arc<Course>) -> Result<(), Failure> {
    runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work(course))
}

async fn work(course: &Arc<Course>) -> Result<(), Failure> {
    let connection = Connection::connect(&course.url, ConnectionProperties::default()).await?;
    let publishing = connection.create_channel().await?;
    publishing.confirm_select(ConfirmSelectOptions::default()).await?;
    let consuming = connection.create_channel().await?;
    consuming.basic_qos(course.terms.prefetch, BasicQosOptions::default()).await?;
    let (queue, options) = (course.queue.as_str().into(), BasicConsumeOptions::default());
    let consumer = consuming.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
    let consumer = tokio::spawn(consume(Arc::clone(course), consumer));

    let published = publish(course, &publishing).await;
    course.end();
    consumer.await?.and(published)?;
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn publish(course: &Arc<Course>, channel: &Channel) -> Result<(), Failure> {
    let properties = BasicProperties::default().with_delivery_mode(course.terms.delivery_mode());
    for mut lap in course.laps() {
        let mut confirms = VecDeque::new();
        while let Some(burst) = lap.burst(1).await {
            for number in burst {
                let (queue, body) = (course.queue.as_str().into(), course.bodies.encoded(number));
                let options = BasicPublishOptions::default();
                let confirm = channel.basic_publish("".into(), queue, options, &body, properties.clone()).await?;
                confirms.push_back(confirm);
            }
            if confirms.len() >= course.terms.window {
                confirmed(confirms.pop_front(), &mut lap).await?;
            }
        }
        while !confirms.is_empty() {
            confirmed(confirms.pop_front(), &mut lap).await?;
        }
        lap.finish().await?;
    }
    Ok(())
}

async fn confirmed(confirm: Option<PublisherConfirm>, lap: &mut Lap) -> Result<(), Failure> {
    if let Some(confirm) = confirm {
        lap.confirmed(u64::from(confirm.await?.is_ack()));
    }
    Ok(())
}

async fn consume(course: Arc<Course>, consumer: Consumer) -> Result<(), Failure> {
    let mut deliveries = consumer.take_until(Box::pin(course.over()));
    while let Some(delivery) = deliveries.next().await {
        let delivery = delivery?;
        course.handled(&delivery.data);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
