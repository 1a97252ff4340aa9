//! Any failure of a run.

/// Any failure, told on the terminal.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
