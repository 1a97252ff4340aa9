//! Points in time as the page reads them.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Turns [`Instant`]s into milliseconds since 1970-01-01 00:00 UTC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    instant: Instant,
    unix: u64,
}

impl Clock {
    pub(crate) fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), unix: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
    }

    /// When it was made.
    pub(crate) fn started(&self) -> Instant {
        self.instant
    }

    pub(crate) fn unix(&self, at: Instant) -> u64 {
        let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.instant) {
            Some(after) => self.unix.saturating_add(millis(after)),
            None => self.unix.saturating_sub(millis(self.instant.saturating_duration_since(at))),
        }
    }
}
