//! What a publisher's own work costs a message, to be counted rather than timed:
//!
//! ```text
//! fluffle-broker --port 5999 &
//! perf stat -e instructions:u target/release/publish single 20000 amqp://127.0.0.1:5999
//! ```
//!
//! The difference of two counts, divided by the difference of messages, is the cost of one. `single` and `batch` publish to a
//! broker elsewhere and wait for every confirm; `fill` needs no broker, and only fills and seals batches.

use std::time::{Duration, Instant};

use fluffle::prelude::*;

/// As many receipts are held before they are awaited.
const IN_HAND: usize = 10_000;

#[actix::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mode = arguments.next().unwrap_or_else(|| "fill".to_owned());
    let count: usize = arguments.next().map_or(Ok(1_000_000), |count| count.parse())?;
    let url = arguments.next().unwrap_or_else(|| "amqp://127.0.0.1:5999".to_owned());
    let app = App::new(Broker::new(&url)?).topology(Topology::new().queue(Queue::classic("q").max_length(1)));
    let route = Route::<String>::queue("q").persistent(false).mailbox(1 << 20).max_bytes_in_flight(u64::MAX);
    let route = if mode == "single" { route } else { route.batch(Batching::default()) };
    let out = app.publisher(route);
    let text = "x".repeat(96);
    let service = match mode.as_str() {
        "fill" => None,
        _ => Some(app.start().await?),
    };
    let start = Instant::now();
    let mut receipts = Vec::with_capacity(IN_HAND);
    for _ in 0..count {
        receipts.push(out.enqueue(text.clone()).await?);
        if receipts.len() == IN_HAND {
            settle(service.is_some(), &mut receipts).await?;
        }
    }
    settle(service.is_some(), &mut receipts).await?;
    let took = start.elapsed();
    println!("{mode}: {count} in {took:?}, {} a second", per_second(count, took));
    if let Some(service) = service {
        service.shutdown().await?;
    }
    Ok(())
}

async fn settle(
    confirmed: bool,
    receipts: &mut Vec<fluffle::amqp::Receipt<String>>,
) -> Result<(), Box<dyn std::error::Error>> {
    for receipt in receipts.drain(..) {
        if confirmed {
            receipt.confirmed().await?;
        }
    }
    Ok(())
}

fn per_second(count: usize, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64()) as u64
}
