//! A job that handles what is in a queue, ends, and leaves its metrics at a Pushgateway, because nothing is left of it
//! that Prometheus could scrape.
//!
//! ```sh
//! prometheus-pushgateway --persistence.file= &
//! AMQP_URL=amqp://127.0.0.1 PUSHGATEWAY=http://127.0.0.1:9091 \
//!     cargo run -p fluffle-telemetry --example job_that_ends -- reports
//! ```
//!
//! The argument is the name of the queue; the job declares it if it does not exist.

use std::{env, error::Error, time::Duration};

use fluffle::prelude::*;
use fluffle_telemetry::{Telemetry, text};

/// How long nothing must come before the job ends. What comes later waits for the next job.
const IDLE: Duration = Duration::from_secs(2);

/// How long the Pushgateway may take.
const PUSH_LIMIT: Duration = Duration::from_secs(10);

struct Report;

impl Actor for Report {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Report {
    type Result = Result<(), Failure>;

    fn handle(&mut self, report: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        // What is no report becomes a dead letter.
        if report.is_empty() { Err(Failure::reject("the report is empty")) } else { Ok(()) }
    }
}

#[actix::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let queue = env::args().nth(1).ok_or("name a queue")?;
    let gateway = env::var("PUSHGATEWAY").unwrap_or_else(|_| "http://127.0.0.1:9091".to_owned());
    let handled = work_and_push(Broker::from_env_or_embedded()?, &queue, &gateway).await?;
    println!("{handled} reports handled");
    Ok(())
}

/// Handles what is in the queue and pushes the job's metrics. Returns the number of handled messages.
///
/// # Errors
/// If the service gives up, or the Pushgateway does not take the metrics.
pub async fn work_and_push(broker: Broker, queue: &str, gateway: &str) -> Result<u64, Box<dyn Error>> {
    let telemetry = Telemetry::new();
    let topology = Topology::new().queue(Queue::quorum(queue).dead_letter());
    let app = App::new(broker).topology(topology).telemetry(&telemetry);
    let service = app.consume(Consume::queue(queue), || Report).start().await?;
    service.ready().await?;
    until_idle(&service).await;
    let handled = service.consumers().iter().map(|(_, stats)| stats.handled).sum();
    // After the shutdown, because only then every message is settled and counted.
    service.shutdown().await?;
    push(gateway, "reports", text::prometheus(&telemetry.read())).await?;
    Ok(handled)
}

/// Waits until nothing has come for [`IDLE`] and nothing is in hand.
async fn until_idle(service: &Service) {
    let received = || service.consumers().iter().map(|(_, stats)| stats.received).sum::<u64>();
    let mut before = received();
    loop {
        actix::clock::sleep(IDLE).await;
        let in_hand: usize = service.status().consumers.iter().map(|consumer| consumer.in_hand).sum();
        let now = received();
        if now == before && in_hand == 0 {
            return;
        }
        before = now;
    }
}

/// Replaces what the gateway has of this job. The host belongs to the group, so that two hosts do not overwrite each
/// other's metrics.
async fn push(gateway: &str, job: &str, metrics: String) -> Result<(), reqwest::Error> {
    let host = env::var("HOSTNAME").unwrap_or_else(|_| "local".to_owned());
    let client = reqwest::Client::builder().timeout(PUSH_LIMIT).build()?;
    let request = client.put(format!("{gateway}/metrics/job/{job}/instance/{host}"));
    let request = request.header("Content-Type", text::PROMETHEUS).body(metrics);
    request.send().await?.error_for_status().map(drop)
}
