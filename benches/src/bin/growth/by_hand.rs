//! The same work with lapin and no framework: two connections, each with its own thread and current-thread runtime, and
//! on both a channel for each queue. Publishes are polled together in bursts, and deliveries are acked once for each
//! burst. A cost that grows here, too, is not caused by the framework.

// One thought with main.rs: the same course and settings, run by hand with lapin for comparison.
use std::{
    collections::VecDeque,
    sync::Arc,
    thread::{self, JoinHandle},
};

use futures_util::{
    StreamExt,
    future::{join_all, try_join_all},
};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, PublisherConfirm,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::{runtime, sync::watch, task::spawn_blocking};

use crate::{BURST, Cost, Course, Failure, OWN_WINDOW, PREFETCH, WINDOW, body, clear, name};

/// Publishes, confirms, handles and acks `messages`, spread over so many queues.
pub(crate) async fn spread(url: &str, queues: u64, messages: u64) -> Result<Cost, Failure> {
    declare(url, queues).await?;
    let course = Course::new(messages);
    let (over, is_over) = watch::channel(false);
    let consumer = consumer(url, queues, &course, is_over);
    let publisher = publisher(url, queues, messages);
    let cost = course.cost().await;
    over.send_replace(true);
    joined(publisher).await?;
    joined(consumer).await?;
    clear(url, queues).await?;
    cost
}

/// Handles and acks `messages` that all wait in the queue beforehand.
pub(crate) async fn backlog(url: &str, messages: u64) -> Result<Cost, Failure> {
    declare(url, 1).await?;
    joined(publisher(url, 1, messages)).await?;
    let course = Course::new(messages);
    let (over, is_over) = watch::channel(false);
    let consumer = consumer(url, 1, &course, is_over);
    let cost = course.cost().await;
    over.send_replace(true);
    joined(consumer).await?;
    clear(url, 1).await?;
    cost
}

async fn declare(url: &str, queues: u64) -> Result<(), Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    for queue in 0..queues {
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name(queue).as_str().into(), durable, FieldTable::default()).await?;
    }
    channel.close(200, "done".into()).await?;
    Ok(connection.close(200, "done".into()).await?)
}

/// One side, on its own thread.
type Side = JoinHandle<Result<(), Failure>>;

fn publisher(url: &str, queues: u64, messages: u64) -> Side {
    let url = url.to_owned();
    thread::spawn(move || alone(publish(&url, queues, messages)))
}

fn consumer(url: &str, queues: u64, course: &Arc<Course>, is_over: watch::Receiver<bool>) -> Side {
    let (url, course) = (url.to_owned(), Arc::clone(course));
    thread::spawn(move || alone(consume(&url, queues, &course, is_over)))
}

/// Waits for a side without blocking the current thread.
async fn joined(side: Side) -> Result<(), Failure> {
    spawn_blocking(move || side.join()).await?.map_err(|_| "a side panicked")?
}

/// Runs one side on the calling thread.
fn alone(side: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(side)
}

async fn publish(url: &str, queues: u64, messages: u64) -> Result<(), Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let mut channels = Vec::new();
    for queue in 0..queues {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channels.push((name(queue), channel));
    }
    let window = WINDOW.min(channels.len() * OWN_WINDOW);
    let (mut open, mut bursts) = (0, VecDeque::new());
    let mut left = messages;
    for (queue, channel) in channels.iter().cycle() {
        let burst = left.min(BURST);
        left -= burst;
        let sent = send(channel, queue, burst).await?;
        open += sent.len();
        bursts.push_back(sent);
        while open > if left == 0 { 0 } else { window }
            && let Some(oldest) = bursts.pop_front()
        {
            open -= confirmed(oldest).await?;
        }
        if left == 0 {
            break;
        }
    }
    for (_, channel) in &channels {
        channel.close(200, "done".into()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn send(channel: &Channel, queue: &str, count: u64) -> Result<Vec<PublisherConfirm>, Failure> {
    let body = body();
    let publishes = (0..count).map(|_| {
        let options = BasicPublishOptions::default();
        channel.basic_publish("".into(), queue.into(), options, body.as_bytes(), BasicProperties::default())
    });
    Ok(try_join_all(publishes).await?)
}

/// Awaits the last confirm first: when it has come, the others have, too.
async fn confirmed(burst: Vec<PublisherConfirm>) -> Result<usize, Failure> {
    let count = burst.len();
    for confirm in burst.into_iter().rev() {
        if !confirm.await?.is_ack() {
            return Err("the broker refused a message".into());
        }
    }
    Ok(count)
}

async fn consume(url: &str, queues: u64, course: &Course, is_over: watch::Receiver<bool>) -> Result<(), Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let mut channels = Vec::new();
    for queue in 0..queues {
        let channel = connection.create_channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        channels.push((name(queue), channel));
    }
    for one in join_all(channels.iter().map(|(queue, channel)| drain(queue, channel, course, is_over.clone()))).await {
        one?;
    }
    for (_, channel) in &channels {
        channel.close(200, "done".into()).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn drain(
    queue: &str,
    channel: &Channel,
    course: &Course,
    mut is_over: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
    let over = Box::pin(async move { drop(is_over.wait_for(|over| *over).await) });
    let mut bursts = consumer.ready_chunks(BURST as usize).take_until(over);
    while let Some(burst) = bursts.next().await {
        let mut last = None;
        for delivery in burst {
            last = Some(delivery?.delivery_tag);
            course.one();
        }
        if let Some(tag) = last {
            channel.basic_ack(tag, BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}
