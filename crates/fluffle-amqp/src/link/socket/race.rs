//! Attempts on several addresses at once (RFC 8305, "Happy Eyeballs").
//!
//! A peer that does not answer must not use up the time of the addresses after it. So attempts start one after the
//! other, each without waiting for the end of the earlier ones. The first attempt that succeeds wins, and the others
//! are dropped.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// How long the latest attempt may take to connect by TCP before the next attempt starts (RFC 8305, 5 and 8: 250 ms).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long an attempt may take for TLS and AMQP after TCP is connected, before the next attempt starts. It is longer
/// than the limit for TCP, because a busy broker may need the time, and each further attempt that gets this far is a
/// login at the broker. A peer that accepts TCP and is then silent so costs one second in all.
pub(super) const HANDSHAKE_DELAY: Duration = Duration::from_millis(750);

/// The earliest time of the next attempt. It is pure: the caller passes in the time.
#[derive(Debug)]
struct Pace {
    next: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { next: now }
    }

    fn begun(&mut self, now: Instant) {
        self.next = now + ATTEMPT_DELAY;
    }

    /// An attempt has connected by TCP.
    fn reached(&mut self, now: Instant) {
        self.next = self.next.max(now + HANDSHAKE_DELAY);
    }

    /// An attempt has failed: the next one may start at once.
    fn failed(&mut self, now: Instant) {
        self.next = now;
    }
}

/// Lets an attempt report that it has connected by TCP.
#[derive(Clone, Debug)]
pub(super) struct Progress(mpsc::UnboundedSender<()>);

impl Progress {
    pub(super) fn has_tcp(&self) {
        // The receiver is gone if another attempt has won.
        let _ = self.0.send(());
    }
}

/// A source of candidates, in order; `None` means that there are no more.
pub(super) trait CandidateSource {
    type Candidate;

    /// Cancellation safe: if the future is dropped before it is ready, no candidate is lost.
    fn next(&mut self) -> impl Future<Output = Option<Self::Candidate>>;
}

/// Tries candidates until an attempt succeeds. If none succeeds, the error holds the failure of each attempt, in the
/// order in which they started.
///
/// Cancellation: dropping the future drops all attempts.
pub(super) async fn race<S: CandidateSource, T, E, F>(
    mut source: S,
    attempt: impl Fn(S::Candidate, Progress) -> F,
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>>,
{
    let (tell, mut told) = mpsc::unbounded_channel();
    let mut pace = Pace::new(Instant::now());
    let mut running = FuturesUnordered::new();
    let mut failures = Vec::new();
    let mut more = true;
    let mut number = 0;
    while more || !running.is_empty() {
        let due = pace.next;
        tokio::select! {
            biased;
            Some((number, ended)) = running.next(), if !running.is_empty() => match ended {
                Ok(won) => return Ok(won),
                Err(why) => {
                    failures.push((number, why));
                    pace.failed(Instant::now());
                }
            },
            Some(()) = told.recv() => pace.reached(Instant::now()),
            next = async { sleep_until(due).await; source.next().await }, if more => match next {
                Some(candidate) => {
                    let (this, attempting) = (number, attempt(candidate, Progress(tell.clone())));
                    running.push(async move { (this, attempting.await) });
                    number += 1;
                    pace.begun(Instant::now());
                }
                None => more = false,
            },
        }
    }
    failures.sort_by_key(|(number, _)| *number);
    Err(failures.into_iter().map(|(_, why)| why).collect())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque};

    use tokio::time::sleep;

    use super::*;

    /// The behaviour of one address: milliseconds to TCP and from there to the end, and whether the end is a success.
    #[derive(Clone, Copy)]
    struct Peer {
        tcp: Option<u64>,
        handshake: Option<u64>,
        good: bool,
    }

    const SILENT: Peer = Peer { tcp: None, handshake: None, good: false };
    const MUTE: Peer = Peer { tcp: Some(1), handshake: None, good: false };
    const REFUSING: Peer = Peer { tcp: Some(1), handshake: Some(1), good: false };
    const GOOD: Peer = Peer { tcp: Some(1), handshake: Some(2), good: true };

    struct Listed(VecDeque<(usize, Peer)>);

    impl CandidateSource for Listed {
        type Candidate = (usize, Peer);

        async fn next(&mut self) -> Option<Self::Candidate> {
            self.0.pop_front()
        }
    }

    /// The peer that won, or the order in which they failed; when; and when each attempt started. In milliseconds.
    async fn raced(peers: &[Peer]) -> (Result<usize, Vec<usize>>, u64, Vec<u64>) {
        let begin = Instant::now();
        let elapsed = || u64::try_from(begin.elapsed().as_millis()).unwrap();
        let begun = RefCell::new(Vec::new());
        let wait = async |time: Option<u64>| match time {
            Some(time) => sleep(Duration::from_millis(time)).await,
            None => std::future::pending().await,
        };
        let source = Listed(peers.iter().copied().enumerate().collect());
        let outcome = race(source, |(index, peer): (usize, Peer), progress| {
            begun.borrow_mut().push(elapsed());
            async move {
                let trying = async {
                    wait(peer.tcp).await;
                    progress.has_tcp();
                    wait(peer.handshake).await;
                    if peer.good { Ok(index) } else { Err(index) }
                };
                tokio::time::timeout(Duration::from_secs(10), trying).await.unwrap_or(Err(index))
            }
        })
        .await;
        let took = elapsed();
        (outcome, took, begun.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_that_answers_is_taken_and_no_other_is_tried() {
        assert_eq!(raced(&[GOOD, GOOD]).await, (Ok(0), 3, vec![0]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_without_an_answer_costs_a_quarter_of_a_second_and_one_that_accepts_and_says_nothing_a_second_at_most()
    {
        assert_eq!(raced(&[SILENT, GOOD]).await, (Ok(1), 253, vec![0, 250]));
        assert_eq!(raced(&[MUTE, GOOD]).await, (Ok(1), 754, vec![0, 751]));
        let slow_to_accept = Peer { tcp: Some(249), ..MUTE };
        assert_eq!(raced(&[slow_to_accept, GOOD]).await, (Ok(1), 1002, vec![0, 999]));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_refuses_costs_nothing() {
        assert_eq!(raced(&[REFUSING, REFUSING, GOOD]).await, (Ok(2), 7, vec![0, 2, 4]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_one_is_not_given_up_and_wins_if_the_next_are_worse() {
        let slow = Peer { tcp: Some(600), handshake: Some(900), good: true };
        assert_eq!(raced(&[slow, SILENT]).await, (Ok(0), 1500, vec![0, 250]));
        assert_eq!(raced(&[slow, REFUSING, GOOD]).await.0, Ok(2));
    }

    #[tokio::test(start_paused = true)]
    async fn when_none_succeeds_each_tells_why_in_its_order_and_each_had_its_own_limit() {
        let (outcome, took, begun) = raced(&[SILENT, SILENT, REFUSING]).await;
        assert_eq!((outcome, begun), (Err(vec![0, 1, 2]), vec![0, 250, 500]));
        assert_eq!(took, 10_250, "the second began a quarter of a second late");
        assert_eq!(raced(&[]).await, (Err(vec![]), 0, vec![]));
    }
}
