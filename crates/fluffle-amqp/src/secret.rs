//! A string that never prints itself.

use std::fmt;

/// A password or private key: `Debug` shows `***`, there is no `Display`, and nothing but the socket reads it.
///
/// ```
/// let secret = fluffle_amqp::Secret::new("hunter2");
/// assert_eq!(format!("{secret:?}"), "***");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `value`.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
