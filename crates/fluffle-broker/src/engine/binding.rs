//! A binding of an exchange, and the destination that it leads to.

use std::rc::Rc;

use super::{QueueKey, table::Table};

/// The destination of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    Queue(QueueKey),
    Exchange(Rc<str>),
}

#[derive(Clone, Debug)]
pub(crate) struct Binding {
    pub(crate) destination: Destination,
    /// Sorted by name, because bindings that differ only in the order of arguments are the same.
    pub(crate) arguments: Table,
}
