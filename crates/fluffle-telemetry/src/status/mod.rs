//! The status page and what it shows.

pub mod page;
pub mod picture;
