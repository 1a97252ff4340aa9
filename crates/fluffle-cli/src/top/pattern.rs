//! Which queues are looked at.

use std::{convert::Infallible, str::FromStr};

/// A name, in which each `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(String);

impl FromStr for Pattern {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl Pattern {
    /// The name, if the pattern stands for one only.
    pub(crate) fn name(&self) -> Option<&str> {
        (!self.0.contains('*')).then_some(&self.0)
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    pub(crate) fn holds(&self, name: &str) -> bool {
        let Some((first, rest)) = self.0.split_once('*') else { return self.0 == name };
        let Some(mut left) = name.strip_prefix(first) else { return false };
        let mut parts: Vec<&str> = rest.split('*').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            // The first occurrence leaves the most text for the parts behind it.
            let Some(at) = left.find(part) else { return false };
            left = left.get(at + part.len()..).unwrap_or_default();
        }
        left.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        let holds = |pattern: &str, name: &str| Pattern(pattern.to_owned()).holds(name);
        for (pattern, name) in
            [("orders", "orders"), ("*", ""), ("orders.*", "orders.eu"), ("*.dead", "a.b.dead"), ("a*b*c", "a1b2b3c")]
        {
            assert!(holds(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("orders", "orders.eu"), ("a*a", "a"), ("orders.*", "order"), ("a*b*c", "acb")] {
            assert!(!holds(pattern, name), "{pattern} {name}");
        }
    }
}
