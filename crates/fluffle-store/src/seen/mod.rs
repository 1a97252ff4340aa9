//! The ids of messages that were already handled.

mod answer;
mod handle;
mod items;
mod keeper;
mod open;
mod options;
mod table;
#[cfg(test)]
mod tests;

pub use self::{handle::SeenIds, options::SeenIdsOptions};
pub(crate) use self::{
    items::{Items, id_of},
    table::SEEN,
};
