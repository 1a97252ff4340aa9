//! The ids of messages that were already handled.

mod command;
mod handle;
#[cfg(feature = "sqlite")]
mod keeper;
#[cfg(feature = "sqlite")]
mod open;
mod options;
#[cfg(feature = "sqlite")]
mod table;
#[cfg(all(test, feature = "sqlite"))]
mod tests;

#[cfg(feature = "sqlite")]
pub(crate) use self::table::APPLICATION_ID;
pub use self::{handle::SeenIds, options::SeenIdsOptions};
