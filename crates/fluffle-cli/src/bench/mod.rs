//! `fluffle bench`.

mod consumer;
mod failure;
mod ledger;
mod live;
mod message;
mod meter;
mod payload;
mod plan;
mod producer;
mod report;
mod run;
mod schedule;
mod sequences;
mod stages;
mod summary;
mod usage;
mod verdict;
mod watch;

use std::{fs, process::ExitCode};

use crate::{
    args::BenchArgs,
    bench::{failure::Failure, plan::Plan, summary::Summary},
};

/// Runs it, reports, and says how it went.
pub(crate) fn command(args: &BenchArgs) -> ExitCode {
    tell_of_trouble();
    match bench(args) {
        Ok(summary) if summary.verdict.ok => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(failure) => {
            eprintln!("fluffle bench: {failure}");
            ExitCode::from(2)
        }
    }
}

fn bench(args: &BenchArgs) -> Result<Summary, Failure> {
    let plan = Plan::new(args, fastrand::u32(..))?;
    // Before the run: it would be a pity afterwards.
    let html = args.html.as_ref().map(|path| {
        let file = fs::File::create(path);
        file.map_err(|error| Failure::usage(format!("--html {}: {error}", path.display())))
    });
    let html = html.transpose()?;
    let summary = actix::System::new().block_on(run::execute(plan))?;
    if args.json {
        println!("{}", report::json::render(&summary)?);
    } else {
        print!("{}", report::text::render(&summary));
    }
    if let (Some(mut file), Some(path)) = (html, &args.html) {
        std::io::Write::write_all(&mut file, report::html::render(&summary)?.as_bytes())?;
        eprintln!("the report as a page: {}", path.display());
    }
    Ok(summary)
}

/// What the framework warns of belongs to the picture; `RUST_LOG` says otherwise.
fn tell_of_trouble() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,lapin=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
