/// Bounds on what is sent and on what is accepted from outside.
///
/// The same bounds hold in both directions. Past a bound, the sender gets an error before anything is sent, and the
/// receiver gets an error before memory is taken. Use the same limits on both ends.
///
/// ```
/// use fluffle_wire::Limits;
///
/// let limits = Limits { encoded: 1024 * 1024, ..Limits::default() };
/// assert_eq!(limits.decompressed, 64 * 1024 * 1024);
/// ```
///
/// Messages may nest 100 levels deep. prost fixes this limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest body on the wire, in bytes, after gzip if it is used. Default 16 MiB, the default of RabbitMQ 4.
    pub encoded: usize,
    /// Largest body before gzip, in bytes. Default 64 MiB.
    pub decompressed: usize,
    /// To how many bytes one byte of gzip may expand. Default 100.
    ///
    /// Up to [`Limits::RATIO_FREE`] decompressed bytes, any ratio is allowed, because a small body of zeros does no
    /// harm.
    pub ratio: usize,
    /// Most messages in one batch. Default 10,000.
    pub batch_items: usize,
}

impl Limits {
    /// Up to this many decompressed bytes, [`ratio`](Limits::ratio) is not checked: 1 MiB.
    pub const RATIO_FREE: usize = 1024 * 1024;

    /// The most bytes to which `compressed` bytes of gzip may expand.
    pub(crate) fn decompressed_from(&self, compressed: usize) -> usize {
        self.by_ratio(compressed).min(self.decompressed)
    }

    /// The bound by the ratio alone, without [`decompressed`](Limits::decompressed).
    pub(crate) fn by_ratio(&self, compressed: usize) -> usize {
        compressed.saturating_mul(self.ratio).max(Self::RATIO_FREE)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { encoded: 16 * 1024 * 1024, decompressed: 64 * 1024 * 1024, ratio: 100, batch_items: 10_000 }
    }
}
