//! The output that waits for one connection's socket.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Bodies of at least this size are sent without a copy. Smaller ones are copied between the frames.
const SHARED_BODY: usize = 8 << 10;

/// The most that is passed to the socket at once.
const BATCH: usize = 256 << 10;

/// Bytes in the order of writing. They count until the socket has taken them.
#[derive(Debug, Default)]
pub(crate) struct Output {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    queued: usize,
}

impl Output {
    /// How many bytes the socket has not taken yet.
    pub(crate) fn len(&self) -> usize {
        self.queued
    }

    /// Appends the bytes that `write` writes.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.queued += self.tail.len() - before;
    }

    /// Appends part of a body.
    pub(crate) fn body(&mut self, body: Bytes) {
        self.queued += body.len();
        if body.len() < SHARED_BODY {
            self.tail.put_slice(&body);
            return;
        }
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
        self.chunks.push_back(body);
    }

    /// Corrupts the last octet written, which ends a frame.
    pub(crate) fn corrupt_end(&mut self) {
        if let Some(end) = self.tail.last_mut() {
            *end = !*end;
        }
    }

    /// Takes the next bytes to write. The caller must call `written` afterwards.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        if !self.tail.is_empty() {
            self.chunks.push_back(self.tail.split().freeze());
        }
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while bytes < BATCH
            && taken.len() < 32
            && let Some(chunk) = self.chunks.pop_front()
        {
            bytes += chunk.len();
            taken.push(chunk);
        }
        taken
    }

    pub(crate) fn written(&mut self, bytes: usize) {
        self.queued = self.queued.saturating_sub(bytes);
    }
}
