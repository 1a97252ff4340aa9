//! The ids of messages that were already handled.

mod handle;
mod keeper;
mod open;
mod options;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use self::table::APPLICATION_ID;
pub use self::{handle::SeenIds, options::SeenIdsOptions};
