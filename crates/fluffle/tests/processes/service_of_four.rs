//! Four processes share a queue. Their effects are in one database, in one transaction with the ids of the messages.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use fluffle::prelude::*;

use crate::{
    effects::*,
    support::{
        app_with_q, broker,
        process::{Log, Process, Program, SECONDS, service, this_test},
        started, vhost,
    },
};

const PROCESSES: usize = 4;

/// What each of the processes does.
async fn one_of_four() -> Result<(), fluffle::Error> {
    let (url, database) = broker_and_database();
    let pool = Once::connect(&database).await;
    let app = App::new(broker(&url));
    let consume = Consume::<String>::queue("q").prefetch(20);
    app.consume(consume, move || Once::new(pool.clone())).run_until_signal().await
}

fn at_work(program: Program) -> Process {
    let process = program.start();
    process.line(&["consuming"], SECONDS);
    process
}

/// Publishes numbers, 100 before each of as many changes as there are processes, and checks that each had its effect
/// once.
fn each_has_one_effect(
    first: Program,
    program: impl Fn() -> Program + Sync,
    change: impl Fn(&mut Vec<Process>, &dyn Fn() -> Process) + Sync,
) {
    let vhost = vhost();
    let system = actix::System::new();
    let effects = system.block_on(Effects::start());
    let app = app_with_q(vhost.url());
    let out = app.publisher::<String>(Route::queue("q"));
    let publishing = system.block_on(started(app));
    let another = || at_work(told(program(), vhost.url(), &effects));
    let mut processes = vec![at_work(told(first, vhost.url(), &effects))];
    processes.extend((1..PROCESSES).map(|_| another()));

    let published = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            for round in 1..=PROCESSES {
                while published.load(Ordering::Relaxed) < round * 100 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                change(&mut processes, &another);
            }
        });
        system.block_on(publish_until(&out, &published, || changing.is_finished()));
        changing.join().unwrap();
    });
    let count = published.into_inner();
    system.block_on(async {
        effects.handled(count).await;
        let (all, pause) = (effects.texts().await.len(), effects.longest_pause().await);
        eprintln!("published={count} effects={all} longest_pause={pause}ms");
        assert_eq!(all, count, "an effect is repeated");
        publishing.shutdown().await.unwrap();
    });
}

#[test]
fn a_service_of_four_is_replaced_one_by_one_under_load_and_no_message_is_lost_or_has_a_second_effect() {
    let name = this_test!();
    let program = || service(name, Log::On, one_of_four);
    let first = program();
    each_has_one_effect(first, program, |processes, another| {
        processes.push(another());
        let old = processes.remove(0);
        old.signal("TERM");
        let (code, lines) = old.ended(SECONDS);
        assert_eq!(code, 0, "{lines:#?}");
    });
}

#[test]
fn of_four_processes_that_are_killed_one_by_one_under_load_no_message_is_lost_or_has_a_second_effect() {
    let name = this_test!();
    let program = || service(name, Log::On, one_of_four);
    let first = program();
    each_has_one_effect(first, program, |processes, another| {
        // Killed when it is dropped.
        drop(processes.remove(0));
        processes.push(another());
    });
}
