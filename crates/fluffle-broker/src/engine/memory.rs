//! How much memory messages take.

use std::{cell::Cell, rc::Rc};

/// About how many bytes a message takes besides its body and properties.
const OVERHEAD: usize = 256;

/// The bytes of all current messages. A message counts once, however many queues have it, until it is acknowledged
/// everywhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(Rc<Cell<u64>>);

impl Memory {
    pub(crate) fn used(&self) -> u64 {
        self.0.get()
    }

    /// Counts a message of that size as long as the charge lives.
    pub(super) fn charge(&self, body_and_properties: usize) -> Charge {
        let bytes = (body_and_properties + OVERHEAD) as u64;
        self.0.set(self.0.get() + bytes);
        Charge { memory: self.clone(), bytes }
    }
}

/// The share of one message.
#[derive(Debug)]
pub(crate) struct Charge {
    memory: Memory,
    bytes: u64,
}

impl Charge {
    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.memory.0.set(self.memory.0.get().saturating_sub(self.bytes));
    }
}
