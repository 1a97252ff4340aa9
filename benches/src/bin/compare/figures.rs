//! The figures of one round of one contestant.

use std::time::Duration;

use crate::{cpu::Usage, latency::Summary};

/// The figures of one round of one contestant. A field that does not apply is `None`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) messages: u64,
    pub(crate) msgs_per_s: f64,
    /// Millions of bytes of bodies per second.
    pub(crate) mb_per_s: f64,
    pub(crate) client_cpu_us_per_msg: f64,
    pub(crate) broker_cpu_us_per_msg: Option<f64>,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
    /// Bytes that the broker received, including framing and acknowledgements.
    pub(crate) wire_bytes_per_msg: Option<f64>,
}

impl Figures {
    /// Computes the figures for so many messages, with so many bytes of bodies in all.
    pub(crate) fn new(
        messages: u64,
        bytes: u64,
        elapsed: Duration,
        used: Usage,
        latency: Option<Summary>,
        received: Option<u64>,
    ) -> Self {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / messages as f64;
        Self {
            messages,
            msgs_per_s: messages as f64 / elapsed.as_secs_f64(),
            mb_per_s: bytes as f64 / elapsed.as_secs_f64() / 1e6,
            client_cpu_us_per_msg: each(used.client),
            broker_cpu_us_per_msg: used.broker.map(each),
            p50_us: latency.map(|latency| latency.p50_us),
            p99_us: latency.map(|latency| latency.p99_us),
            wire_bytes_per_msg: received.map(|received| received as f64 / messages as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_per_second_and_per_message() {
        let used = Usage { client: Duration::from_millis(500), broker: None };
        let figures = Figures::new(10_000, 1_000_000, Duration::from_secs(2), used, None, Some(1_050_000));
        assert_eq!((figures.msgs_per_s, figures.mb_per_s), (5000.0, 0.5));
        assert_eq!(figures.wire_bytes_per_msg, Some(105.0));
        assert_eq!((figures.client_cpu_us_per_msg, figures.broker_cpu_us_per_msg), (50.0, None));
    }
}
