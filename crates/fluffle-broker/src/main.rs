//! The broker as a command, for first steps, and for tests of clients in other languages.

use std::{error::Error, io, io::IsTerminal, net::SocketAddr, process::ExitCode};

use clap::Parser;
use fluffle_broker::Broker;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// An AMQP 0-9-1 broker in memory, for first runs and tests; in production, use RabbitMQ.
///
/// As soon as it listens, it prints how to connect on the first line of standard output. Ctrl-C and SIGTERM close the
/// connections with 320 and end it; all its messages and entities are lost then. Warnings are logged to standard error;
/// RUST_LOG=debug also logs why channels and connections were closed.
#[derive(Parser)]
#[command(version)]
struct Options {
    /// Address to listen on; port 0 for any free port, [::] for every address of this machine
    #[arg(long, default_value = "127.0.0.1:5672")]
    listen: SocketAddr,
    /// Additional virtual host besides / (may be given several times)
    #[arg(long, value_name = "NAME")]
    vhost: Vec<String>,
    /// Additional user besides guest (password guest), for every virtual host (may be given several times)
    #[arg(long, value_name = "NAME:PASSWORD", value_parser = name_and_password)]
    user: Vec<(String, String)>,
}

fn name_and_password(text: &str) -> Result<(String, String), &'static str> {
    let (name, password) = text.split_once(':').ok_or("expected a name, a colon and a password")?;
    if name.is_empty() {
        return Err("the name before the colon is missing");
    }
    Ok((name.to_owned(), password.to_owned()))
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let colours = io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).init();
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fluffle-broker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    let builder = Broker::builder().listen(options.listen);
    let builder = options.vhost.into_iter().fold(builder, |builder, vhost| builder.vhost(vhost));
    let builder = options.user.into_iter().fold(builder, |builder, (name, password)| builder.user(name, password));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        // Register before the first line is printed, because a reader of that line may send a signal at once.
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let broker = builder.start()?;
        println!("listening on {}", broker.url());
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        broker.stop()?;
        Ok(())
    })
}
