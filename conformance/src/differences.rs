//! Where a broker of ours does not do as RabbitMQ does.

/// A behaviour that the embedded broker does not share with RabbitMQ.
#[derive(Debug, Clone, Copy)]
pub struct Difference {
    /// The behaviour: `module::name`.
    pub behaviour: &'static str,
    /// What differs, and why it is not mended.
    pub reason: &'static str,
}

/// All of them. A listed behaviour must fail: one that passes is a failure too, so that no line outlives its reason.
pub const KNOWN_DIFFERENCES: &[Difference] = &[];
