//! `cargo xtask torture`.

use std::{
    any::Any,
    io::{Write, stderr},
    panic,
    process::ExitCode,
    thread,
};

use clap::Parser;
use torture::{
    args::{Args, Inner},
    child, handlers, many, run, stranger,
};

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "off".into()))
        .with_writer(stderr)
        // If standard error is a file, it cannot be written either while the disk is full.
        .log_internal_errors(false)
        .init();
    be_quiet_about_scripted_panics();
    let args = Args::parse();
    let outcome = match (&args.inner, &args.seeds) {
        (Some(Inner::Child(child)), _) => actix::System::new().block_on(child::live(child.clone())).map(|()| true),
        (None, Some(seeds)) => many::run(&args, seeds).map(|failed| failed.is_empty()).map_err(Into::into),
        (None, None) => actix::System::new().block_on(one(&args)),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(stderr(), "torture: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs one seed. Returns whether every promise was kept.
async fn one(args: &Args) -> Result<bool, fluffle::Error> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut folder = tempfile::Builder::new().prefix("fluffle-torture-").tempdir()?;
    let (report, tail) = run::run(args, seed, folder.path()).await?;
    if !report.breaches.is_empty() {
        report.tell_breaches(|id| tail.history(id));
        folder.disable_cleanup(true);
        println!("all facts are in {}", folder.path().display());
    }
    println!("{report}");
    Ok(report.breaches.is_empty())
}

fn be_quiet_about_scripted_panics() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let payload: &dyn Any = panic.payload();
        let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        if text != Some(handlers::PANIC) && thread::current().name() != Some(stranger::THREAD) {
            tell(panic);
        }
    }));
}
