//! Three processes relay one outbox.

use fluffle::prelude::*;
use fluffle_outbox::{Relay, postgres};

use crate::{
    effects::*,
    support::{
        Raw, app_with_q, broker,
        process::{Log, Program, SECONDS, service, this_test},
        started, until, vhost,
    },
};

const BATCH: usize = 20;

async fn a_relay() -> Result<(), fluffle::Error> {
    let (url, database) = broker_and_database();
    let app = App::new(broker(&url));
    let relay = Relay::new(Once::connect(&database).await, app.forwarder("outbox")).batch(BATCH);
    app.supervise(relay).run_until_signal().await
}

async fn enqueue(effects: &Effects, texts: std::ops::Range<usize>) {
    let route = Route::<String>::queue("q");
    for number in texts {
        let message = route.prepare(&number.to_string(), &MessageOptions::new()).unwrap();
        let mut tx = effects.pool.begin().await.unwrap();
        postgres::enqueue(&mut tx, &message).await.unwrap();
        tx.commit().await.unwrap();
    }
}

async fn all_is_relayed(effects: &Effects) {
    crate::support::soon("the outbox is empty", async {
        let mut look = tokio::time::interval(std::time::Duration::from_millis(50));
        while effects.number("select count(*) from fluffle_outbox").await > 0 {
            look.tick().await;
        }
    })
    .await;
}

#[test]
fn three_relays_of_one_outbox_publish_each_message_once_and_what_a_killed_one_had_claimed_is_not_lost() {
    let name = this_test!();
    let program = || service(name, Log::On, a_relay);
    let first = program();
    let vhost = vhost();
    let system = actix::System::new();
    let effects = system.block_on(Effects::start());
    system.block_on(async { started(app_with_q(vhost.url())).await.shutdown().await.unwrap() });
    let start = |program: Program| {
        let process = told(program, vhost.url(), &effects).start();
        process.line(&["connected"], SECONDS);
        process
    };
    let mut relays = vec![start(first), start(program()), start(program())];

    system.block_on(async {
        enqueue(&effects, 0..600).await;
        all_is_relayed(&effects).await;
        let raw = Raw::connect(vhost.url()).await;
        assert_eq!(raw.ready("q").await, 600, "no relay publishes what another has claimed");
    });
    system.block_on(async {
        for round in 0..3 {
            enqueue(&effects, 600 + round * 200..600 + (round + 1) * 200).await;
            // Killed when it is dropped, with what it has claimed.
            drop(relays.remove(0));
            relays.push(start(program()));
        }
        // As if the minute of the leases had passed.
        sqlx::raw_sql("update fluffle_outbox set due_at = now()").execute(&effects.pool).await.unwrap();
        all_is_relayed(&effects).await;
        let raw = Raw::connect(vhost.url()).await;
        until("all are in the queue", || vhost.depth("q").ready >= 1_200).await;
        let twice = raw.ready("q").await as usize - 1_200;
        eprintln!("relayed=1200 twice={twice}");
        assert!(twice <= 3 * BATCH, "more than the claims of the killed ones: {twice}");
    });
}
