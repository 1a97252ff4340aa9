//! Numbers at a steady rate, through Fluffle or through lapin alone, and when each was handled.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::prelude::*;
use futures_util::StreamExt;
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

use crate::shared::{Failure, PATIENCE};

/// 500 messages a second.
const PACE: Duration = Duration::from_millis(2);

/// When each number was handled, in the order of handling.
#[derive(Clone, Default)]
pub(crate) struct Handled(Arc<Mutex<Vec<(usize, Instant)>>>);

impl Handled {
    pub(crate) fn note(&self, number: usize) {
        self.lock().push((number, Instant::now()));
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }

    /// The longest time without a message that began or ended after `since`.
    pub(crate) fn longest_pause(&self, since: Instant) -> Duration {
        let handled = self.lock();
        let pauses = handled.windows(2).filter(|two| two[1].1 >= since).map(|two| two[1].1 - two[0].1);
        pauses.max().unwrap_or_default()
    }

    /// The first message after `since`.
    pub(crate) fn first_after(&self, since: Instant) -> Option<Instant> {
        self.lock().iter().map(|(_, when)| *when).find(|when| *when > since)
    }

    /// Waits until `count` numbers are handled, then checks that each is there and that their order holds.
    pub(crate) async fn complete(&self, count: usize) -> Result<(), Failure> {
        let all = async {
            while !self.lock().iter().any(|(number, _)| number + 1 == count) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, all).await;
        let mut next = 0;
        for (number, _) in self.lock().iter() {
            if *number > next {
                return Err(format!("order_broken: {number} came before {next}").into());
            }
            next += usize::from(*number == next);
        }
        in_time.map_err(|_| format!("lost: only {next} of {count} arrived"))?;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(usize, Instant)>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Notes the numbers that it is given.
pub(crate) struct Noting(pub(crate) Handled);

impl Actor for Noting {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Noting {
    type Result = Result<(), fluffle::prelude::Failure>;

    fn handle(&mut self, number: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let number = number.parse().map_err(|_| fluffle::prelude::Failure::reject("not a number"))?;
        self.0.note(number);
        Ok(())
    }
}

/// A publisher that publishes numbers until it is told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicUsize>,
    publishing: tokio::task::JoinHandle<Result<(), Failure>>,
}

impl Load {
    /// Through Fluffle. Every publish must succeed.
    pub(crate) fn begin(out: Publisher<String>) -> Self {
        Self::with(async move |number: usize| match out.publish(number.to_string()).await {
            Ok(_) => Ok(()),
            Err(error) => Err(Failure::from(error.to_string())),
        })
    }

    fn with(publish: impl AsyncFn(usize) -> Result<(), Failure> + 'static) -> Self {
        let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (told, counted) = (Arc::clone(&stop), Arc::clone(&published));
        let publishing = actix::spawn(async move {
            let mut pace = tokio::time::interval(PACE);
            pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !told.load(Ordering::Relaxed) {
                pace.tick().await;
                publish(counted.load(Ordering::Relaxed)).await?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { stop, published, publishing }
    }

    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Relaxed)
    }

    /// Waits until so many more are published.
    pub(crate) async fn more(&self, numbers: usize) -> Result<(), Failure> {
        let wanted = self.published() + numbers;
        let waiting = async {
            while self.published() < wanted && !self.publishing.is_finished() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.map_err(|_| "publishing has come to a halt".into())
    }

    /// Stops, and gives how many were published.
    pub(crate) async fn end(self) -> Result<usize, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        tokio::time::timeout(PATIENCE, self.publishing).await???;
        Ok(self.published.load(Ordering::Relaxed))
    }
}

/// A client written with lapin alone, on one node: publishes to a quorum queue and consumes from it.
pub(crate) async fn by_hand(url: &str, queue: &str) -> Result<(Load, Handled), Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let options = QueueDeclareOptions { durable: true, ..Default::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.into(), options, arguments).await?;
    let incoming = connection.create_channel().await?;
    let tag = "by hand".into();
    let mut consumer =
        incoming.basic_consume(queue.into(), tag, BasicConsumeOptions::default(), FieldTable::default()).await?;
    let handled = Handled::default();
    let noted = handled.clone();
    actix::spawn(async move {
        let _connection = connection;
        while let Some(Ok(delivery)) = consumer.next().await {
            let number = String::from_utf8_lossy(&delivery.data).parse().unwrap_or_default();
            noted.note(number);
            if delivery.ack(BasicAckOptions::default()).await.is_err() {
                return;
            }
        }
    });
    let name = queue.to_owned();
    let load = Load::with(async move |number: usize| {
        let properties = BasicProperties::default().with_delivery_mode(2);
        let (body, options) = (number.to_string(), BasicPublishOptions::default());
        let confirm =
            channel.basic_publish("".into(), name.as_str().into(), options, body.as_bytes(), properties).await?;
        confirm.await?;
        Ok(())
    });
    Ok((load, handled))
}
