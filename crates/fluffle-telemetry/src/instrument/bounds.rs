//! The bounds of the buckets of histograms.

/// The upper bounds of a histogram's buckets, in ascending order. Values above the last one have a bucket of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// In the unit in which values are recorded: nanoseconds, or things.
    values: &'static [u64],
    /// As they are rendered: in seconds, or things.
    rendered: &'static [f64],
}

const US: u64 = 1_000;
const MS: u64 = 1_000_000;
const S: u64 = 1_000_000_000;

/// For times: 50 µs to 60 s. The convention's advice begins at 5 ms, which is longer than most stages of a message.
pub(crate) const TIMES: Bounds = Bounds {
    values: &[
        50 * US,
        100 * US,
        250 * US,
        500 * US,
        MS,
        2_500 * US,
        5 * MS,
        10 * MS,
        25 * MS,
        50 * MS,
        100 * MS,
        250 * MS,
        500 * MS,
        S,
        2_500 * MS,
        5 * S,
        10 * S,
        30 * S,
        60 * S,
    ],
    rendered: &[
        0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
        10.0, 30.0, 60.0,
    ],
};

/// For the age of messages, which may wait for hours in a queue or between attempts: 1 ms to a week.
pub(crate) const AGES: Bounds = Bounds {
    values: &[
        MS,
        10 * MS,
        100 * MS,
        S,
        5 * S,
        15 * S,
        60 * S,
        300 * S,
        900 * S,
        3_600 * S,
        14_400 * S,
        86_400 * S,
        604_800 * S,
    ],
    rendered: &[0.001, 0.01, 0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0],
};

/// For the messages in a batch.
pub(crate) const SIZES: Bounds = Bounds {
    values: &[1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536],
    rendered: &[1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0],
};

impl Bounds {
    /// How many buckets there are, that for the values above all bounds included.
    pub(crate) fn buckets(self) -> usize {
        self.values.len() + 1
    }

    /// The bucket for a value: the first whose bound is not less.
    #[inline]
    pub(crate) fn bucket(self, value: u64) -> usize {
        self.values.partition_point(|bound| *bound < value)
    }

    pub(crate) fn rendered(self) -> &'static [f64] {
        self.rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::cast_precision_loss, reason = "the bounds are round")]
    fn bounds_ascend_and_say_the_same_in_both_units() {
        for (bounds, unit) in [(TIMES, 1e9), (AGES, 1e9), (SIZES, 1.0)] {
            assert!(bounds.values.is_sorted_by(|a, b| a < b));
            let rendered: Vec<_> = bounds.values.iter().map(|value| *value as f64 / unit).collect();
            assert_eq!(rendered, bounds.rendered);
        }
    }

    #[test]
    fn a_value_on_a_bound_is_in_its_bucket_and_one_above_in_the_next() {
        assert_eq!((SIZES.bucket(0), SIZES.bucket(1), SIZES.bucket(2)), (0, 0, 1));
        assert_eq!((SIZES.bucket(65_536), SIZES.bucket(65_537)), (8, 9));
    }
}
