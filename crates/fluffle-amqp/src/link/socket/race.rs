//! When the next address is tried while earlier attempts are still on their way (RFC 8305, "Happy Eyeballs").
//!
//! A peer that does not answer must not use up the time of those after it. So attempts are begun one after the other,
//! each without waiting for the end of those before, and the first that succeeds wins; the others are dropped.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// How long the latest attempt may take for TCP before the next one begins (RFC 8305, 5 and 8: 250 ms).
pub(super) const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How long an attempt may take for TLS and AMQP, once it has TCP, before the next one begins. Longer than the delay of
/// TCP, because a busy broker may need it, and each further attempt that gets so far is a login at the broker. A peer
/// that accepts TCP and says nothing so costs a second in all.
pub(super) const HANDSHAKE_DELAY: Duration = Duration::from_millis(750);

/// When the next attempt may begin. Pure: time is passed in.
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

    /// An attempt has TCP.
    fn reached(&mut self, now: Instant) {
        self.next = self.next.max(now + HANDSHAKE_DELAY);
    }

    /// There is nothing to wait for.
    fn failed(&mut self, now: Instant) {
        self.next = now;
    }
}

/// How an attempt says that it has TCP.
#[derive(Clone, Debug)]
pub(super) struct Progress(mpsc::UnboundedSender<()>);

impl Progress {
    pub(super) fn has_tcp(&self) {
        // Nobody listens when another attempt has won.
        let _ = self.0.send(());
    }
}

/// Where candidates come from, in order; `None` when there are no more.
pub(super) trait Source {
    type Candidate;

    /// Cancellation safe: no candidate is lost when the future is dropped before it is ready.
    fn next(&mut self) -> impl Future<Output = Option<Self::Candidate>>;
}

/// Tries candidates until an attempt succeeds. Else gives why each failed, in the order in which they began.
///
/// Cancellation: dropped, all attempts are.
pub(super) async fn race<S: Source, T, E, F>(
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

    /// What one address does: time to TCP, time from there to the end, and whether that is good.
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

    impl Source for Listed {
        type Candidate = (usize, Peer);

        async fn next(&mut self) -> Option<Self::Candidate> {
            self.0.pop_front()
        }
    }

    /// Which peer won, or in which order they failed; when; and when each attempt began. In milliseconds.
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
