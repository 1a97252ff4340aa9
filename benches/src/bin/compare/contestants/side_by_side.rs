//! The two threads of a contestant that has no threads of its own.

use std::thread;

use tokio::runtime;

use crate::{course::Course, failure::Failure};

/// Runs a publisher and a consumer side by side, each on a thread with its own runtime. The consumer runs until the
/// course is over, which is when the publisher ends or either fails.
pub(super) fn side_by_side(
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
