//! Which threads run the handlers of a consumer.

use std::sync::Arc;

/// Which threads run the handlers of a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Threads {
    /// Up to one arbiter a core for this consumer alone; its instances share them.
    #[default]
    Shared,
    /// One arbiter for each instance.
    Own,
    /// One arbiter, shared with all consumers of the service that name it.
    Named(Arc<str>),
    /// The thread where deliveries arrive, until a handler blocks it. Then as [`Shared`](Self::Shared).
    Io,
}
