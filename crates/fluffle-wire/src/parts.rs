//! Reads a body in parts that share its memory.

use bytes::{Buf, Bytes};

/// Reads as fast as a slice, and returns `bytes` fields as parts of the body.
pub(crate) struct Parts<'a> {
    body: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(crate) fn of(body: &'a Bytes) -> Self {
        Self { body, rest: body }
    }
}

impl Buf for Parts<'_> {
    fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn chunk(&self) -> &[u8] {
        self.rest
    }

    fn advance(&mut self, count: usize) {
        self.rest.advance(count);
    }

    /// Shares the body's memory instead of copying.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        let (part, rest) = self.rest.split_at(len);
        self.rest = rest;
        self.body.slice_ref(part)
    }
}
