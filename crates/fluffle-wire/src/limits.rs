/// Bounds on what is sent and on what is accepted from outside.
///
/// The same bounds hold in both directions: past one, the sender gets an error before anything is sent, and the
/// receiver gets an error before memory is taken. Keep both ends' limits alike.
///
/// ```
/// use fluffle_wire::Limits;
///
/// let limits = Limits { encoded: 1024 * 1024, ..Limits::default() };
/// assert_eq!(limits.decompressed, 64 * 1024 * 1024);
/// ```
///
/// How deep messages may nest is fixed by prost: 100 levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest body on the wire, in bytes, after gzip if there is gzip. Default 16 MiB, RabbitMQ 4's own default.
    pub encoded: usize,
    /// Largest body before gzip, in bytes. Default 64 MiB.
    pub decompressed: usize,
    /// How many bytes one byte of gzip may become. Default 100.
    ///
    /// Up to [`Limits::RATIO_FREE`] decompressed bytes any ratio passes: a small body of zeros harms nobody.
    pub ratio: usize,
    /// Most messages in one batch. Default 10,000.
    pub batch_items: usize,
}

impl Limits {
    /// Decompressed bytes up to which [`ratio`](Limits::ratio) is not looked at: 1 MiB.
    pub const RATIO_FREE: usize = 1024 * 1024;

    /// The most that `compressed` bytes of gzip may become.
    pub(crate) fn decompressed_from(&self, compressed: usize) -> usize {
        self.by_ratio(compressed).min(self.decompressed)
    }

    /// As above by the ratio alone, so that an error can name the bound that was hit.
    pub(crate) fn by_ratio(&self, compressed: usize) -> usize {
        compressed.saturating_mul(self.ratio).max(Self::RATIO_FREE)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { encoded: 16 * 1024 * 1024, decompressed: 64 * 1024 * 1024, ratio: 100, batch_items: 10_000 }
    }
}
