//! Which threads run the handlers of a consumer.

/// Which threads run the handlers of a consumer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Threads {
    /// Up to one arbiter a core for this consumer alone; its instances share them.
    #[default]
    Shared,
    /// One arbiter for each instance.
    Own,
    /// The thread where deliveries arrive, until a handler blocks it. Then as [`Shared`](Self::Shared).
    Io,
}
