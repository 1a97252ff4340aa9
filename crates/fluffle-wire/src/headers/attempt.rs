use std::fmt;
use std::num::NonZeroU32;

use super::{ATTEMPT, HeaderValue, REASON};

/// Which attempt at handling a message this is: 1 for the first.
///
/// It travels with the message because a retry is a new copy, and the broker's own counters start again with each copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(NonZeroU32);

impl Attempt {
    /// The first attempt, which needs no header.
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    /// The attempt of this number; `None` for 0.
    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    /// Reads the header.
    ///
    /// On a dead letter, which is a message with a [`REASON`], this is the first attempt whatever the header says:
    /// someone put it back into its queue to be tried anew. What it had used up stays readable as
    /// [`DeadLetterInfo::attempts`](super::DeadLetterInfo::attempts).
    ///
    /// Absent means the first attempt. So does nonsense (text that is no number, zero, less): the message is treated
    /// as new, and the retry copy made from it carries a good number again. A number too large counts as the largest,
    /// past any cap.
    pub fn read<'a>(header: impl Fn(&'static str) -> Option<HeaderValue<'a>>) -> Self {
        if header(REASON).is_some() { Self::FIRST } else { Self::number(header(ATTEMPT)) }
    }

    /// The number a header holds, wherever it stands.
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

    /// The header that says so.
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
