//! Detects that the machine stands still. Deadlines then pass although nobody was late.

use std::{
    io, thread,
    time::{Duration, Instant},
};

use crate::fact::{Fact, Facts, LONG_STALL};

/// How often the clock is read.
const LOOK: Duration = Duration::from_millis(20);

/// Reports stalls as long as this process lives.
///
/// # Errors
/// If no thread can be started.
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
