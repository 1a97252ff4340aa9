//! The cost of supervision: a message to a supervised actor compared with one to a bare actix actor, and the time from
//! a crash to the first message of the next incarnation.
//!
//! `cargo bench -p benches --bench supervise`
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use actix::prelude::*;
use actix_rt::{Arbiter, ArbiterHandle, System, SystemRunner};
use divan::{Bencher, counter::ItemsCount};
use fluffle_supervise::{ActorSpec, Backoff, Intensity, SupervisedAddr, SupervisorHandle, SupervisorSpec};

fn main() {
    // The crashes below are deliberate, so do not print their backtraces.
    std::panic::set_hook(Box::new(|_| {}));
    divan::main();
}

/// Messages in one sample.
const ROUNDS: usize = 2_000;

struct Adder(u64);

impl Actor for Adder {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(u64)]
struct Add(u64);

impl Handler<Add> for Adder {
    type Result = u64;

    fn handle(&mut self, Add(n): Add, _: &mut Self::Context) -> u64 {
        self.0 = self.0.wrapping_add(n);
        self.0
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Crash;

impl Handler<Crash> for Adder {
    type Result = ();

    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("as asked");
    }
}

#[derive(Clone, Copy)]
enum Place {
    SameArbiter,
    AnotherArbiter,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SameArbiter => "same arbiter",
            Self::AnotherArbiter => "another arbiter",
        })
    }
}

const PLACES: [Place; 2] = [Place::SameArbiter, Place::AnotherArbiter];

/// A system, and the arbiter in it on which the actor lives.
fn system(place: Place) -> (SystemRunner, ArbiterHandle) {
    let system = System::new();
    let arbiter = system.block_on(async {
        match place {
            Place::SameArbiter => Arbiter::current(),
            Place::AnotherArbiter => Arbiter::new().handle(),
        }
    });
    (system, arbiter)
}

fn supervised(system: &SystemRunner, arbiter: ArbiterHandle) -> (SupervisorHandle, SupervisedAddr<Adder>) {
    let spec = ActorSpec::new("adder", || Adder(0)).on(arbiter).backoff(Backoff::none());
    let addr = spec.addr();
    let app = SupervisorSpec::new("app").intensity(Intensity::unlimited()).child(spec);
    (system.block_on(async { app.start() }), addr)
}

#[divan::bench(args = PLACES, sample_count = 200)]
fn send_bare_actix(bencher: Bencher<'_, '_>, place: Place) {
    let (system, arbiter) = system(place);
    let addr = Adder::start_in_arbiter(&arbiter, |_| Adder(0));
    bencher.counter(ItemsCount::new(ROUNDS)).bench_local(|| {
        system.block_on(async {
            for n in 0..ROUNDS as u64 {
                addr.send(Add(n)).await.unwrap();
            }
        });
    });
    arbiter.stop();
}

#[divan::bench(args = PLACES, sample_count = 200)]
fn send_supervised(bencher: Bencher<'_, '_>, place: Place) {
    let (system, arbiter) = system(place);
    let (_app, addr) = supervised(&system, arbiter.clone());
    bencher.counter(ItemsCount::new(ROUNDS)).bench_local(|| {
        system.block_on(async {
            for n in 0..ROUNDS as u64 {
                addr.send(Add(n)).await.unwrap();
            }
        });
    });
    arbiter.stop();
}

/// Measures from sending the message that crashes the actor until the next incarnation answers the next message.
#[divan::bench(args = PLACES, sample_count = 500, sample_size = 1)]
fn restart_latency(bencher: Bencher<'_, '_>, place: Place) {
    let (system, arbiter) = system(place);
    let (_app, addr) = supervised(&system, arbiter.clone());
    bencher.bench_local(|| {
        system.block_on(async {
            addr.send(Crash).await.unwrap_err();
            addr.send(Add(1)).await.unwrap();
        });
    });
    arbiter.stop();
}
