//! The contestants: one file each, written as an expert of that library would write it.

mod amqprs;
pub(crate) mod fluffle;
mod lapin_naive;
mod lapin_tuned;
mod ruststream;
mod side_by_side;

use std::sync::Arc;

use crate::{contestant::Contestant, course::Course, failure::Failure};

/// Runs the course to its end, blocking.
pub(crate) fn run(contestant: Contestant, course: &Arc<Course>) -> Result<(), Failure> {
    match contestant {
        Contestant::LapinNaive => lapin_naive::run(course),
        Contestant::LapinTuned => lapin_tuned::run(course),
        Contestant::LapinLabelled => lapin_tuned::run_labelled(course),
        Contestant::Amqprs => amqprs::run(course),
        Contestant::Ruststream => ruststream::run(course),
        Contestant::Fluffle => fluffle::run(course),
        Contestant::FluffleAdaptive => fluffle::run_adaptive(course),
        Contestant::FluffleJournaled => fluffle::run_journaled(course),
        Contestant::FluffleMetrics => fluffle::run_measured(course),
        Contestant::FluffleOnIo => fluffle::run_on_io(course),
        Contestant::FluffleTraces => fluffle::run_traced(course),
        Contestant::FluffleUncompressed => fluffle::run_uncompressed(course),
    }
}
