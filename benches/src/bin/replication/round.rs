//! One round: a publisher and a consumer, each with a connection, as fast as the broker allows, on a fresh queue.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cpu::used,
    failure::Failure,
    kind::Kind,
    wire::{Client, Method, publish},
};

/// Lone messages whose confirms are timed, one after the other.
const LONE: usize = 100;

/// A consumer acks at the latest after this many deliveries, as Fluffle's do.
const ACK_AFTER: u64 = 64;

const PREFETCH: u16 = 1000;

/// Where a round happens, and how long it publishes.
pub(crate) struct Terms<'a> {
    /// Addresses of the nodes. The queue's leader is on the first one.
    pub(crate) nodes: &'a [String],
    /// Their processes.
    pub(crate) pids: &'a [u32],
    pub(crate) size: usize,
    pub(crate) time: Duration,
}

/// What a round measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    /// Messages a second, published, confirmed, delivered and acked.
    pub(crate) rate: f64,
    /// CPU time of all nodes together for a message, in microseconds.
    pub(crate) cpu: f64,
    /// Median time from a lone publish to its confirm, in milliseconds.
    pub(crate) confirm: f64,
}

impl Terms<'_> {
    pub(crate) fn round(&self, kind: Kind, name: &str) -> Result<Figures, Failure> {
        let leader = &self.nodes[0];
        let near = if kind.is_remote { &self.nodes[1] } else { leader };
        let mut owner = Client::connect(leader)?;
        owner.declare(name, &kind.arguments())?;
        let confirm = lone(near, name, self.size)?;
        let figures = self.load(near, kind, name, confirm);
        owner.delete(name)?;
        figures
    }

    fn load(&self, near: &str, kind: Kind, name: &str, confirm: f64) -> Result<Figures, Failure> {
        let total = AtomicU64::new(u64::MAX);
        let mut consumer = Client::connect(near)?;
        consumer.consume(name, PREFETCH, &kind.consumer())?;
        let (start, before) = (Instant::now(), used(self.pids)?);
        let sent = thread::scope(|scope| {
            let consuming = scope.spawn(|| take(&mut consumer, &total));
            let sent = self.send(near, name, &total)?;
            consuming.join().map_err(|_| "the consumer panicked")??;
            Ok::<_, Failure>(sent)
        })?;
        let handled = (sent + LONE as u64) as f64;
        let cpu = used(self.pids)?.saturating_sub(before).as_micros() as f64 / handled;
        Ok(Figures { rate: handled / start.elapsed().as_secs_f64(), cpu, confirm })
    }

    /// Publishes for the time of the round, and returns how many messages were confirmed. `total` is set before the
    /// last block is written, so that a consumer that has it all knows it.
    fn send(&self, address: &str, name: &str, total: &AtomicU64) -> Result<u64, Failure> {
        // A window of 8 MiB, and of a thousand messages at most.
        let window = ((8 << 20) / self.size).clamp(16, 1000);
        let block = window / 8;
        let frames = publish(name, self.size).repeat(block);
        let mut client = Client::connect(address)?;
        client.confirm_select()?;
        let mut confirms = Confirms::default();
        let start = Instant::now();
        let mut is_last = false;
        while !is_last {
            is_last = start.elapsed() >= self.time;
            if is_last {
                // The lone messages are in the queue too.
                total.store(confirms.all() + (block + LONE) as u64, Ordering::Relaxed);
            }
            client.write(&frames)?;
            confirms.sent(block);
            while confirms.outstanding() > window - block {
                confirms.settle(&client.method()?)?;
            }
        }
        while confirms.outstanding() > 0 {
            confirms.settle(&client.method()?)?;
        }
        Ok(confirms.first)
    }
}

/// The median time of a confirm, in milliseconds, of messages that are published one after the other.
fn lone(address: &str, name: &str, size: usize) -> Result<f64, Failure> {
    let frames = publish(name, size);
    let mut client = Client::connect(address)?;
    client.confirm_select()?;
    let mut times = Vec::new();
    let mut confirms = Confirms::default();
    for _ in 0..LONE {
        let start = Instant::now();
        client.write(&frames)?;
        confirms.sent(1);
        confirms.settle(&client.method()?)?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[LONE / 2].as_secs_f64() * 1e3)
}

/// Takes and acks messages until it has had `total`.
fn take(client: &mut Client, total: &AtomicU64) -> Result<(), Failure> {
    let (mut count, mut acked) = (0, 0);
    while count < total.load(Ordering::Relaxed) {
        let method = client.method()?;
        if method.id != (60, 60) {
            return Err(format!("the broker ended the consumer with method {:?}", method.id).into());
        }
        count += 1;
        if count - acked >= ACK_AFTER || client.is_drained() {
            // Delivery tags count from 1, without gaps.
            client.ack(count)?;
            acked = count;
        }
    }
    Ok(())
}

/// Which of the published messages are confirmed.
#[derive(Default)]
struct Confirms {
    /// How many are confirmed without a gap; the next one is the first of `waiting`.
    first: u64,
    /// For each message from there on, whether it is confirmed.
    waiting: VecDeque<bool>,
    confirmed: usize,
}

impl Confirms {
    fn sent(&mut self, messages: usize) {
        self.waiting.extend(std::iter::repeat_n(false, messages));
    }

    /// How many were sent.
    fn all(&self) -> u64 {
        self.first + self.waiting.len() as u64
    }

    fn outstanding(&self) -> usize {
        self.waiting.len() - self.confirmed
    }

    fn settle(&mut self, method: &Method) -> Result<(), Failure> {
        let (Method { id: (60, 80), arguments }, Some(tag)) = (method, tag(&method.arguments)) else {
            return Err(format!("instead of a confirm came method {:?}", method.id).into());
        };
        let last = tag.saturating_sub(self.first + 1) as usize;
        let from = if arguments.get(8) == Some(&1) { 0 } else { last };
        for is_confirmed in self.waiting.range_mut(from..=last) {
            self.confirmed += usize::from(!std::mem::replace(is_confirmed, true));
        }
        while self.waiting.front() == Some(&true) {
            self.waiting.pop_front();
            self.first += 1;
            self.confirmed -= 1;
        }
        Ok(())
    }
}

fn tag(arguments: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*arguments.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_may_skip_messages_and_come_for_several() {
        let confirm =
            |tag: u64, multiple: u8| Method { id: (60, 80), arguments: [&tag.to_be_bytes()[..], &[multiple]].concat() };
        let mut confirms = Confirms::default();
        confirms.sent(5);
        confirms.settle(&confirm(3, 0)).unwrap();
        assert_eq!((confirms.first, confirms.outstanding()), (0, 4));
        confirms.settle(&confirm(2, 1)).unwrap();
        assert_eq!((confirms.first, confirms.outstanding()), (3, 2));
        confirms.settle(&confirm(5, 1)).unwrap();
        assert_eq!((confirms.first, confirms.outstanding()), (5, 0));
        assert!(confirms.settle(&Method { id: (20, 40), arguments: Vec::new() }).is_err());
    }
}
