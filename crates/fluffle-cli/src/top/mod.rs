//! `fluffle top`: queues and a service as they are now.

pub(crate) mod args;
mod cells;
mod draw;
mod live;
mod look;
mod lost;
mod order;
mod pattern;
mod print;
mod screen;
mod service;
mod source;
mod view;
mod watcher;

use std::io::{IsTerminal, stdin, stdout};

use crate::{
    common::{exit::Exit, failure::Failure, runtime},
    top::{args::TopArgs, watcher::Watcher},
};

/// Runs the subcommand. The exit codes are in its help.
pub(crate) fn command(args: &TopArgs) -> Result<Exit, Failure> {
    let mut watcher = Watcher::new(args)?;
    if let Some(count) = args.prints() {
        return runtime::block_on(async {
            let code = print::run(args, &mut watcher, count).await;
            watcher.close().await;
            code
        });
    }
    if !stdout().is_terminal() || !stdin().is_terminal() {
        return Err(Failure::new(
            "the view needs a terminal as input and output: use `fluffle top --once` for one table, or --json",
        ));
    }
    runtime::block_on(live::run(args, watcher)).map(|()| Exit::Clean)
}
