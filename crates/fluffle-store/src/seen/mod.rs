//! The ids of messages that were already handled.

mod handle;
mod keeper;
mod open;
mod options;
mod table;
#[cfg(test)]
mod tests;

pub use self::{handle::SeenIds, options::SeenIdsOptions};
