//! Actors that fail on command, and helpers that wait for the consequences.
#![allow(dead_code, unreachable_pub, reason = "a module of each test file, which uses its own part")]

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use actix::prelude::*;
use actix_rt::System;
use fluffle_supervise::{
    ActorSpec, Backoff, Event, EventStream, ExitError, ExitReason, SupervisedAddr, SupervisedContext, SupervisorHandle,
    What,
};
use tokio::time::timeout;

/// Runs a test in an actix system whose clock moves only when nothing else can run. Waits cost no time, and a test that
/// waits in vain fails at once.
pub fn paused<T>(test: impl Future<Output = T>) -> T {
    run(true, Duration::from_secs(24 * 3600), test)
}

/// Runs a test in an actix system with the real clock: for tests with several threads.
pub fn real<T>(test: impl Future<Output = T>) -> T {
    run(false, Duration::from_secs(20), test)
}

fn run<T>(start_paused: bool, deadline: Duration, test: impl Future<Output = T>) -> T {
    let system = System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(start_paused).build().unwrap()
    });
    let done = system.block_on(async { timeout(deadline, test).await });
    done.expect("the test waits for something that does not happen")
}

/// Reads a tree's events one after the other.
pub struct Watcher(EventStream);

impl Watcher {
    pub fn new(tree: &SupervisorHandle) -> Self {
        Self(tree.events())
    }

    /// Waits for the next event for which `wanted` returns a value, and returns that value.
    pub async fn until<T>(&mut self, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
        loop {
            let event = self.0.next().await.expect("the tree is over").expect("no event is missed");
            if let Some(answer) = wanted(&event) {
                return answer;
            }
        }
    }

    pub async fn ready(&mut self, path: &str) {
        self.until(|event| (&*event.path == path && matches!(event.what, What::Ready)).then_some(())).await;
    }

    pub async fn exited(&mut self, path: &str) -> ExitReason {
        self.until(|event| match &event.what {
            What::Exited { reason } if &*event.path == path => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    /// Every event until the tree is over, as text.
    pub async fn rest(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(event) = self.0.next().await {
            rest.push(event.expect("no event is missed").to_string());
        }
        rest
    }
}

/// The point in its life at which an actor misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    Factory,
    InContext,
    Started,
    /// A future that `started` told the context to wait for.
    WaitInStarted,
    Handler,
    /// A future that `started` spawned into the context.
    Future,
    /// A future that a handler told the context to wait for.
    Wait,
    Stopping,
    Stopped,
    /// The drop of the actor's value.
    Drop,
}

/// What the actor does at that point, in its first incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    Finish,
    Terminate,
    Fail,
    FailForGood,
    Panic,
}

/// An actor that does one thing wrong, once.
pub struct Probe {
    script: Arc<Script>,
    incarnation: u64,
}

pub struct Script {
    hook: Hook,
    fault: Fault,
    incarnations: AtomicU64,
    /// What the actor did, across all incarnations.
    pub log: Mutex<Vec<String>>,
}

impl Script {
    pub fn new(hook: Hook, fault: Fault) -> Arc<Self> {
        Arc::new(Self { hook, fault, incarnations: AtomicU64::new(0), log: Mutex::default() })
    }

    pub fn good() -> Arc<Self> {
        Self::new(Hook::Started, Fault::None)
    }

    pub fn incarnations(&self) -> u64 {
        self.incarnations.load(Ordering::SeqCst)
    }

    pub fn log(&self, line: impl fmt::Display) {
        self.log.lock().unwrap().push(line.to_string());
    }

    pub fn taken_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    /// A child that follows the script, restarted without delay.
    pub fn spec(self: &Arc<Self>, id: &str) -> ActorSpec<Probe> {
        let (script, again) = (self.clone(), self.clone());
        let factory = move || {
            let incarnation = script.incarnations.fetch_add(1, Ordering::SeqCst) + 1;
            let probe = Probe { script: script.clone(), incarnation };
            if probe.is_at(Hook::Factory) {
                panic!("boom in {:?}", Hook::Factory);
            }
            probe
        };
        let hook = move |ctx: &mut Context<Probe>| {
            if again.hook == Hook::InContext && again.incarnations() == 1 {
                again.fault.commit(Hook::InContext, ctx);
            }
        };
        ActorSpec::new(id, factory).in_context(hook).backoff(Backoff::none())
    }
}

impl Fault {
    fn commit(self, hook: Hook, ctx: &mut Context<Probe>) {
        match self {
            Self::None => {}
            Self::Finish => ctx.stop(),
            Self::Terminate => ctx.terminate(),
            Self::Fail => ctx.fail(std::io::Error::other(format!("failed in {hook:?}"))),
            Self::FailForGood => ctx.fail(ExitError::permanent(format!("failed in {hook:?}"))),
            Self::Panic => panic!("boom in {hook:?}"),
        }
    }
}

impl Probe {
    fn is_at(&self, hook: Hook) -> bool {
        self.script.hook == hook && self.script.fault != Fault::None && self.incarnation == 1
    }

    fn pass(&self, hook: Hook, ctx: &mut Context<Self>) {
        if self.is_at(hook) {
            self.script.fault.commit(hook, ctx);
        }
    }
}

impl Actor for Probe {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if self.is_at(Hook::WaitInStarted) {
            ctx.wait(async {}.into_actor(self).map(|(), probe, ctx| probe.pass(Hook::WaitInStarted, ctx)));
        }
        if self.is_at(Hook::Future) {
            ctx.spawn(async {}.into_actor(self).map(|(), probe, ctx| probe.pass(Hook::Future, ctx)));
        }
        self.pass(Hook::Started, ctx);
        self.script.log(format!("started {}", self.incarnation));
    }

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        self.pass(Hook::Stopping, ctx);
        Running::Stop
    }

    fn stopped(&mut self, ctx: &mut Self::Context) {
        self.script.log(format!("stopped {}", self.incarnation));
        self.pass(Hook::Stopped, ctx);
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        if self.is_at(Hook::Drop) && !std::thread::panicking() {
            panic!("boom in {:?}", Hook::Drop);
        }
    }
}

/// Makes a probe reach the hook of its script, if it does not do so by itself.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Go;

impl Handler<Go> for Probe {
    type Result = ();

    fn handle(&mut self, _: Go, ctx: &mut Self::Context) {
        if self.is_at(Hook::Wait) {
            ctx.wait(async {}.into_actor(self).map(|(), probe, ctx| probe.pass(Hook::Wait, ctx)));
        }
        if matches!(self.script.hook, Hook::Stopping | Hook::Stopped | Hook::Drop) && self.incarnation == 1 {
            ctx.stop();
        }
        self.pass(Hook::Handler, ctx);
    }
}

/// Stops a probe as `ctx.stop()` does.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Finish;

impl Handler<Finish> for Probe {
    type Result = ();

    fn handle(&mut self, _: Finish, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

/// Panics in the handler.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Crash;

impl Handler<Crash> for Probe {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("crashed as asked");
    }
}

/// Fails with this error.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Fail(pub ExitError);

impl Handler<Fail> for Probe {
    type Result = ();

    fn handle(&mut self, Fail(error): Fail, ctx: &mut Self::Context) {
        ctx.fail(error);
    }
}

/// Answers with the probe's incarnation.
#[derive(Message)]
#[rtype(u64)]
pub struct Which;

impl Handler<Which> for Probe {
    type Result = u64;

    fn handle(&mut self, _: Which, _: &mut Self::Context) -> u64 {
        self.incarnation
    }
}

/// A probe without a fault, and its address.
pub fn good(id: &str) -> (ActorSpec<Probe>, SupervisedAddr<Probe>) {
    let spec = Script::good().spec(id);
    let addr = spec.addr();
    (spec, addr)
}

/// An actor that stops late or never.
pub struct Slow {
    pub takes: Option<Duration>,
    pub draining: bool,
    pub handled: Arc<Mutex<Vec<u64>>>,
}

impl Actor for Slow {
    type Context = Context<Self>;

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        if self.draining {
            return Running::Stop;
        }
        if let Some(takes) = self.takes {
            ctx.run_later(takes, |slow, ctx| {
                slow.draining = true;
                ctx.stop();
            });
        }
        Running::Continue
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub struct Note(pub u64);

impl Handler<Note> for Slow {
    type Result = ();

    fn handle(&mut self, Note(n): Note, _: &mut Self::Context) {
        self.handled.lock().unwrap().push(n);
    }
}

/// Blocks its thread until the sender is dropped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Block(pub mpsc::Receiver<()>);

impl Handler<Block> for Slow {
    type Result = ();

    fn handle(&mut self, Block(until): Block, _: &mut Self::Context) {
        let _ = until.recv();
        self.handled.lock().unwrap().push(0);
    }
}

/// A slow child, restarted without delay, and the list of what it handles. `takes` is how long it takes to stop; with
/// `None` it never stops.
pub fn slow(id: &str, takes: Option<Duration>) -> (ActorSpec<Slow>, Arc<Mutex<Vec<u64>>>) {
    let handled = Arc::new(Mutex::new(Vec::new()));
    let spec = ActorSpec::new(id, {
        let handled = handled.clone();
        move || Slow { takes, draining: false, handled: handled.clone() }
    });
    (spec.backoff(Backoff::none()), handled)
}
