//! Confirmed and acknowledged 100-byte messages through lapin, as fast as it goes: on this broker, then
//! on each broker whose URL is given, in turns, so that the ratio means something on a busy machine.
//!
//! `cargo run --release -p fluffle-broker --example throughput -- amqp://guest:guest@127.0.0.1:5672`

use std::{error::Error, time::Instant};

use fluffle_broker::Broker;
use futures_util::{StreamExt, future::join_all};
use lapin::{
    BasicProperties, Connection, ConnectionProperties,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueDeclareOptions, QueuePurgeOptions,
    },
    types::FieldTable,
};

const MESSAGES: usize = 200_000;
const BURST: usize = 50;
const ROUNDS: usize = 3;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let broker = Broker::start()?;
    let urls: Vec<String> = std::iter::once(broker.url()).chain(std::env::args().skip(1)).collect();
    let mut rates = vec![Vec::new(); urls.len()];
    for _ in 0..ROUNDS {
        for (url, rates) in urls.iter().zip(&mut rates) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            rates.push(runtime.block_on(round(url))?);
        }
    }
    let medians: Vec<f64> = rates
        .into_iter()
        .map(|mut rates| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        })
        .collect();
    for (url, median) in urls.iter().zip(&medians) {
        let place = url.rsplit('@').next().unwrap_or_default();
        println!("{place}: {median:.0} messages/s, this broker is at {:.2} of that", medians[0] / median);
    }
    Ok(())
}

/// Messages a second, from the first publish to the last acknowledgement.
async fn round(url: &str) -> Result<f64, Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let (publishing, consuming) = (connection.create_channel().await?, connection.create_channel().await?);
    publishing.confirm_select(ConfirmSelectOptions::default()).await?;
    let declare = QueueDeclareOptions::default();
    consuming.queue_declare("throughput-transient".into(), declare, FieldTable::default()).await?;
    consuming.queue_purge("throughput-transient".into(), QueuePurgeOptions::default()).await?;
    consuming.basic_qos(1000, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let consumer =
        consuming.basic_consume("throughput-transient".into(), "".into(), options, FieldTable::default()).await?;

    let start = Instant::now();
    let consumed = async {
        let mut bursts = consumer.ready_chunks(BURST);
        let mut count = 0;
        while count < MESSAGES {
            let Some(burst) = bursts.next().await else { return Err("the consumer ended".into()) };
            count += burst.len();
            if let Some(last) = burst.into_iter().next_back() {
                consuming.basic_ack(last?.delivery_tag, BasicAckOptions { multiple: true }).await?;
            }
        }
        Ok::<(), Failure>(())
    };
    let published = async {
        let body = [7; 100];
        // Transient: a broker with a disk is not to be measured by its disk.
        let properties = BasicProperties::default();
        for _ in 0..MESSAGES / BURST {
            let burst = (0..BURST).map(|_| {
                let options = BasicPublishOptions::default();
                publishing.basic_publish("".into(), "throughput-transient".into(), options, &body, properties.clone())
            });
            let mut confirms = join_all(burst).await.into_iter().collect::<Result<Vec<_>, _>>()?;
            if let Some(last) = confirms.pop() {
                last.await?;
            }
            for confirm in confirms {
                confirm.await?;
            }
        }
        Ok::<(), Failure>(())
    };
    tokio::try_join!(consumed, published)?;
    let rate = MESSAGES as f64 / start.elapsed().as_secs_f64();
    let _ = connection.close(200, "done".into()).await;
    Ok(rate)
}
