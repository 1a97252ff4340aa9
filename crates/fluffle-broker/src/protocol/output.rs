//! What waits for one connection's socket.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Bodies from this size on are sent from where they lie; smaller ones are copied among the frames.
const SHARED_BODY: usize = 8 << 10;

/// How much is handed to the socket at once.
const BATCH: usize = 256 << 10;

/// Bytes in the order they are to be written, and a count of them until the socket has them.
#[derive(Debug, Default)]
pub(crate) struct Output {
    chunks: VecDeque<Bytes>,
    tail: BytesMut,
    queued: usize,
}

impl Output {
    /// Bytes not yet taken by the socket.
    pub(crate) fn len(&self) -> usize {
        self.queued
    }

    /// Appends what `write` writes.
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

    /// Spoils the last octet of what was written last, which ends a frame.
    pub(crate) fn corrupt_end(&mut self) {
        if let Some(end) = self.tail.last_mut() {
            *end = !*end;
        }
    }

    /// Takes what is to be written next; `written` must follow.
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
