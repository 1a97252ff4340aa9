//! Compares the embedded broker with RabbitMQ: 100-byte messages are published, confirmed, delivered and acknowledged
//! through lapin as fast as possible. The brokers take turns, so that the ratio is meaningful on a busy machine.
//!
//! `cargo run --release -p benches --bin broker`; RabbitMQ is a private node, or the broker that `AMQP_URL` names.

use std::{
    error::Error,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use fluffle_broker::Broker;
use fluffle_harness::Broker as Other;
use futures_util::{StreamExt, future::join_all};
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use tokio::{runtime, time::timeout};

/// Messages in each round, on each broker.
const MESSAGES: usize = 100_000;

/// Counted rounds. One more round before them warms both brokers up.
const ROUNDS: usize = 5;

/// How many messages may be on the wire before the first of them must be confirmed.
const BURST: usize = 50;

/// Deliveries that may wait for their acknowledgement.
const PREFETCH: u16 = 1000;

/// Time limit of one round, in case something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let embedded = Broker::start()?;
    let rabbit = Other::from_env_or_private()?;
    let (embedded, rabbit) = (embedded.url(), rabbit.url());
    println!("{MESSAGES} messages of 100 bytes, confirmed and acknowledged, a round on each broker in turns\n");
    println!("{:>10} {:>18} {:>18} {:>8}", "round", "fluffle-broker", "RabbitMQ", "ratio");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 0..=ROUNDS {
        // The brokers also take turns in going first.
        let (our, their) = match number % 2 {
            0 => (round(&embedded)?, round(&rabbit)?),
            _ => {
                let their = round(&rabbit)?;
                (round(&embedded)?, their)
            }
        };
        let name = if number == 0 { "warm-up".to_owned() } else { number.to_string() };
        row(&name, our, their);
        if number > 0 {
            ours.push(our);
            theirs.push(their);
        }
    }
    let (our, their) = (median(ours), median(theirs));
    row("median", our, their);
    println!("\nratio {:.2}", our / their);
    Ok(())
}

fn row(name: &str, our: f64, their: f64) {
    println!("{name:>10} {our:>16.0}/s {their:>16.0}/s {:>8.2}", our / their);
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Messages a second, from the first publish to the last acknowledgement: a publisher and a consumer, each with a
/// connection and a thread of its own.
fn round(url: &str) -> Result<f64, Failure> {
    let (ready, queue) = mpsc::channel();
    thread::scope(|scope| {
        let consuming = scope.spawn(|| bounded(consume(url, ready)));
        let published = match queue.recv() {
            Ok(queue) => bounded(publish(url, &queue)),
            // The consumer's own error says why.
            Err(_) => Ok(Instant::now()),
        };
        let end = consuming.join().map_err(|_| "the consumer panicked")??;
        Ok(MESSAGES as f64 / (end - published?).as_secs_f64())
    })
}

fn bounded<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { timeout(PATIENCE, work).await })?
}

/// Returns the time at which it began.
async fn publish(url: &str, queue: &str) -> Result<Instant, Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let start = Instant::now();
    for _ in 0..MESSAGES / BURST {
        burst(&channel, queue).await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(start)
}

async fn burst(channel: &Channel, queue: &str) -> Result<(), Failure> {
    let published = (0..BURST).map(|_| {
        // The messages are transient, so that a broker's disk is not measured.
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        channel.basic_publish("".into(), queue.into(), options, &[7; 100], properties)
    });
    let mut confirms = join_all(published).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    // When the last message is confirmed, the others are, too: one wake-up instead of fifty.
    if let Some(last) = confirms.pop() {
        last.await?;
    }
    for confirm in confirms {
        confirm.await?;
    }
    Ok(())
}

/// Returns the time at which it ended. Sends its queue's name to `ready` when it consumes.
async fn consume(url: &str, ready: mpsc::Sender<String>) -> Result<Instant, Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(queue.name().clone(), "".into(), options, FieldTable::default()).await?;
    ready.send(queue.name().to_string())?;
    take(&channel, consumer).await?;
    // An answer that comes after all acknowledgements proves that they have arrived.
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let end = Instant::now();
    connection.close(200, "done".into()).await?;
    Ok(end)
}

async fn take(channel: &Channel, consumer: Consumer) -> Result<(), Failure> {
    let mut bursts = consumer.ready_chunks(BURST);
    let mut count = 0;
    while count < MESSAGES {
        let burst = bursts.next().await.ok_or("the consumer ended")?;
        count += burst.len();
        if let Some(last) = burst.into_iter().next_back() {
            channel.basic_ack(last?.delivery_tag, BasicAckOptions { multiple: true }).await?;
        }
    }
    Ok(())
}
