//! Every way in which a child can end, in every hook and under every strategy: the reported reason is right, and
//! exactly the siblings that the strategy names are restarted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use actix::prelude::*;
use actix_rt::Arbiter;
use fluffle_supervise::{ActorSpec, Backoff, ExitReason, GivingUp, Phase, Restart, Strategy, SupervisorSpec};
use support::{Crash, Fault, Finish, Go, Hook, Script, Watcher, Which, good, paused, real};

const STRATEGIES: [Strategy; 3] = [Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll];

const HOOKS: [Hook; 10] = [
    Hook::Factory,
    Hook::InContext,
    Hook::Started,
    Hook::WaitInStarted,
    Hook::Handler,
    Hook::Future,
    Hook::Wait,
    Hook::Stopping,
    Hook::Stopped,
    Hook::Drop,
];

/// Whether a fault is possible in a hook. Without a context only a panic is, and an actor cannot stop twice.
fn possible(hook: Hook, fault: Fault) -> bool {
    match fault {
        Fault::Panic => true,
        Fault::Fail | Fault::FailForGood => !matches!(hook, Hook::Factory | Hook::Drop),
        Fault::Finish | Fault::Terminate => {
            !matches!(hook, Hook::Factory | Hook::Drop | Hook::Stopping | Hook::Stopped)
        }
        Fault::None => false,
    }
}

fn phase_of(hook: Hook) -> Phase {
    match hook {
        Hook::Factory | Hook::InContext => Phase::Factory,
        Hook::Started | Hook::WaitInStarted => Phase::Started,
        Hook::Handler => Phase::Handler,
        Hook::Future | Hook::Wait => Phase::Future,
        Hook::Stopping => Phase::Stopping,
        Hook::Stopped => Phase::Stopped,
        Hook::Drop => Phase::Drop,
    }
}

#[track_caller]
fn assert_is(reason: &ExitReason, hook: Hook, fault: Fault) {
    let right = match (fault, reason) {
        (Fault::Finish | Fault::Terminate, ExitReason::Finished) => true,
        (Fault::Fail, ExitReason::Failed(error)) => {
            !error.is_permanent() && error.to_string() == format!("failed in {hook:?}")
        }
        (Fault::FailForGood, ExitReason::Failed(error)) => {
            error.is_permanent() && error.to_string() == format!("failed in {hook:?}")
        }
        (Fault::Panic, ExitReason::Panicked(panicked)) => {
            panicked.phase() == phase_of(hook) && panicked.message() == format!("boom in {hook:?}")
        }
        _ => false,
    };
    assert!(right, "{fault:?} in {hook:?} was reported as {reason}");
}

#[test]
fn every_exit_in_every_hook_restarts_the_child_and_the_siblings_its_strategy_names() {
    for strategy in STRATEGIES {
        for hook in HOOKS {
            for fault in [Fault::Finish, Fault::Terminate, Fault::Fail, Fault::Panic] {
                if possible(hook, fault) {
                    paused(one_restart(strategy, hook, fault));
                }
            }
        }
    }
}

async fn one_restart(strategy: Strategy, hook: Hook, fault: Fault) {
    let what = format!("{fault:?} in {hook:?} under {strategy}");
    let script = Script::new(hook, fault);
    let faulty = script.spec("faulty");
    let addr = faulty.addr();
    let ((first, _), (last, _)) = (good("first"), good("last"));
    let app = SupervisorSpec::new("app").strategy(strategy).child(first).child(faulty).child(last);
    let mut events = Watcher::new(&app.handle());
    let app = app.start();

    let at_start = matches!(hook, Hook::Factory | Hook::InContext | Hook::Started | Hook::WaitInStarted | Hook::Future);
    if !at_start {
        events.ready("app/last").await;
        addr.post(Go).await.unwrap();
    }
    let reason = events.exited("app/faulty").await;
    assert_is(&reason, hook, fault);
    // The last child becomes ready again only after all those before it.
    events.ready("app/faulty").await;
    while app.snapshot().children.iter().any(|child| child.state != fluffle_supervise::State::Running) {
        events.until(|_| Some(())).await;
    }

    assert!(addr.send(Which).await.unwrap() >= 2, "{what}: a fresh value");
    let restarts: Vec<_> = app.snapshot().children.iter().map(|child| child.restarts).collect();
    let expected = match strategy {
        Strategy::OneForOne => [0, 1, 0],
        // The last child was not running yet, so it is not restarted.
        Strategy::RestForOne if at_start => [0, 1, 0],
        Strategy::OneForAll if at_start => [1, 1, 0],
        Strategy::RestForOne => [0, 1, 1],
        Strategy::OneForAll => [1, 1, 1],
    };
    assert_eq!(restarts, expected, "{what}");
    assert!(matches!(app.shutdown().await, ExitReason::Stopped), "{what}");
}

#[test]
fn a_permanent_failure_in_any_hook_stops_the_siblings_and_ends_the_tree_at_once() {
    for strategy in STRATEGIES {
        for hook in HOOKS.into_iter().filter(|hook| possible(*hook, Fault::FailForGood)) {
            paused(async move {
                let what = format!("{hook:?} under {strategy}");
                let script = Script::new(hook, Fault::FailForGood);
                let faulty = script.spec("faulty");
                let addr = faulty.addr();
                let ((first, first_addr), (last, last_addr)) = (good("first"), good("last"));
                let app = SupervisorSpec::new("app").strategy(strategy).child(first).child(faulty).child(last).start();
                let _ = addr.post(Go).await;

                let reason = app.wait().await;
                assert!(reason.is_permanent(), "{what}: {reason}");
                let ExitReason::Escalated(escalation) = &reason else { panic!("{what}: {reason}") };
                assert_eq!((escalation.path(), escalation.cause()), ("app/faulty", GivingUp::Permanent), "{what}");
                assert_is(escalation.reason(), hook, Fault::FailForGood);
                assert_eq!(script.incarnations(), 1, "{what}: never restarted");
                assert!(first_addr.is_closed() && last_addr.is_closed() && addr.is_closed(), "{what}");
            });
        }
    }
}

#[test]
fn the_restart_policy_decides_who_lives_again() {
    let cases = [
        (Restart::Permanent, Fault::Finish, true),
        (Restart::Permanent, Fault::Fail, true),
        (Restart::Permanent, Fault::Panic, true),
        (Restart::Transient, Fault::Finish, false),
        (Restart::Transient, Fault::Fail, true),
        (Restart::Transient, Fault::Panic, true),
        (Restart::Temporary, Fault::Finish, false),
        (Restart::Temporary, Fault::Fail, false),
        (Restart::Temporary, Fault::FailForGood, false),
        (Restart::Temporary, Fault::Panic, false),
    ];
    for strategy in STRATEGIES {
        for (restart, fault, again) in cases {
            paused(async move {
                let what = format!("{restart:?} after {fault:?} under {strategy}");
                let script = Script::new(Hook::Handler, fault);
                let faulty = script.spec("faulty").restart(restart);
                let addr = faulty.addr();
                let (sibling, sibling_addr) = good("sibling");
                let app = SupervisorSpec::new("app").strategy(strategy).child(faulty).child(sibling).start();
                sibling_addr.send(Which).await.unwrap();
                addr.post(Go).await.unwrap();

                let answer = addr.send(Which).await;
                assert_eq!(answer.is_ok(), again, "{what}");
                assert_eq!(addr.is_closed(), !again, "{what}: over is for good");
                if !again {
                    let node = app.snapshot().find("app/faulty").unwrap().clone();
                    let normal = node.last_exit.as_ref().is_some_and(ExitReason::is_normal);
                    let over =
                        if normal { fluffle_supervise::State::Stopped } else { fluffle_supervise::State::Failed };
                    assert_eq!(node.state, over, "{what}");
                    assert_eq!(sibling_addr.send(Which).await.unwrap(), 1, "{what}: the sibling is left alone");
                }
                app.shutdown().await;
            });
        }
    }
}

/// An actor that stops the arbiter on which it runs.
struct Doomed;

impl Actor for Doomed {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct KillArbiter;

impl Handler<KillArbiter> for Doomed {
    type Result = ();

    fn handle(&mut self, _: KillArbiter, _: &mut Self::Context) {
        Arbiter::current().stop();
    }
}

impl Handler<Which> for Doomed {
    type Result = u64;

    fn handle(&mut self, _: Which, _: &mut Self::Context) -> u64 {
        0
    }
}

#[test]
fn a_dead_arbiter_is_an_exit_and_a_child_with_a_source_of_arbiters_moves_to_another() {
    for strategy in STRATEGIES {
        real(async move {
            let spec = ActorSpec::new("doomed", || Doomed)
                .on_each({
                    let system = actix_rt::System::current();
                    move || {
                        actix_rt::System::set_current(system.clone());
                        Arbiter::new().handle()
                    }
                })
                .backoff(Backoff::none());
            let addr = spec.addr();
            let (sibling, sibling_addr) = good("sibling");
            let app = SupervisorSpec::new("app").strategy(strategy).child(spec).child(sibling).start();
            let mut events = Watcher::new(&app);
            sibling_addr.send(Which).await.unwrap();

            addr.send(KillArbiter).await.unwrap();
            let reason = events.exited("app/doomed").await;
            assert!(matches!(reason, ExitReason::ArbiterDied), "{reason}");
            addr.send(Which).await.unwrap();
            let restarted = sibling_addr.send(Which).await.unwrap() == 2;
            assert_eq!(restarted, strategy != Strategy::OneForOne);
            app.shutdown().await;
        });
    }
}

#[test]
fn a_dead_arbiter_without_another_ends_the_supervisor_and_a_temporary_child_alone() {
    real(async {
        let arbiter = Arbiter::new();
        let spec = ActorSpec::new("doomed", || Doomed).on(arbiter.handle());
        let addr = spec.addr();
        let app = SupervisorSpec::new("app").child(spec).start();
        addr.send(KillArbiter).await.unwrap();
        let reason = app.wait().await;
        let ExitReason::Escalated(escalation) = &reason else { panic!("{reason}") };
        assert_eq!(escalation.cause(), GivingUp::NoArbiter);
        assert_eq!(reason.to_string(), "gave up: app/doomed lost its arbiter and has no other to run on");

        // This time the arbiter is dead before the child starts.
        let spec = ActorSpec::new("doomed", || Doomed).on(arbiter.handle()).restart(Restart::Temporary);
        let addr = spec.addr();
        let (sibling, sibling_addr) = good("sibling");
        let app = SupervisorSpec::new("app").child(spec).child(sibling).start();
        assert_eq!(sibling_addr.send(Which).await.unwrap(), 1);
        assert!(addr.is_closed());
        app.shutdown().await;
    });
}

#[test]
fn a_root_whose_arbiter_is_dead_says_so() {
    real(async {
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        handle.stop();
        arbiter.join().unwrap();
        let (child, addr) = good("child");
        let app = SupervisorSpec::new("app").child(child).start_on(&handle);
        assert!(matches!(app.wait().await, ExitReason::ArbiterDied));
        assert!(addr.send(Which).await.unwrap_err().into_message().is_some());
    });
}

#[test]
fn a_supervisor_whose_arbiter_dies_takes_its_children_down_and_lives_again_elsewhere() {
    real(async {
        let (child, addr) = good("child");
        // The child runs on another arbiter than its supervisor, so it would survive if the supervisor did not kill it.
        let child = child.on(Arbiter::new().handle());
        let handles = Arc::new(Mutex::new(Vec::new()));
        let below = SupervisorSpec::new("below").child(child).backoff(Backoff::none()).on_each({
            let (system, handles) = (actix_rt::System::current(), handles.clone());
            move || {
                actix_rt::System::set_current(system.clone());
                let handle = Arbiter::new().handle();
                handles.lock().unwrap().push(handle.clone());
                handle
            }
        });
        let app = SupervisorSpec::new("app").child(below).start();
        assert_eq!(addr.send(Which).await.unwrap(), 1);
        let mut events = Watcher::new(&app);
        handles.lock().unwrap()[0].stop();
        let reason = events.exited("app/below").await;
        assert!(matches!(reason, ExitReason::ArbiterDied), "{reason}");
        events.ready("app/below").await;
        assert_eq!(addr.send(Which).await.unwrap(), 2);
        app.shutdown().await;
    });
}

/// A supervisor that ends sets a timer for the child's deadline, although its thread has already left the runtime. The
/// panic of such a timer would be caught, so this test counts the panics that the thread's panic hook sees.
#[test]
fn a_supervisor_and_its_child_whose_arbiter_ends_under_them_panic_nowhere() {
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    const NAME: &str = "the arbiter that ends";
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some(NAME) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        before(panic);
    }));
    let (told, arbiter) = std::sync::mpsc::channel();
    let thread = std::thread::Builder::new().name(NAME.to_owned()).spawn(move || {
        let system = actix_rt::System::new();
        let current = actix_rt::System::current();
        told.send((current.arbiter().clone(), current)).unwrap();
        system.run().unwrap();
    });
    let (arbiter, system) = arbiter.recv().unwrap();
    real(async move {
        let (child, addr) = good("child");
        let app = SupervisorSpec::new("app").child(child).start_on(&arbiter);
        assert_eq!(addr.send(Which).await.unwrap(), 1);
        system.stop();
        assert!(matches!(app.wait().await, ExitReason::ArbiterDied));
    });
    thread.unwrap().join().unwrap();
    assert_eq!(PANICS.load(Ordering::SeqCst), 0);
}

#[test]
fn a_source_of_arbiters_that_panics_is_a_crash_of_its_child_alone() {
    paused(async {
        let (spec, addr) = good("child");
        let (sibling, sibling_addr) = good("sibling");
        let asked = Arc::new(Mutex::new(0));
        let spec = spec.on_each(move || {
            let mut asked = asked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *asked += 1;
            assert!(*asked > 1, "no arbiter yet");
            Arbiter::current()
        });
        let app = SupervisorSpec::new("app").child(spec).child(sibling);
        let mut events = Watcher::new(&app.handle());
        let app = app.start();
        let reason = events.exited("app/child").await;
        assert_eq!(reason.to_string(), "panicked in its factory: no arbiter yet");
        assert_eq!(addr.send(Which).await.unwrap(), 1);
        assert_eq!(sibling_addr.send(Which).await.unwrap(), 1);
        app.shutdown().await;
    });
}

#[test]
fn the_first_error_stands_and_a_panic_on_the_way_out_does_not_hide_it() {
    struct Twice;
    impl Actor for Twice {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            use fluffle_supervise::SupervisedContext;
            ctx.fail(std::io::Error::other("the cause"));
            ctx.fail(std::io::Error::other("a consequence"));
        }
    }
    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("another consequence");
        }
    }
    paused(async {
        let spec = ActorSpec::new("child", || Twice).restart(Restart::Temporary);
        let app = SupervisorSpec::new("app").child(spec);
        let mut events = Watcher::new(&app.handle());
        let app = app.start();
        assert_eq!(events.exited("app/child").await.to_string(), "failed: the cause");
        app.shutdown().await;
    });
}

#[test]
fn an_actor_without_a_supervisor_may_fail_and_stops() {
    struct Lone;
    impl Actor for Lone {
        type Context = Context<Self>;
        fn started(&mut self, ctx: &mut Self::Context) {
            use fluffle_supervise::SupervisedContext;
            ctx.ready();
            ctx.fail(std::io::Error::other("nobody hears"));
        }
    }
    paused(async {
        let addr = Lone.start();
        while addr.connected() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_crash_in_the_handler_runs_no_stopping_and_no_stopped_on_the_broken_value() {
    paused(async {
        let script = Script::good();
        let spec = script.spec("child");
        let addr = spec.addr();
        let app = SupervisorSpec::new("app").child(spec).start();
        addr.send(Crash).await.unwrap_err();
        addr.send(Finish).await.unwrap();
        assert_eq!(addr.send(Which).await.unwrap(), 3);
        assert_eq!(script.taken_log(), ["started 1", "started 2", "stopped 2", "started 3"]);
        app.shutdown().await;
    });
}

#[test]
fn a_panic_in_a_handler_that_had_stopped_its_context_is_still_the_handlers() {
    #[derive(Message)]
    #[rtype(result = "()")]
    struct StopAndCrash;
    impl Handler<StopAndCrash> for Doomed {
        type Result = ();
        fn handle(&mut self, _: StopAndCrash, ctx: &mut Self::Context) {
            ctx.stop();
            panic!("too late");
        }
    }
    paused(async {
        let spec = ActorSpec::new("doomed", || Doomed);
        let addr = spec.addr();
        let app = SupervisorSpec::new("app").child(spec).start();
        let mut events = Watcher::new(&app);
        addr.send(StopAndCrash).await.unwrap_err();
        let reason = events.exited("app/doomed").await;
        assert_eq!(reason.to_string(), "panicked in a handler: too late");
        app.shutdown().await;
    });
}
