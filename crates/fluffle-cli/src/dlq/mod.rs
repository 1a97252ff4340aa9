//! `fluffle dlq`: dead letters of Fluffle and of others.

pub(crate) mod args;
mod export;
mod filter;
mod interrupt;
mod letter;
mod look;
mod outcome;
mod reach;
mod replay;
mod seeing;
mod shape;
mod value;

use std::process::ExitCode;

use crate::{
    common::failure::Failure,
    dlq::{
        args::{DlqArgs, DlqCommand},
        outcome::Outcome,
    },
};

/// Runs the command, and returns its exit code.
pub(crate) fn command(args: &DlqArgs) -> ExitCode {
    let run = async {
        match &args.command {
            DlqCommand::List(args) => seeing::list(args).await.map(|()| Outcome::Done),
            DlqCommand::Show(args) => seeing::show(args).await.map(|()| Outcome::Done),
            DlqCommand::Groups(args) => seeing::groups(args).await.map(|()| Outcome::Done),
            DlqCommand::Export(args) => export::export(args).await,
            DlqCommand::Discard(args) => export::discard(args).await,
            DlqCommand::Replay(args) => replay::replay(args).await,
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run)) {
        Ok(outcome) => outcome.exit_code(),
        Err(failure) => {
            eprintln!("fluffle dlq: {failure}");
            ExitCode::from(2)
        }
    }
}
