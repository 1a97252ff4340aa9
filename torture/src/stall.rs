//! Whether the machine stands still: then deadlines pass that nobody has missed.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crate::fact::{Fact, Facts, LONG_STALL};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_millis(20);

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
            if late >= LONG_STALL {
                facts.tell(&Fact::Stall(late));
            }
        }
    };
    thread::Builder::new().name("stalls".to_owned()).spawn(watching)?;
    Ok(())
}
