//! Runs a private RabbitMQ node for as long as it runs itself, and prints the node's URL and folder.
//!
//! `cargo run -p fluffle-harness` gives a broker to play with; end it with Ctrl-C, or by closing its standard input.

use std::io::{Read, stdin};

use fluffle_harness::{HarnessError, RabbitMq};

fn main() -> Result<(), HarnessError> {
    let broker = RabbitMq::shared()?;
    println!("{}\n{}", broker.url(), broker.folder().display());
    let _ = stdin().read_to_end(&mut Vec::new());
    Ok(())
}
