//! The ledger: whether everything that came in is settled or still open.

/// One reading of a ledger, taken while messages flow: what came in and what was settled are read before and after what
/// is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entries {
    /// Accepted or received, before `open` was read, and after.
    pub(crate) entered: [u64; 2],
    /// Settled, before `open` was read, and after.
    pub(crate) settled: [u64; 2],
    /// Outstanding, or in hand.
    pub(crate) open: u64,
}

impl Entries {
    /// What is missing at the moment when `open` was read, as near to zero as the reading allows. Both totals only
    /// grow, so at that moment each was between its two readings.
    fn missing(&self) -> i64 {
        let [entered_before, entered_after] = self.entered.map(signed);
        let [settled_before, settled_after] = self.settled.map(signed);
        let open = signed(self.open);
        let least = entered_before - settled_after - open;
        let most = entered_after - settled_before - open;
        0.clamp(least, most.max(least))
    }

    /// What had come in and what was settled at the moment when `open` was read, so that a reader can add them up: if
    /// nothing is missing, both are chosen from between their two readings. Else they are the last readings.
    pub(crate) fn at_one_moment(&self) -> [u64; 2] {
        let ([entered_before, entered], [settled_before, settled]) = (self.entered, self.settled);
        let fits = entered.saturating_sub(self.open).clamp(settled_before, settled.max(settled_before));
        let came = fits + self.open;
        if (entered_before..=entered).contains(&came) { [came, fits] } else { [entered, settled] }
    }
}

/// The ledger of one publisher or of one queue.
///
/// A message is counted on one thread and leaves a queue on another, so a single reading may catch it between the two.
/// What is really missing stays missing: only what [`ROUNDS`] readings in a row agree on is an imbalance.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The smallest imbalance of the readings in a row that had the same sign.
    missing: i64,
    rounds: u32,
}

/// Half a second apart, as the sampler reads: an imbalance is shown after 2 s.
const ROUNDS: u32 = 4;

impl Ledger {
    /// Takes a reading, and says what is missing: more than 0 if a message was lost from the books, less than 0 if one
    /// was counted twice.
    pub(crate) fn read(&mut self, entries: &Entries) -> i64 {
        let missing = entries.missing();
        if missing == 0 {
            *self = Self::default();
        } else if self.rounds > 0 && missing.signum() == self.missing.signum() {
            self.rounds += 1;
            self.missing = if missing.abs() < self.missing.abs() { missing } else { self.missing };
        } else {
            *self = Self { missing, rounds: 1 };
        }
        if self.rounds >= ROUNDS { self.missing } else { 0 }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn still(entered: u64, settled: u64, open: u64) -> Entries {
        Entries { entered: [entered; 2], settled: [settled; 2], open }
    }

    #[test]
    fn what_flows_while_it_is_read_is_not_missing() {
        let mut ledger = Ledger::default();
        for _ in 0..10 {
            let flows = Entries { entered: [100, 150], settled: [80, 130], open: 22 };
            assert_eq!(ledger.read(&flows), 0);
            assert_eq!(ledger.read(&still(100, 80, 20)), 0);
        }
    }

    #[test]
    fn what_stays_missing_is_told_after_four_readings_and_what_comes_back_is_forgotten() {
        let mut ledger = Ledger::default();
        let told: Vec<_> = [3, 2, 2, 5, 2].into_iter().map(|lost| ledger.read(&still(100, 100 - lost, 0))).collect();
        assert_eq!(told, [0, 0, 0, 2, 2]);
        assert_eq!(ledger.read(&still(100, 100, 0)), 0);
        assert_eq!(ledger.read(&still(100, 99, 0)), 0, "one reading is no imbalance");
        let mut twice = Ledger::default();
        let told: Vec<_> = (0..4).map(|_| twice.read(&still(100, 101, 0))).collect();
        assert_eq!(told, [0, 0, 0, -1]);
    }

    #[test]
    fn what_is_shown_adds_up_if_nothing_is_missing() {
        let flows = Entries { entered: [100, 150], settled: [80, 130], open: 22 };
        assert_eq!(flows.at_one_moment(), [150, 128]);
        let came_late = Entries { entered: [100, 120], settled: [90, 90], open: 10 };
        assert_eq!(came_late.at_one_moment(), [100, 90]);
        assert_eq!(still(100, 80, 20).at_one_moment(), [100, 80]);
        assert_eq!(still(100, 80, 19).at_one_moment(), [100, 80], "one is missing");
        assert_eq!(still(100, 80, 21).at_one_moment(), [100, 80], "one is too much");
    }

    #[test]
    fn readings_that_differ_in_sign_are_noise() {
        let mut ledger = Ledger::default();
        for _ in 0..10 {
            assert_eq!(ledger.read(&still(100, 99, 0)), 0);
            assert_eq!(ledger.read(&still(100, 101, 0)), 0);
        }
    }
}
