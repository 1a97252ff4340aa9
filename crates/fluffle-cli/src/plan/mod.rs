//! `fluffle plan`: how many nodes and queues a load needs, from what was measured.

pub(crate) mod args;
mod need;
mod report;
mod table;

use crate::{
    common::{failure::Failure, output},
    plan::{args::PlanArgs, need::Need, table::Measurements},
};

/// Prints what the load needs. Nothing is connected to.
pub(crate) fn command(args: &PlanArgs) -> Result<(), Failure> {
    let measured = Measurements::read()?;
    let need = Need::of(args, &measured)?;
    if args.output.json {
        return output::json(&need);
    }
    print!("{}", report::text(&need, &measured));
    Ok(())
}
