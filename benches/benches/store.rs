//! The throughput of the journal and of the store of seen ids, through their public API: many callers, grouped flush,
//! marks included.
//!
//! `cargo bench -p benches --bench store`
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use divan::{Bencher, counter::ItemsCount};
use fluffle_store::{Enqueued, Flush, Journal, Record, SeenIds};
use futures_util::future::try_join_all;
use tempfile::TempDir;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

/// Records or ids in one sample.
const ROUNDS: usize = 20_000;
/// How many messages a publisher has on their way to the disk. The journal's own queue holds 1,024.
const IN_FLIGHT: usize = 1_000;

/// With grouped flush, or else at an interval. One caller enqueues in order, and confirms the oldest record as soon as
/// it is safe.
#[divan::bench(args = [100, 300, 1_000], consts = [true, false], sample_count = 10, sample_size = 1)]
fn journal<const GROUPED: bool>(bencher: Bencher<'_, '_>, size: usize) {
    let (runtime, folder) = start();
    let flush = if GROUPED { Flush::Grouped } else { Flush::Interval(Duration::from_millis(100)) };
    let journal = Journal::options().flush(flush).open(folder.path().join("bench.journal")).unwrap();
    let bytes = Bytes::from(vec![7; size]);
    bencher.counter(ItemsCount::new(ROUNDS)).bench_local(|| {
        runtime.block_on(async {
            let mut in_flight: VecDeque<Enqueued> = VecDeque::with_capacity(IN_FLIGHT);
            for number in 0..ROUNDS {
                if in_flight.len() == IN_FLIGHT {
                    journal.confirm(in_flight.pop_front().unwrap().await.unwrap());
                }
                in_flight.push_back(journal.enqueue(Record::new(id(number), bytes.clone())).await.unwrap());
            }
            for enqueued in in_flight {
                journal.confirm(enqueued.await.unwrap());
            }
            journal.flush().await.unwrap();
        });
    });
}

/// The calls of a consumer for each message: look up, handle, insert.
#[divan::bench(args = [1, 64, 1_000], sample_count = 10, sample_size = 1)]
fn seen_ids(bencher: Bencher<'_, '_>, at_once: usize) {
    let (runtime, folder) = start();
    let seen = SeenIds::options().max_ids(100_000).open(folder.path().join("bench.seen")).unwrap();
    let rounds = ROUNDS.min(at_once * 500);
    let mut next = 0;
    bencher.counter(ItemsCount::new(rounds)).bench_local(|| {
        runtime.block_on(async {
            for _ in 0..rounds / at_once {
                let handled = (0..at_once).map(|number| {
                    let id = id(next + number);
                    let seen = &seen;
                    async move {
                        assert!(!seen.contains(id.as_str()).await?);
                        seen.insert(id).await
                    }
                });
                try_join_all(handled).await.unwrap();
                next += at_once;
            }
        });
    });
}

fn start() -> (Runtime, TempDir) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    // In the target folder, because /tmp may be in memory.
    (runtime, tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap())
}

/// An id as long as a UUID.
fn id(number: usize) -> String {
    format!("0190a8f1-6a52-7c3e-9d1b-{number:012}")
}
