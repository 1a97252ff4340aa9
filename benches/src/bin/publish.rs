//! The cost of a message in the publisher itself, to be counted instead of timed:
//!
//! ```text
//! fluffle-broker --listen 127.0.0.1:5999 &
//! valgrind --tool=callgrind target/release/publish single 20000 amqp://127.0.0.1:5999
//! ```
//!
//! Divide the difference of two counts by the difference of their messages to get the cost of one message. `single` and
//! `batch` publish to another process's broker and wait for every confirm. `fill` needs no broker, and only fills and
//! seals batches.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use fluffle::{amqp::Receipt, prelude::*};

/// The most receipts held. Then the oldest is awaited.
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
    let mut receipts = VecDeque::with_capacity(IN_HAND);
    for _ in 0..count {
        if receipts.len() == IN_HAND {
            settle(service.is_some(), receipts.pop_front()).await?;
        }
        receipts.push_back(out.enqueue(text.clone()).await?);
    }
    while let Some(receipt) = receipts.pop_front() {
        settle(service.is_some(), Some(receipt)).await?;
    }
    let took = start.elapsed();
    println!("{mode}: {count} in {took:?}, {} a second", per_second(count, took));
    if let Some(service) = service {
        service.shutdown().await?;
    }
    Ok(())
}

async fn settle(wait: bool, receipt: Option<Receipt<String>>) -> Result<(), Box<dyn std::error::Error>> {
    match receipt {
        Some(receipt) if wait => receipt.confirmed().await.map(|_| ()).map_err(Into::into),
        _ => Ok(()),
    }
}

fn per_second(count: usize, took: Duration) -> u64 {
    (count as f64 / took.as_secs_f64()) as u64
}
