//! The contestants: one file each, written as an expert of that library would write it.

mod amqprs;
mod fluffle;
mod lapin_naive;
mod lapin_tuned;
mod ruststream;

use std::{sync::Arc, thread};

use tokio::runtime;

use crate::{Failure, course::Course};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Contestant {
    LapinNaive,
    LapinTuned,
    LapinLabelled,
    Amqprs,
    Ruststream,
    Fluffle,
    FluffleJournaled,
    FluffleUncompressed,
}

impl Contestant {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LapinNaive => "lapin_naive",
            Self::LapinTuned => "lapin_tuned",
            Self::LapinLabelled => "lapin_labelled",
            Self::Amqprs => "amqprs",
            Self::Ruststream => "ruststream",
            Self::Fluffle => "fluffle",
            Self::FluffleJournaled => "fluffle_journaled",
            Self::FluffleUncompressed => "fluffle_uncompressed",
        }
    }

    /// Whether this is one of the variants of Fluffle.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Fluffle | Self::FluffleJournaled | Self::FluffleUncompressed)
    }

    /// Whether the report shows the ratio of `ours` to this.
    pub(crate) fn is_compared_with(self, ours: Self) -> bool {
        match (self, ours) {
            (Self::Fluffle, Self::FluffleJournaled) | (Self::FluffleUncompressed, Self::Fluffle) => true,
            _ => !self.is_ours(),
        }
    }

    /// Runs the course to its end, blocking.
    pub(crate) fn run(self, course: &Arc<Course>) -> Result<(), Failure> {
        match self {
            Self::LapinNaive => lapin_naive::run(course),
            Self::LapinTuned => lapin_tuned::run(course),
            Self::LapinLabelled => lapin_tuned::run_labelled(course),
            Self::Amqprs => amqprs::run(course),
            Self::Ruststream => ruststream::run(course),
            Self::Fluffle => fluffle::run(course),
            Self::FluffleJournaled => fluffle::run_journaled(course),
            Self::FluffleUncompressed => fluffle::run_uncompressed(course),
        }
    }
}

/// Runs a publisher and a consumer side by side, each on a thread with its own runtime. The consumer runs until the
/// course is over, which is when the publisher ends or either fails.
fn side_by_side(
    course: &Course,
    publish: impl Future<Output = Result<(), Failure>>,
    consume: impl Future<Output = Result<(), Failure>> + Send,
) -> Result<(), Failure> {
    let to_the_end = |work: Result<(), Failure>| {
        course.end();
        work
    };
    thread::scope(|scope| {
        let consuming = scope.spawn(|| to_the_end(on_this_thread(consume)));
        let published = to_the_end(on_this_thread(publish));
        // If the consumer failed, that is why the publisher could not go on.
        consuming.join().map_err(|_| "the consumer panicked")?.and(published)
    })
}

fn on_this_thread(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
