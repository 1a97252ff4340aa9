//! Limits on the tables that lapin is given to parse.

/// The deepest nesting of tables and arrays in one header value.
pub(super) const MAX_DEPTH: usize = 32;

/// The most values in one table, including those in nested tables and arrays. A parsed value takes about 100 bytes of
/// memory, however short it is on the wire.
pub(super) const MAX_VALUES: usize = 4096;
