//! `fluffle bench`.

pub(crate) mod args;
mod consumer;
mod guarantees;
mod ledger;
mod live;
mod message;
mod meter;
mod payload;
mod plan;
mod producer;
mod progress;
mod report;
mod run;
mod schedule;
mod sequences;
mod stages;
mod state;
mod summary;
mod usage;
mod verdict;
mod watch;

use std::{
    fs,
    io::{IsTerminal, Write},
};

use tracing_subscriber::EnvFilter;

use crate::{
    bench::{args::BenchArgs, plan::Plan, run::Place, summary::Summary},
    common::{exit::Exit, failure::Failure},
};

/// Runs the command, and prints the report.
pub(crate) fn command(args: &BenchArgs) -> Result<Exit, Failure> {
    tell_of_trouble();
    if args.guarantees {
        return guarantees::command(args);
    }
    Ok(if bench(args)?.verdict.ok { Exit::Clean } else { Exit::Bad })
}

fn bench(args: &BenchArgs) -> Result<Summary, Failure> {
    let plan = Plan::new(args, fastrand::u32(..))?;
    // Creates the file before the run, so that a wrong path is noticed before the load and not after it.
    let html = args.html.as_ref().map(|path| {
        let file = fs::File::create(path);
        file.map_err(|error| Failure::new(format!("--html {}: {error}", path.display())))
    });
    let html = html.transpose()?;
    let place = Place::new(args.url.as_deref())?;
    let summary = actix::System::new().block_on(run::execute(plan, &place))?;
    if args.json {
        println!("{}", report::json::render(&summary)?);
    } else {
        print!("{}", report::text::render(&summary));
    }
    if let (Some(mut file), Some(path)) = (html, &args.html) {
        file.write_all(report::html::render(&summary)?.as_bytes())?;
        eprintln!("the report as an HTML page: {}", path.display());
    }
    Ok(summary)
}

/// Logs errors only, because the line of each second already shows problems that the framework repairs. `RUST_LOG`
/// overrides this.
fn tell_of_trouble() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error,lapin=off"));
    let stderr = std::io::stderr;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_ansi(stderr().is_terminal()).init();
}
