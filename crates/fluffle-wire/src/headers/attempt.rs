use std::fmt;
use std::num::NonZeroU32;

use super::{ATTEMPT, HeaderValue, REASON};

/// Which attempt at handling a message this is: 1 for the first.
///
/// The message carries the number, because a retry is a new copy and the broker's own counters start again with each
/// copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(NonZeroU32);

impl Attempt {
    /// The first attempt, which needs no header.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The attempt with this number. `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Reads the header.
    ///
    /// On a dead letter, which is a message with a [`REASON`], the result is the first attempt whatever the header
    /// says, because someone put the message back into its queue to be tried again. The number of attempts before that
    /// stays readable as [`DeadLetterInfo::attempts`](super::DeadLetterInfo::attempts).
    ///
    /// If the header is absent, this is the first attempt. The same holds for an invalid value (text that is not a
    /// number, zero, or less): the message is treated as new, and its retry copy carries a valid number again. A number
    /// that is too large becomes `u32::MAX`, which is past any limit.
    pub fn read<'a>(header: impl Fn(&'static str) -> Option<HeaderValue<'a>>) -> Self {
        if header(REASON).is_some() { Self::FIRST } else { Self::number(header(ATTEMPT)) }
    }

    /// Reads the number from the header's value, without regard to [`REASON`].
    pub(super) fn number(header: Option<HeaderValue<'_>>) -> Self {
        let number = header.and_then(|value| value.as_int()).unwrap_or(1);
        Self::new(u32::try_from(number.max(1)).unwrap_or(u32::MAX)).unwrap_or(Self::FIRST)
    }

    /// The number, from 1.
    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The attempt after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The header with this number.
    pub fn header(self) -> (&'static str, HeaderValue<'static>) {
        (ATTEMPT, HeaderValue::Int(self.get().into()))
    }
}

impl Default for Attempt {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
