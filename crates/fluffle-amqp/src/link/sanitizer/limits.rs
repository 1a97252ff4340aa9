//! Limits of what lapin is given to parse.

/// Deepest nesting of tables and arrays in one header value.
pub(super) const MAX_DEPTH: usize = 32;

/// Most values in one table, those in nested tables and arrays included. Each takes some 100 bytes of memory when it is
/// parsed, however short it is on the wire.
pub(super) const MAX_VALUES: usize = 4096;
