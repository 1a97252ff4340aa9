//! Every kind of handler that actix has, and an actor's own futures beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::prelude::*;
use fluffle_supervise::{ActorSpec, Backoff, SendErrorKind, SupervisedAddr, SupervisorHandle, SupervisorSpec};
use futures_util::future::join_all;
use support::{paused, real};
use tokio::time::{Instant, sleep};

const SEC: Duration = Duration::from_secs(1);

/// Answers late, with each of actix's asynchronous result types.
struct Slow(u64);

impl Actor for Slow {
    type Context = Context<Self>;
}

macro_rules! slow {
    ($message:ident, $response:ty, $wrap:expr) => {
        #[derive(Message)]
        #[rtype(u64)]
        struct $message(u64);

        impl Handler<$message> for Slow {
            type Result = $response;

            fn handle(&mut self, $message(n): $message, _: &mut Self::Context) -> Self::Result {
                $wrap(self, n)
            }
        }
    };
}

fn later(slow: &Slow, n: u64) -> ResponseActFuture<Slow, u64> {
    Box::pin(sleep(SEC).into_actor(slow).map(move |(), slow, _| {
        slow.0 += n;
        slow.0
    }))
}

slow!(Future, ResponseFuture<u64>, |_: &mut Slow, n| -> ResponseFuture<u64> {
    Box::pin(async move {
        sleep(SEC).await;
        n
    })
});
slow!(ActFuture, ResponseActFuture<Self, u64>, |slow: &mut Slow, n| later(slow, n));
slow!(Atomic, AtomicResponse<Self, u64>, |slow: &mut Slow, n| AtomicResponse::new(later(slow, n)));

#[derive(Message)]
#[rtype(result = "()")]
struct Crash;

impl Handler<Crash> for Slow {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("crashed as asked");
    }
}

fn slow() -> (SupervisorHandle, SupervisedAddr<Slow>) {
    let spec = ActorSpec::new("slow", || Slow(0)).backoff(Backoff::none());
    let addr = spec.addr();
    (SupervisorSpec::new("app").child(spec).start(), addr)
}

#[test]
fn asynchronous_handlers_answer_side_by_side_and_atomic_ones_one_by_one() {
    paused(async {
        let (app, addr) = slow();
        let start = Instant::now();
        let answers = join_all((1..=3).map(|n| addr.send(Future(n)))).await;
        assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(start.elapsed(), SEC);

        let answers = join_all((1..=3).map(|n| addr.send(ActFuture(n)))).await;
        assert_eq!(answers.into_iter().map(Result::unwrap).max(), Some(6));
        assert_eq!(start.elapsed(), 2 * SEC);

        let answers = join_all((1..=3).map(|n| addr.send(Atomic(n)))).await;
        assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [7, 9, 12]);
        assert_eq!(start.elapsed(), 5 * SEC);
        app.shutdown().await;
    });
}

#[test]
fn a_crash_during_asynchronous_handling_is_told_to_all_in_hand() {
    paused(async {
        let (app, addr) = slow();
        let (act, crash, waits) = tokio::join!(addr.send(ActFuture(1)), addr.send(Crash), addr.send(ActFuture(2)));
        assert_eq!(act.unwrap_err().kind(), SendErrorKind::Crashed);
        assert_eq!(crash.unwrap_err().kind(), SendErrorKind::Crashed);
        assert_eq!(waits.unwrap(), 2, "it waited, and a fresh value handled it");
        app.shutdown().await;
    });
}

#[test]
fn a_flood_does_not_starve_the_actors_own_futures() {
    /// Sends itself messages without end until its own timer stops it.
    struct Flooded {
        addr: Arc<std::sync::OnceLock<SupervisedAddr<Flooded>>>,
        done: bool,
        stopped: Arc<Mutex<bool>>,
    }
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Drop;
    impl Actor for Flooded {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            for _ in 0..10 {
                self.addr.get().unwrap().try_post(Drop).unwrap();
            }
            ctx.spawn(async { tokio::task::yield_now().await }.into_actor(self).map(|(), flooded, _| {
                flooded.done = true;
                *flooded.stopped.lock().unwrap() = true;
            }));
        }
    }
    impl Handler<Drop> for Flooded {
        type Result = ();
        fn handle(&mut self, _: Drop, _: &mut Self::Context) {
            if !self.done {
                self.addr.get().unwrap().try_post(Drop).unwrap();
            }
        }
    }
    real(async {
        let addr = Arc::new(std::sync::OnceLock::new());
        let stopped = Arc::new(Mutex::new(false));
        let spec = ActorSpec::new("flooded", {
            let (addr, stopped) = (addr.clone(), stopped.clone());
            move || Flooded { addr: addr.clone(), done: false, stopped: stopped.clone() }
        });
        addr.set(spec.addr()).unwrap();
        let app = SupervisorSpec::new("app").child(spec).start();
        while !*stopped.lock().unwrap() {
            tokio::task::yield_now().await;
        }
        app.shutdown().await;
    });
}
