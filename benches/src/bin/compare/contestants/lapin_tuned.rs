//! Hand-optimized lapin: two connections, each with its own thread and current-thread runtime. Publish futures are
//! polled together in bursts. Of each burst, the last confirm is awaited first, because when it has come, the others
//! have, too. Deliveries are taken in bursts and acknowledged once for each burst, on the channel.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, future::try_join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use uuid::Uuid;

use crate::{
    body,
    contestants::side_by_side::side_by_side,
    course::{Course, Lap},
    failure::Failure,
};

/// How many publishes are polled together, and deliveries taken together. More brings no gain.
const BURST: usize = 50;

pub(crate) fn run(course: &Arc<Course>) -> Result<(), Failure> {
    side_by_side(course, publish(course, false), consume(course))
}

/// The same with the labels that Fluffle gives each message: id, type, content type, time and `mandatory`. The
/// difference to [`run`] is the price of the labels; the difference to Fluffle is the price of Fluffle.
pub(crate) fn run_labelled(course: &Arc<Course>) -> Result<(), Failure> {
    side_by_side(course, publish(course, true), consume(course))
}

async fn publish(course: &Arc<Course>, labelled: bool) -> Result<(), Failure> {
    let connection = Connection::connect(&course.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    course.attached().await;
    let burst = BURST.min(course.terms.window);
    let mut bodies = vec![course.bodies.encoded(1); burst];
    for mut lap in course.laps() {
        let (mut open, mut bursts) = (0, VecDeque::new());
        while let Some(numbers) = lap.burst(burst).await {
            let count = bodies.iter_mut().zip(numbers).map(|(body, number)| body::stamp(body, number)).count();
            bursts.push_back(send(course, &channel, &bodies[..count], labelled).await?);
            open += count;
            while open + burst > course.terms.window {
                open -= confirmed(bursts.pop_front(), &mut lap).await?;
            }
        }
        while open > 0 {
            open -= confirmed(bursts.pop_front(), &mut lap).await?;
        }
        lap.finish().await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn send(
    course: &Course,
    channel: &Channel,
    bodies: &[Vec<u8>],
    labelled: bool,
) -> Result<Vec<PublisherConfirm>, Failure> {
    let properties = BasicProperties::default().with_delivery_mode(course.terms.delivery_mode());
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let publishes = bodies.iter().map(|body| {
        let options = BasicPublishOptions { mandatory: labelled, ..BasicPublishOptions::default() };
        let properties = if labelled { label(properties.clone(), now) } else { properties.clone() };
        channel.basic_publish("".into(), course.queue.as_str().into(), options, body, properties)
    });
    Ok(try_join_all(publishes).await?)
}

fn label(properties: BasicProperties, now: u64) -> BasicProperties {
    properties
        .with_message_id(Uuid::now_v7().to_string().into())
        .with_content_type("application/vnd.google.protobuf; proto=fluffle.compare.Parcel".into())
        .with_type("fluffle.compare.Parcel".into())
        .with_timestamp(now)
}

/// Returns how many confirms there were, and reports the acks among them to the lap.
async fn confirmed(burst: Option<Vec<PublisherConfirm>>, lap: &mut Lap) -> Result<usize, Failure> {
    let mut burst = burst.unwrap_or_default();
    let (count, mut acks) = (burst.len(), 0);
    if let Some(last) = burst.pop() {
        acks += u64::from(last.await?.is_ack());
    }
    for confirm in burst {
        acks += u64::from(confirm.await?.is_ack());
    }
    lap.confirmed(acks);
    Ok(count)
}

async fn consume(course: &Arc<Course>) -> Result<(), Failure> {
    let connection = Connection::connect(&course.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(course.terms.prefetch, BasicQosOptions::default()).await?;
    let (queue, options) = (course.queue.as_str().into(), BasicConsumeOptions::default());
    let consumer = channel.basic_consume(queue, "".into(), options, FieldTable::default()).await?;
    course.consumes();
    let mut bursts = consumer.ready_chunks(BURST).take_until(Box::pin(course.over()));
    while let Some(burst) = bursts.next().await {
        let mut last = None;
        for delivery in burst {
            let delivery = delivery?;
            course.handled(&delivery.data);
            last = Some(delivery.delivery_tag);
        }
        if let Some(tag) = last {
            channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}
