//! Prints the URL and folder of a private RabbitMQ node, which runs for as long as this program.
//!
//! `cargo run -p fluffle-harness` starts a broker to try things out. End it with Ctrl-C, or by closing its standard
//! input.

use std::io::{Read, stdin};

use fluffle_harness::{HarnessError, RabbitMq};

fn main() -> Result<(), HarnessError> {
    let broker = RabbitMq::shared()?;
    println!("{}\n{}", broker.url(), broker.folder().display());
    let _ = stdin().read_to_end(&mut Vec::new());
    Ok(())
}
