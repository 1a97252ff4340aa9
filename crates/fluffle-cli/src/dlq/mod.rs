//! `fluffle dlq`: dead letters of Fluffle and of others.

pub(crate) mod args;
mod export;
mod filter;
mod interrupt;
mod letter;
mod look;
mod progress;
mod reach;
mod replay;
mod seeing;
mod shape;

use crate::{
    common::{exit::Exit, failure::Failure},
    dlq::args::{DlqArgs, DlqCommand},
};

/// Runs the command. It has done its work [in part](Exit::Attention) if letters were refused, if the same failed again,
/// or if it was interrupted.
pub(crate) fn command(args: &DlqArgs) -> Result<Exit, Failure> {
    let run = async {
        match &args.command {
            DlqCommand::List(args) => seeing::list(args).await,
            DlqCommand::Show(args) => seeing::show(args).await,
            DlqCommand::Groups(args) => seeing::groups(args).await,
            DlqCommand::Export(args) => export::export(args).await,
            DlqCommand::Discard(args) => export::discard(args).await,
            DlqCommand::Replay(args) => replay::replay(args).await,
        }
    };
    let is_whole = tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run)?;
    Ok(if is_whole { Exit::Clean } else { Exit::Attention })
}
