//! Whether the machine stands still: then deadlines pass that nobody has missed.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crate::fact::{Fact, Facts};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What takes so much longer than it should is worth telling. The shortest deadline of the workload is a second.
pub(crate) const LONG: Duration = Duration::from_millis(250);

/// Tells of it for as long as this process lives.
///
/// # Errors
/// When there can be no thread.
pub fn watch(facts: &Facts) -> io::Result<()> {
    let facts = facts.clone();
    let watching = move || {
        loop {
            let asleep = Instant::now();
            thread::sleep(LOOK);
            let late = asleep.elapsed().saturating_sub(LOOK);
            if late >= LONG {
                facts.tell(&Fact::Stall(late));
            }
        }
    };
    thread::Builder::new().name("stalls".to_owned()).spawn(watching)?;
    Ok(())
}
