//! Values as people write them in a file or in an environment variable: durations, sizes, numbers, words.
//!
//! Each error says what was written and what is allowed; the library that reads the file adds the key and the place.
//! Numbers and flags are read from text too, because an environment variable holds nothing else.

mod choice;
mod duration;
mod flag;
mod number;
mod restarts;
mod size;
mod switchable;
mod value;
mod wire;

pub(crate) use choice::{Choice, Word};
pub(crate) use duration::{DurationText, Span, YEAR};
pub(crate) use flag::Flag;
pub(crate) use number::{Real, Whole};
pub(crate) use restarts::{BackoffWritten, IntensityWritten};
pub(crate) use size::Size;
pub(crate) use switchable::Switchable;
#[cfg(test)]
pub(crate) use value::tests;
pub(crate) use value::{Written, made_from, or};
pub(crate) use wire::{GzipWritten, LimitsWritten};
