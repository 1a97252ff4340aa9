//! The broker as a command: for first steps, and for the tests of clients in other languages.

use std::{error::Error, net::SocketAddr};

use clap::Parser;
use fluffle_broker::Broker;

/// An AMQP 0-9-1 broker in memory, for first runs and tests; production is RabbitMQ.
///
/// User guest, password guest, virtual host /.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:5672")]
    listen: SocketAddr,
    /// One more virtual host beside / (may be given several times)
    #[arg(long)]
    vhost: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let builder =
        options.vhost.into_iter().fold(Broker::builder().listen(options.listen), |builder, vhost| builder.vhost(vhost));
    let broker = builder.start()?;
    println!("listening on {}", broker.url());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(tokio::signal::ctrl_c())?;
    Ok(())
}
