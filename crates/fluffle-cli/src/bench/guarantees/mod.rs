//! `fluffle bench --guarantees`: what each guarantee costs on one broker, in one run.

mod leftovers;
mod report;
mod table;
mod ways;

use std::time::Duration;

use futures_util::FutureExt;

use crate::{
    bench::{
        args::BenchArgs,
        guarantees::{
            report::{Comparison, Measured},
            ways::{WAYS, Way},
        },
        plan::Plan,
        run::{self, Place},
    },
    common::{exit::Exit, failure::Failure, output, runtime::Interrupt},
    units::count,
};

/// How long each way is measured, unless `--time` says otherwise.
const TIME: Duration = Duration::from_secs(2);

/// How long each way runs before, unless `--warm-up` says otherwise.
const WARM_UP: Duration = Duration::from_millis(500);

/// Measures the ways one after the other, each on queues of its own, which are deleted behind it, and prints the table.
pub(crate) fn command(args: &BenchArgs) -> Result<Exit, Failure> {
    let place = Place::new(args.url.as_deref())?;
    let comparison = actix::System::new().block_on(compare(args, &place))?;
    if args.json {
        output::json(&comparison)?;
    } else {
        print!("{}", table::render(&comparison));
    }
    Ok(comparison.exit())
}

async fn compare(args: &BenchArgs, place: &Place) -> Result<Comparison, Failure> {
    let mut comparison = Comparison::new(&place.name, &args.size.to_string(), args.time.unwrap_or(TIME));
    let mut interrupt = Interrupt::new()?;
    for (number, way) in WAYS.iter().enumerate() {
        let measured = measure(args, place, way).await?;
        if !args.quiet {
            let rate = measured.per_s.map_or("not measured".to_owned(), |rate| format!("{} msg/s", count(rate as u64)));
            eprintln!("{}/{} {}: {rate}", number + 1, WAYS.len(), way.name);
        }
        comparison.add(measured);
        if interrupt.wait().now_or_never().is_some() {
            comparison.interrupted = true;
        }
        if comparison.interrupted {
            break;
        }
    }
    Ok(comparison)
}

/// Measures one way, and deletes its queues. The error is for a broker that cannot be reached, or whose queues cannot
/// be deleted: the ways behind would fare no better.
async fn measure(args: &BenchArgs, place: &Place, way: &Way) -> Result<Measured, Failure> {
    let mut args = args.clone();
    args.time.get_or_insert(TIME);
    args.warm_up.get_or_insert(WARM_UP);
    args.quiet = true;
    way.set(&mut args);
    let plan = Plan::new(&args, fastrand::u32(..))?;
    let queues: Vec<String> = (0..plan.queues).map(|index| plan.queue(index)).chain([plan.dead_letters()]).collect();
    let run = run::execute(plan, place).await;
    let deleted = leftovers::delete(&place.broker, &queues).await;
    match (run, deleted) {
        (Ok(summary), Ok(())) => Ok(Measured::new(way, &summary)),
        (Err(why), Ok(())) => Ok(Measured::failed(way, &why)),
        (Err(why), Err(_)) => Err(why),
        (Ok(_), Err(why)) => Err(Failure::new(format!(
            "{why}; the queues {} expire ten minutes after their last use, the last one after a day",
            queues.join(", ")
        ))),
    }
}
