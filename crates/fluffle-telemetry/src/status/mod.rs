//! The status page and what it shows.

pub mod picture;
