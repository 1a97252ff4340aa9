//! Records which messages were sent and which arrived, to find missing, duplicate and overtaken ones.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::bench::sequences::Sequences;

/// The records of one run. A *stream* is one producer's messages to one queue.
pub(crate) struct Ledger {
    queues: usize,
    /// The keys of a stream: message `n` has the key `n % keys`. Order is kept within a key.
    keys: u64,
    /// Indexed by producer.
    sent: Vec<Mutex<Sent>>,
    /// Indexed by queue.
    received: Vec<Mutex<Received>>,
}

/// The messages that one producer has sent.
struct Sent {
    /// Indexed by queue: how many messages the publisher accepted.
    accepted: Vec<u64>,
    /// Indexed by queue: the messages that the broker confirmed.
    confirmed: Vec<Sequences>,
}

/// The messages that arrived from one queue.
struct Received {
    /// Indexed by producer.
    streams: Vec<Stream>,
    duplicates: u64,
    overtaken: u64,
    damaged: u64,
}

struct Stream {
    seen: Sequences,
    /// Indexed by key: the highest sequence number so far, plus one.
    next: Vec<u64>,
    /// The highest of `next`.
    highest: u64,
}

/// How an arrived message is classified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    First,
    Again,
    /// Not a message that this run has sent.
    Damaged,
}

/// The result of the verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verification {
    /// Messages that publishers accepted.
    pub(crate) sent: u64,
    /// How many of those were handled, each counted once.
    pub(crate) received: u64,
    /// Confirmed (or written, without confirms) but never handled.
    pub(crate) lost: u64,
    /// Neither confirmed nor handled. Their producers got an error.
    pub(crate) unconfirmed: u64,
    /// Handled more than once.
    pub(crate) duplicates: u64,
    /// First handled after a later message of the same producer, queue and key (`--ordered-by`).
    pub(crate) out_of_order: u64,
    /// Content that differs from what was sent.
    pub(crate) damaged: u64,
    /// The first few lost messages.
    pub(crate) first_lost: Vec<Lost>,
}

/// One lost message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Lost {
    pub(crate) producer: usize,
    pub(crate) queue: usize,
    pub(crate) sequence: u64,
}

/// How far a message may be ahead of those that have arrived. Sixteen million bits take two megabytes.
const FARTHEST: u64 = 1 << 24;

/// How many lost messages are listed.
const NAMED: usize = 5;

impl Ledger {
    pub(crate) fn new(producers: usize, queues: usize, keys: u32) -> Self {
        let keys = keys.max(1);
        let sent = || Sent { accepted: vec![0; queues], confirmed: fresh(queues) };
        let stream = || Stream { seen: Sequences::default(), next: vec![0; keys as usize], highest: 0 };
        let streams = || std::iter::repeat_with(stream).take(producers).collect();
        let received = || Received { streams: streams(), duplicates: 0, overtaken: 0, damaged: 0 };
        Self {
            queues,
            keys: keys.into(),
            sent: (0..producers).map(|_| Mutex::new(sent())).collect(),
            received: (0..queues).map(|_| Mutex::new(received())).collect(),
        }
    }

    /// The id of the stream from this producer to this queue.
    pub(crate) fn stream(&self, producer: usize, queue: usize) -> u32 {
        (producer * self.queues + queue) as u32
    }

    /// Records that a publisher has accepted the next message of this stream.
    pub(crate) fn accepted(&self, producer: usize, queue: usize) {
        lock(&self.sent[producer]).accepted[queue] += 1;
    }

    /// Records that the broker has confirmed this message, or, without confirms, that it is written.
    pub(crate) fn confirmed(&self, producer: usize, queue: usize, sequence: u64) {
        lock(&self.sent[producer]).confirmed[queue].insert(sequence);
    }

    /// Records that a handler of `queue` got this message. `intact` says whether its content is what was sent.
    pub(crate) fn received(&self, queue: usize, stream: u32, sequence: u64, intact: bool) -> Arrival {
        let (producer, meant_for) = (stream as usize / self.queues, stream as usize % self.queues);
        let mut received = lock(&self.received[queue]);
        // The numbers come from outside. One that was never sent must not make the records grow without limit.
        let highest = received.streams.get(producer).map(|stream| stream.highest);
        let highest = highest.filter(|_| intact && meant_for == queue);
        if highest.is_none_or(|highest| sequence.saturating_sub(highest) > FARTHEST) {
            received.damaged += 1;
            return Arrival::Damaged;
        }
        let stream = &mut received.streams[producer];
        if !stream.seen.insert(sequence) {
            received.duplicates += 1;
            return Arrival::Again;
        }
        let next = &mut stream.next[(sequence % self.keys) as usize];
        if sequence < *next {
            received.overtaken += 1;
        } else {
            *next = sequence + 1;
            stream.highest = stream.highest.max(*next);
        }
        Arrival::First
    }

    /// Compares what was sent with what arrived so far.
    pub(crate) fn verify(&self) -> Verification {
        let mut all = Verification::default();
        for (queue, received) in self.received.iter().enumerate() {
            let received = lock(received);
            all.duplicates += received.duplicates;
            all.out_of_order += received.overtaken;
            all.damaged += received.damaged;
            for (producer, stream) in received.streams.iter().enumerate() {
                let sent = lock(&self.sent[producer]);
                all.sent += sent.accepted[queue];
                all.received += stream.seen.len();
                if stream.seen.len() == sent.accepted[queue] {
                    continue;
                }
                for sequence in stream.seen.missing(sent.accepted[queue]) {
                    if !sent.confirmed[queue].contains(sequence) {
                        all.unconfirmed += 1;
                        continue;
                    }
                    all.lost += 1;
                    if all.first_lost.len() < NAMED {
                        all.first_lost.push(Lost { producer, queue, sequence });
                    }
                }
            }
        }
        all
    }
}

fn fresh<T: Default>(count: usize) -> Vec<T> {
    std::iter::repeat_with(T::default).take(count).collect()
}

fn lock<T>(books: &Mutex<T>) -> MutexGuard<'_, T> {
    books.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two producers, two queues, ten messages of each stream. All are accepted and, except these, confirmed.
    fn ledger_without(unconfirmed: &[(usize, usize, u64)]) -> Ledger {
        let ledger = Ledger::new(2, 2, 1);
        for (producer, queue) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            (0..10).for_each(|_| ledger.accepted(producer, queue));
            for sequence in (0..10).filter(|sequence| !unconfirmed.contains(&(producer, queue, *sequence))) {
                ledger.confirmed(producer, queue, sequence);
            }
        }
        ledger
    }

    fn ledger() -> Ledger {
        ledger_without(&[])
    }

    fn receive(ledger: &Ledger, producer: usize, queue: usize, sequence: u64) -> Arrival {
        ledger.received(queue, ledger.stream(producer, queue), sequence, true)
    }

    fn receive_all_but(ledger: &Ledger, missing: &[(usize, usize, u64)]) {
        for (producer, queue) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for sequence in (0..10).filter(|sequence| !missing.contains(&(producer, queue, *sequence))) {
                assert_eq!(receive(ledger, producer, queue, sequence), Arrival::First);
            }
        }
    }

    #[test]
    fn when_all_have_come_in_order_there_is_nothing_to_say() {
        let ledger = ledger();
        receive_all_but(&ledger, &[]);
        assert_eq!(ledger.verify(), Verification { sent: 40, received: 40, ..Verification::default() });
    }

    #[test]
    fn what_does_not_come_is_lost_by_name_if_it_was_confirmed() {
        // The second of these messages arrives although it was not confirmed.
        let ledger = ledger_without(&[(0, 0, 0), (0, 0, 5)]);
        receive_all_but(&ledger, &[(1, 0, 3), (0, 1, 9), (0, 0, 0)]);
        let found = ledger.verify();
        assert_eq!((found.lost, found.unconfirmed, found.received), (2, 1, 37));
        let lost = |producer, queue, sequence| Lost { producer, queue, sequence };
        assert_eq!(found.first_lost, [lost(1, 0, 3), lost(0, 1, 9)]);
    }

    #[test]
    fn coming_twice_is_a_duplicate_and_no_disorder() {
        let ledger = ledger();
        receive_all_but(&ledger, &[]);
        assert_eq!(receive(&ledger, 0, 0, 4), Arrival::Again);
        let found = ledger.verify();
        assert_eq!((found.duplicates, found.out_of_order, found.received), (1, 0, 40));
    }

    #[test]
    fn coming_after_a_later_one_is_disorder_within_a_stream_only() {
        let ledger = ledger();
        for (producer, queue, sequence) in [(0, 0, 5), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 2), (0, 0, 6)] {
            assert_eq!(receive(&ledger, producer, queue, sequence), Arrival::First);
        }
        assert_eq!(ledger.verify().out_of_order, 2, "1 and 2 came after 5");
    }

    #[test]
    fn with_keys_only_a_later_message_of_the_same_key_overtakes() {
        let ledger = Ledger::new(1, 1, 3);
        (0..9).for_each(|_| ledger.accepted(0, 0));
        // The keys of these are 2, 0, 1, 0, 2, 1: number 0 comes after 3, number 1 after 4.
        for sequence in [5, 3, 4, 0, 8, 1] {
            assert_eq!(receive(&ledger, 0, 0, sequence), Arrival::First);
        }
        assert_eq!(ledger.verify().out_of_order, 2);
    }

    #[test]
    fn what_nobody_sent_is_damaged_and_takes_no_place() {
        let ledger = ledger();
        assert_eq!(ledger.received(0, ledger.stream(0, 0), 0, false), Arrival::Damaged);
        assert_eq!(ledger.received(1, ledger.stream(0, 0), 0, true), Arrival::Damaged, "another queue's");
        assert_eq!(ledger.received(0, 4000, 0, true), Arrival::Damaged, "no such producer");
        assert_eq!(receive(&ledger, 0, 0, u64::MAX), Arrival::Damaged, "the books would have no end");
        assert_eq!(receive(&ledger, 0, 0, 0), Arrival::First);
        assert_eq!(ledger.verify().damaged, 4);
    }
}
