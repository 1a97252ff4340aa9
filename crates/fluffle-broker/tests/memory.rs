//! The memory that a queued message takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    raw::{Raw, frame, header_frame, publish_frame},
    until,
};
use fluffle_broker::Broker;
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn a_queued_message_costs_less_than_500_bytes_besides_its_body() {
    const COUNT: usize = 1_000_000;
    const BODY: usize = 100;
    let broker = Broker::start().unwrap();
    let mut raw = Raw::with_channel(broker.address());
    raw.declare("q");
    let burst = [publish_frame(1, "q"), header_frame(1, BODY as u64), frame(3, 1, &[0; BODY])].concat().repeat(1000);
    let before = MEMORY.current_usage();
    for _ in 0..COUNT / 1000 {
        raw.write(&burst);
    }
    until(&broker, |state| state.queue("q").unwrap().ready == COUNT);
    let each = (MEMORY.current_usage() - before) / COUNT - BODY;
    println!("{each} bytes of overhead each");
    assert!(each < 500, "{each} bytes");
    // The memory is freed again.
    broker.kill().unwrap();
    assert!(MEMORY.current_usage() < before + (1 << 20), "{} bytes are kept", MEMORY.current_usage() - before);
}
