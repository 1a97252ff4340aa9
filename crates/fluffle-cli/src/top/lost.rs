//! Somebody who gives no answer, since when and why.

use serde::Serialize;

/// Somebody who gives no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Lost {
    /// When the first look failed.
    pub(crate) since: u64,
    pub(crate) why: String,
}
