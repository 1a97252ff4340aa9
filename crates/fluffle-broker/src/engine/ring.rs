//! The buckets of a consistent-hash exchange: each message goes to one bound destination, chosen by weight.
//!
//! Like RabbitMQ's plugin: buckets are numbered in the order of their bindings, and a jump consistent hash (Lamping and
//! Veach, 2014) picks one. A binding added at the end takes an equal share from all others, and moves nothing between
//! them.

use super::{
    arguments,
    binding::Destination,
    message::{Properties, Property},
    refusal::Refusal,
    table::{Plain, Table},
};

/// Runs of consecutive buckets, each run leading to one destination.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    runs: Vec<(Destination, u64)>,
}

impl Ring {
    /// Adds a destination with as many buckets as its weight. If it already exists, it keeps its buckets.
    pub(crate) fn add(&mut self, destination: &Destination, weight: u64) {
        if !self.runs.iter().any(|(known, _)| known == destination) {
            self.runs.push((destination.clone(), weight));
        }
    }

    /// Removes the buckets of a destination; the buckets behind them move up.
    pub(crate) fn remove(&mut self, destination: &Destination) {
        self.runs.retain(|(known, _)| known != destination);
    }

    /// The destination for this value; `None` while nothing is bound.
    pub(crate) fn pick(&self, value: &[u8]) -> Option<&Destination> {
        let buckets = self.runs.iter().fold(0_u64, |sum, (_, weight)| sum.saturating_add(*weight));
        let mut bucket = jump(fnv1a(value), buckets)?;
        self.runs.iter().find_map(|(destination, weight)| match bucket.checked_sub(*weight) {
            None => Some(destination),
            Some(rest) => {
                bucket = rest;
                None
            }
        })
    }
}

/// The value of a message that a consistent-hash exchange hashes.
pub(crate) fn hashed(exchange: &Table, key: &[u8], properties: &Properties) -> Vec<u8> {
    if let Some(header) = arguments::text(exchange, "hash-header") {
        return properties
            .headers()
            .get(header)
            .map(|value| match value.plain() {
                Plain::Text(text) => text.to_vec(),
                Plain::Inside(inside) => inside.to_vec(),
                _ => arguments::shown(value).into_bytes(),
            })
            .unwrap_or_default();
    }
    let hashed = match arguments::text(exchange, "hash-property") {
        None => Some(key),
        Some("correlation_id") => properties.short(Property::CorrelationId),
        Some("message_id") => properties.short(Property::MessageId),
        Some(_) => properties.value(Property::Timestamp),
    };
    hashed.unwrap_or_default().to_vec()
}

/// Checks the arguments of an exchange. Refusals use the words of RabbitMQ's plugin.
pub(crate) fn check(exchange: &Table) -> Result<(), Refusal> {
    let has = |name: &str| exchange.contains(name);
    match arguments::text(exchange, "hash-property") {
        Some(_) if has("hash-header") => {
            Err(Refusal::precondition("hash-header and hash-property are mutually exclusive"))
        }
        Some("correlation_id" | "message_id" | "timestamp") | None => Ok(()),
        Some(other) => Err(Refusal::precondition(format!("Unsupported property: {other}"))),
    }
}

/// Reads the key of a binding, which is its weight.
pub(crate) fn weight(key: &str) -> Result<u64, Refusal> {
    let digits = key.strip_prefix(['+', '-']).unwrap_or(key);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let text = format!("The binding key must be an integer: <<\"{key}\">>");
        return Err(Refusal::precondition(text));
    }
    let below_one = key.starts_with('-') || digits.bytes().all(|digit| digit == b'0');
    match key.parse::<u64>() {
        _ if below_one => Err(Refusal::precondition("The binding key must be greater than 0")),
        Ok(weight) => Ok(weight),
        Err(_) => Err(Refusal::precondition(format!("The binding key must be less than 2^64: {key}"))),
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Returns the bucket for a key. Growing from *n* to *n + 1* buckets moves one key in *n + 1*, and only to the new
/// bucket.
fn jump(mut key: u64, buckets: u64) -> Option<u64> {
    let (mut bucket, mut next) = (None, 0_u64);
    while next < buckets {
        bucket = Some(next);
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let fraction = ((key >> 33) + 1) as f64 / (1_u64 << 31) as f64;
        next = ((next + 1) as f64 / fraction) as u64;
    }
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(name: &str) -> Destination {
        Destination::Exchange(name.into())
    }

    fn ring(weights: &[(&str, u64)]) -> Ring {
        let mut ring = Ring::default();
        weights.iter().for_each(|(name, weight)| ring.add(&to(name), *weight));
        ring
    }

    fn picks(ring: &Ring) -> Vec<Option<Destination>> {
        (0..10_000).map(|number| ring.pick(format!("key-{number}").as_bytes()).cloned()).collect()
    }

    #[test]
    fn keys_spread_by_weight() {
        let picks = picks(&ring(&[("one", 1), ("two", 2), ("one again", 1)]));
        let share = |name: &str| picks.iter().filter(|pick| **pick == Some(to(name))).count();
        let shares = (share("one"), share("two"), share("one again"));
        assert!((2_300..2_700).contains(&shares.0) && (4_700..5_300).contains(&shares.1), "{shares:?}");
        assert_eq!(shares.0 + shares.1 + shares.2, 10_000);
    }

    #[test]
    fn one_more_takes_its_share_from_all_and_moves_nothing_else() {
        let mut ring = ring(&[("a", 1), ("b", 1), ("c", 1)]);
        let before = picks(&ring);
        ring.add(&to("d"), 1);
        let moved: Vec<_> = before.iter().zip(picks(&ring)).filter(|(before, after)| *before != after).collect();
        assert!(moved.iter().all(|(_, after)| *after == Some(to("d"))));
        assert!((2_300..2_700).contains(&moved.len()), "{}", moved.len());
        ring.remove(&to("d"));
        assert_eq!(picks(&ring), before);
    }

    #[test]
    fn without_buckets_there_is_nowhere_to_go_and_huge_weights_are_no_burden() {
        assert_eq!(ring(&[]).pick(b"key"), None);
        assert!(ring(&[("a", u64::MAX), ("b", u64::MAX)]).pick(b"key").is_some());
    }
}
