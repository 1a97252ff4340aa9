//! Three processes share a queue with a message that kills each of them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use fluffle::prelude::*;

use crate::{
    effects::*,
    support::{
        Raw, broker,
        process::{Log, Process, Program, SECONDS, service, this_test},
        publish_before_consuming, retry, vhost,
    },
};

const PROCESSES: usize = 3;
const OTHERS: usize = 60;

/// Leaves the effect of each text, and aborts the process over `poison`.
struct Mortal(Once);

impl Actor for Mortal {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Mortal {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        if *text == "poison" {
            std::process::abort();
        }
        self.0.work(text)
    }
}

async fn one_of_three() -> Result<(), fluffle::Error> {
    let (url, database) = broker_and_database();
    let pool = Once::connect(&database).await;
    let consume = Consume::<String>::queue("q").retry(retry(5)).prefetch(10);
    App::new(broker(&url)).consume(consume, move || Mortal(Once::new(pool.clone()))).run_until_signal().await
}

#[test]
fn a_message_that_kills_each_of_three_processes_is_a_dead_letter_and_the_others_are_handled_once() {
    let name = this_test!();
    let program = || service(name, Log::On, one_of_three);
    let first = program();
    let vhost = vhost();
    let system = actix::System::new();
    let effects = system.block_on(Effects::start());
    let texts: Vec<String> = (0..OTHERS).map(|number| number.to_string()).collect();
    let mut all: Vec<&str> = texts.iter().map(String::as_str).collect();
    all.insert(OTHERS / 2, "poison");
    system.block_on(publish_before_consuming(&vhost, &all));

    let start = |program: Program| told(program, vhost.url(), &effects).start();
    let mut processes: Vec<Process> = vec![start(first)];
    processes.extend((1..PROCESSES).map(|_| start(program())));
    let (mut deaths, deadline) = (0, Instant::now() + 4 * SECONDS);
    let handled = || system.block_on(effects.number("select count(distinct text) from effects")) as usize;
    while handled() < OTHERS || vhost.depth("q.dead").ready == 0 {
        let (dead, left) = (vhost.depth("q.dead"), vhost.depth("q"));
        let handled = handled();
        assert!(Instant::now() < deadline, "{deaths} deaths, {handled} handled; {dead:?}, {left:?}");
        for process in &mut processes {
            if !process.has_died() {
                continue;
            }
            deaths += 1;
            *process = start(program());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    system.block_on(async {
        let handled = effects.texts().await;
        assert_eq!(handled.iter().cloned().collect::<BTreeSet<_>>(), texts.into_iter().collect());
        assert_eq!(handled.len(), OTHERS, "an effect is repeated");
        let raw = Raw::connect(vhost.url()).await;
        assert_eq!(raw.take("q.dead").await.header(fluffle::wire::headers::REASON).unwrap(), "delivery-limit");
        assert_eq!(raw.ready("q.dead").await, 0, "and nothing else is a dead letter");
    });
    eprintln!("deaths={deaths}");
}
