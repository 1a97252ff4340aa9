//! What a run has done to the broker and the processes.

/// The faults of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The number of faults, restarts included.
    pub faults: u64,
    /// How often the broker or the child was killed or restarted.
    pub restarts: u64,
    /// How often the disk with the child's journals was full for a while. These count as faults, too.
    pub disk_full: u64,
}

impl Damage {
    /// The faults of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            faults: self.faults + other.faults,
            restarts: self.restarts + other.restarts,
            disk_full: self.disk_full + other.disk_full,
        }
    }
}
