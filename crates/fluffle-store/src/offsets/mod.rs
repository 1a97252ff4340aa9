//! How far readers have come in their streams.

mod command;
mod handle;
#[cfg(feature = "sqlite")]
mod keeper;
#[cfg(feature = "sqlite")]
mod open;
#[cfg(feature = "sqlite")]
mod table;
#[cfg(all(test, feature = "sqlite"))]
mod tests;

pub use self::handle::Offsets;
