//! A value for each of a few groups of threads, so that threads which write the same metric do not wait for one
//! another.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

/// How many groups of threads there are. A service writes most metrics from one thread, and the rest from the threads
/// of a consumer's handlers.
const SHARDS: usize = 4;

/// One `T` for each group of threads.
#[derive(Default)]
pub(crate) struct Sharded<T>([Aligned<T>; SHARDS]);

/// On a cache line of its own: 128 bytes, because processors fetch lines in pairs.
#[derive(Default)]
#[repr(align(128))]
struct Aligned<T>(T);

impl<T> Sharded<T> {
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        Self(std::array::from_fn(|_| Aligned(make())))
    }

    /// The one of the calling thread's group.
    #[inline]
    pub(crate) fn mine(&self) -> &T {
        &self.0[group() % SHARDS].0
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|shard| &shard.0)
    }
}

/// Threads are numbered as they come, and spread over the groups in turn.
#[inline]
fn group() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static GROUP: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    GROUP.with(|group| {
        if group.get() == usize::MAX {
            group.set(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        group.get()
    })
}
