//! The ids of messages that were already handled.

#[cfg(feature = "sqlite")]
mod answer;
mod command;
mod handle;
#[cfg(feature = "sqlite")]
mod items;
#[cfg(feature = "sqlite")]
mod keeper;
#[cfg(feature = "sqlite")]
mod open;
mod options;
#[cfg(feature = "sqlite")]
mod table;
#[cfg(all(test, feature = "sqlite"))]
mod tests;

pub use self::{handle::SeenIds, options::SeenIdsOptions};
#[cfg(feature = "sqlite")]
pub(crate) use self::{
    items::{Items, id_of},
    table::SEEN,
};
