//! How far readers have come in their streams.

mod handle;
mod keeper;
mod table;
#[cfg(test)]
mod tests;

pub use self::handle::Offsets;
