//! What becomes of messages: those that wait outlive a crash, the one being handled does not, and every sender is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::prelude::*;
use fluffle_supervise::{
    ActorSpec, Backoff, Intensity, MailboxDepth, Restart, SendError, SendErrorKind, SupervisedAddr, SupervisorHandle,
    SupervisorSpec,
};
use futures_util::{FutureExt, future::join_all};
use support::{paused, real};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};

const SEC: Duration = Duration::from_secs(1);

/// Notes every number that it is sent, and crashes on every 13.
struct Clerk(Arc<Mutex<Vec<u64>>>);

impl Actor for Clerk {
    type Context = Context<Self>;
}

#[derive(Message, Debug, PartialEq)]
#[rtype(u64)]
struct Number(u64);

impl Handler<Number> for Clerk {
    type Result = u64;

    fn handle(&mut self, Number(n): Number, _: &mut Self::Context) -> u64 {
        assert!(n != 13, "unlucky");
        self.0.lock().unwrap().push(n);
        n
    }
}

/// Makes the actor's context wait until the sender is used or dropped.
#[derive(Message)]
#[rtype(result = "()")]
struct Hold(oneshot::Receiver<()>);

impl Handler<Hold> for Clerk {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, Hold(until): Hold, _: &mut Self::Context) -> Self::Result {
        AtomicResponse::new(Box::pin(async move { drop(until.await) }.into_actor(self)))
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Finish;

impl Handler<Finish> for Clerk {
    type Result = ();

    fn handle(&mut self, _: Finish, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

struct Office {
    app: SupervisorHandle,
    addr: SupervisedAddr<Clerk>,
    notes: Arc<Mutex<Vec<u64>>>,
}

impl Office {
    fn open(change: impl FnOnce(ActorSpec<Clerk>) -> ActorSpec<Clerk>) -> Self {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let spec = ActorSpec::new("clerk", {
            let notes = notes.clone();
            move || Clerk(notes.clone())
        });
        let spec = change(spec.backoff(Backoff::none()));
        let addr = spec.addr();
        let app = SupervisorSpec::new("app").intensity(Intensity::unlimited()).child(spec).start();
        Self { app, addr, notes }
    }

    fn notes(&self) -> Vec<u64> {
        self.notes.lock().unwrap().clone()
    }

    /// Keeps the clerk from taking messages until the sender is used or dropped.
    async fn hold(&self) -> oneshot::Sender<()> {
        let (release, until) = oneshot::channel();
        self.addr.post(Hold(until)).await.unwrap();
        while self.addr.depth().waiting > 0 {
            tokio::task::yield_now().await;
        }
        release
    }
}

#[test]
fn a_crash_costs_the_message_in_hand_and_what_waited_is_handled_in_order() {
    paused(async {
        let office = Office::open(|spec| spec);
        let release = office.hold().await;
        let requests: Vec<_> = [1, 2, 13, 3, 13, 4, 5].map(Number).map(|number| office.addr.send(number)).into();
        release.send(()).unwrap();
        let answers = join_all(requests).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect();
        let crashed = Err(SendErrorKind::Crashed);
        assert_eq!(answers, [Ok(1), Ok(2), crashed, Ok(3), crashed, Ok(4), Ok(5)]);
        assert_eq!(office.notes(), [1, 2, 3, 4, 5]);
        assert_eq!(office.app.snapshot().children[0].restarts, 2);
        office.app.shutdown().await;
    });
}

#[test]
fn an_end_without_a_crash_loses_no_message_either() {
    paused(async {
        let office = Office::open(|spec| spec);
        let release = office.hold().await;
        let finish = office.addr.send(Finish);
        let after = office.addr.send(Number(1));
        release.send(()).unwrap();
        finish.await.unwrap();
        assert_eq!(after.await.unwrap(), 1);
        assert_eq!(office.app.snapshot().children[0].restarts, 1);
        office.app.shutdown().await;
    });
}

#[test]
fn senders_wait_out_a_backoff_inside_the_mailbox_and_outside() {
    paused(async {
        let backoff = Backoff::exponential(SEC, SEC).unwrap();
        let office = Office::open(|spec| spec.backoff(backoff).mailbox(2));
        let crash = office.addr.send(Number(13)).await.unwrap_err();
        assert_eq!(crash.kind(), SendErrorKind::Crashed);
        let start = Instant::now();
        let answers = join_all((0..6).map(|n| office.addr.send(Number(n)))).await;
        assert_eq!(start.elapsed(), SEC);
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, [0, 1, 2, 3, 4, 5]);
        assert_eq!(office.notes(), [0, 1, 2, 3, 4, 5], "first come, first served");
        office.app.shutdown().await;
    });
}

#[test]
fn a_message_not_taken_in_time_comes_back_and_frees_its_place() {
    paused(async {
        let office = Office::open(|spec| spec.mailbox(1));
        let release = office.hold().await;
        let start = Instant::now();
        let inside = office.addr.send(Number(1)).within(SEC);
        let outside = office.addr.send(Number(2)).within(2 * SEC);
        let posted = office.addr.post(Number(3)).within(SEC / 2);
        let (inside, outside, posted) = tokio::join!(inside, outside, posted);
        assert_eq!(start.elapsed(), 2 * SEC);
        assert!(matches!(inside, Err(SendError::TimedOut(Number(1)))));
        // The second sender got the place of the first after a second, and its message waited there.
        assert!(matches!(outside, Err(SendError::TimedOut(Number(2)))));
        assert!(matches!(posted, Err(SendError::TimedOut(Number(3)))));
        assert_eq!(office.addr.depth(), MailboxDepth { waiting: 0, capacity: 1 });

        let late = office.addr.send(Number(4));
        release.send(()).unwrap();
        assert_eq!(late.await.unwrap(), 4);
        assert_eq!(office.notes(), [4]);
        office.app.shutdown().await;
    });
}

#[test]
fn a_message_in_hand_when_the_time_is_over_does_not_come_back() {
    paused(async {
        let office = Office::open(|spec| spec);
        let (release, until) = oneshot::channel();
        let answer = office.addr.send(Hold(until)).within(SEC).await;
        assert_eq!(answer.unwrap_err().kind(), SendErrorKind::TimedOutInHand);
        drop(release);
        assert_eq!(office.addr.send(Number(1)).await.unwrap(), 1, "it was handled to the end");
        office.app.shutdown().await;
    });
}

#[test]
fn a_limit_too_long_to_be_told_is_no_limit() {
    paused(async {
        let office = Office::open(|spec| spec);
        assert_eq!(office.addr.send(Number(1)).within(Duration::MAX).await.unwrap(), 1);
        office.app.shutdown().await;
    });
}

#[test]
fn every_message_comes_back_when_the_child_is_over() {
    paused(async {
        let office = Office::open(|spec| spec.mailbox(2).restart(Restart::Temporary));
        let release = office.hold().await;
        let senders = join_all([1, 2, 3, 4].map(Number).map(|number| office.addr.send(number)));
        let posted = office.addr.post(Number(5));
        let stop = async {
            office.app.stop_child("clerk").await.unwrap();
        };
        let (answers, posted, ()) = tokio::join!(senders, posted, stop);
        drop(release);
        let back: Vec<_> = answers.into_iter().map(|answer| answer.unwrap_err().into_message().unwrap().0).collect();
        assert_eq!(back, [1, 2, 3, 4], "two waited inside, two outside");
        assert!(matches!(posted, Err(SendError::Closed(Number(5)))));
        assert!(matches!(office.addr.send(Number(6)).await, Err(SendError::Closed(Number(6)))));
        assert!(matches!(office.addr.post(Number(7)).await, Err(SendError::Closed(Number(7)))));
        assert!(matches!(office.addr.try_post(Number(8)), Err(SendError::Closed(Number(8)))));
        assert!(office.addr.is_closed());
        assert!(office.notes().is_empty());
        office.app.shutdown().await;
    });
}

#[test]
fn a_spec_that_is_dropped_closes_its_mailbox() {
    let spec = ActorSpec::new("clerk", || Clerk(Arc::default()));
    let addr = spec.addr();
    let early = addr.send(Number(1));
    assert_eq!(addr.depth().waiting, 1, "the address is valid before the start");
    drop(spec);
    paused(async {
        assert!(matches!(early.await, Err(SendError::Closed(Number(1)))));
    });
}

#[test]
fn a_request_dropped_before_it_was_taken_withdraws_its_message() {
    paused(async {
        let office = Office::open(|spec| spec.mailbox(3));
        let release = office.hold().await;
        let _kept = office.addr.post(Number(1)).now_or_never().unwrap();
        let inside = office.addr.send(Number(2));
        let _kept = office.addr.post(Number(3)).now_or_never().unwrap();
        let outside = office.addr.send(Number(4));
        let behind = office.addr.send(Number(5));
        assert_eq!(office.addr.depth().waiting, 3);
        drop(inside);
        assert_eq!(office.addr.depth().waiting, 2, "out of the middle of the queue");
        drop(outside);
        release.send(()).unwrap();
        assert_eq!(behind.await.unwrap(), 5, "a place given to a sender that left goes to the next");
        assert_eq!(office.notes(), [1, 3, 5]);
        office.app.shutdown().await;
    });
}

#[test]
fn a_place_that_nobody_waits_for_any_more_is_free_again() {
    paused(async {
        let office = Office::open(|spec| spec.mailbox(1));
        let release = office.hold().await;
        let inside = office.addr.send(Number(1));
        let mut outside = office.addr.send(Number(2));
        assert!((&mut outside).now_or_never().is_none());
        // The place is being passed to the second sender, which leaves before it takes it.
        drop(inside);
        drop(outside);
        office.addr.try_post(Number(3)).unwrap();
        assert!(matches!(office.addr.try_post(Number(4)), Err(SendError::Full(Number(4)))));
        drop(release);
        assert_eq!(office.addr.send(Number(5)).await.unwrap(), 5);
        assert_eq!(office.notes(), [3, 5]);
        office.app.shutdown().await;
    });
}

#[test]
fn the_mailbox_holds_what_its_spec_says_and_at_least_one() {
    for (asked, holds) in [(0, 1), (1, 1), (3, 3), (1000, 1000)] {
        let spec = ActorSpec::new("clerk", || Clerk(Arc::default())).mailbox(asked);
        let addr = spec.addr();
        let fits = (0..).take_while(|n| addr.try_post(Number(*n)).is_ok()).count();
        assert_eq!(fits, holds);
        assert_eq!(addr.depth(), MailboxDepth { waiting: holds, capacity: holds });
    }
}

#[test]
fn a_mailbox_made_larger_takes_in_those_who_wait_outside() {
    paused(async {
        let spec = ActorSpec::new("clerk", || Clerk(Arc::default())).mailbox(1);
        let addr = spec.addr();
        let mut posts: Vec<_> = (0..4).map(|n| addr.post(Number(n))).collect();
        assert_eq!(posts.iter_mut().filter_map(FutureExt::now_or_never).count(), 1);
        let spec = spec.mailbox(3);
        let inside = posts.drain(1..3).map(|post| post.now_or_never().unwrap().unwrap()).count();
        assert_eq!((inside, addr.depth().waiting), (2, 3));
        assert!(posts.pop().unwrap().now_or_never().is_none());
        drop(spec);
    });
}

#[test]
fn messages_from_other_threads_arrive_each_once_across_crashes() {
    real(async {
        let office = Office::open(|spec| spec.mailbox(8).on(actix_rt::Arbiter::new().handle()));
        let addr = office.addr.clone();
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                let addr = addr.clone();
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    runtime.block_on(async move {
                        let mut crashed = 0;
                        for n in 0..500 {
                            let unlucky = n % 100 == 50;
                            let number = if unlucky { 13 } else { 1000 + thread * 1000 + n };
                            match addr.send(Number(number)).await {
                                Ok(_) => assert!(!unlucky),
                                Err(error) => {
                                    assert!(unlucky, "{error}");
                                    assert_eq!(error.kind(), SendErrorKind::Crashed);
                                    crashed += 1;
                                }
                            }
                        }
                        crashed
                    })
                })
            })
            .collect();
        let join = async { threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>() };
        let crashed = tokio::task::spawn_blocking(move || futures_util::FutureExt::now_or_never(join).unwrap());
        assert_eq!(crashed.await.unwrap(), 20);
        let mut notes = office.notes();
        assert_eq!(notes.len(), 4 * 495);
        notes.sort_unstable();
        notes.dedup();
        assert_eq!(notes.len(), 4 * 495, "none twice");
        office.app.shutdown().await;
    });
}

#[test]
fn more_messages_than_are_handled_in_one_turn_are_handled_in_the_next_ones() {
    paused(async {
        let office = Office::open(|spec| spec.mailbox(1000));
        for n in 0..12 {
            office.addr.try_post(Number(n)).unwrap();
        }
        for n in 100..1000 {
            office.addr.try_post(Number(n)).unwrap();
        }
        sleep(SEC).await;
        assert_eq!(office.notes().len(), 912);
        office.app.shutdown().await;
    });
}

#[test]
fn a_sender_that_has_left_is_given_no_place() {
    paused(async {
        let office = Office::open(|spec| spec.mailbox(1));
        let release = office.hold().await;
        let inside = office.addr.send(Number(1));
        drop(office.addr.send(Number(2)));
        let mut polled = office.addr.send(Number(3));
        assert!((&mut polled).now_or_never().is_none());
        drop(polled);
        drop(inside);
        office.addr.try_post(Number(4)).unwrap();
        drop(release);
        assert_eq!(office.addr.send(Number(5)).await.unwrap(), 5);
        assert_eq!(office.notes(), [4, 5]);
        office.app.shutdown().await;
    });
}
