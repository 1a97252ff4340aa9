//! Tests of a relay that dies, of a broker or a database that is away, and of a broker that refuses a message.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::{collections::HashSet, time::Duration};

use fluffle::{
    broker::{Fault, Rule},
    prelude::*,
    testing::TestBroker,
};
use fluffle_outbox::postgres;
use support::*;

on_both!(
    a_relay_that_dies_between_confirm_and_mark_leaves_a_message_that_is_published_again_under_its_id,
    what_is_known_to_be_confirmed_is_marked_first_however_often_the_relay_is_restarted,
    what_is_published_is_marked_even_if_nothing_more_can_be_claimed,
    what_an_earlier_incarnation_had_claimed_is_taken_again_before_its_lease_is_over,
    while_the_broker_is_away_rows_wait_and_nothing_counts_against_them,
    a_row_that_the_relay_has_without_knowing_is_published_before_its_lease_is_over,
    while_the_broker_is_away_only_what_is_claimed_at_once_is_in_hand_so_that_the_order_stays,
    if_the_broker_accepts_none_the_relay_does_not_try_the_whole_table,
    a_batch_that_a_stopped_relay_cannot_publish_goes_back_to_the_table,
    a_message_refused_for_good_is_parked_and_the_others_go_on,
    a_nacked_message_waits_uncounted_and_the_others_pass,
    a_damaged_row_is_parked_at_once,
);

async fn a_relay_that_dies_between_confirm_and_mark_leaves_a_message_that_is_published_again_under_its_id(
    database: Database,
) {
    let (broker, topology) = broker();
    database.forbid_marking().await;
    let messages = prepared(["one"]);
    database.enqueue(&messages, true).await;
    let dying = relaying(&database, &broker, &topology).await;
    until("the confirm", async || dying.publishers().iter().any(|(_, stats)| stats.confirmed == 1)).await;
    dying.shutdown().await.unwrap();
    assert_eq!(database.rows().await, 1, "published, and not marked");

    database.allow_marking().await;
    let heir = relaying(&database, &broker, &topology).await;
    database.enqueue(&prepared(["two"]), true).await;
    until("the second message", async || broker.messages("q").unwrap().len() == 2).await;
    assert_eq!(texts(&broker, "q"), ["one", "two"], "until its lease is over it is the dead relay's");
    database.end_leases().await;
    until("an empty table", async || database.rows().await == 0).await;
    assert_eq!(texts(&broker, "q"), ["one", "two", "one"]);
    assert_eq!([&ids(&broker, "q")[0], &ids(&broker, "q")[2]], [messages[0].id(); 2]);
    heir.shutdown().await.unwrap();
}

async fn what_is_known_to_be_confirmed_is_marked_first_however_often_the_relay_is_restarted(database: Database) {
    let (broker, topology) = broker();
    database.forbid_marking().await;
    database.enqueue(&prepared(0..900), true).await;
    let service = relaying(&database, &broker, &topology).await;
    until("some restarts", async || restarts(&service) > 3).await;
    database.allow_marking().await;
    until("an empty table", async || database.rows().await == 0).await;
    assert_eq!(texts(&broker, "q"), (0..900).map(|n| n.to_string()).collect::<Vec<_>>());
    service.shutdown().await.unwrap();
}

/// On SQLite the outcomes of a batch are written together with the claim of the next one.
async fn what_is_published_is_marked_even_if_nothing_more_can_be_claimed(database: Database) {
    let (broker, topology) = broker();
    database.enqueue(&prepared(0..2), true).await;
    database.forbid_claiming_the_last().await;
    let app = App::new(broker.client().unwrap()).topology(topology.clone());
    let relay = relay(&database, &app).batch(1);
    let service = started(app.supervise(relay)).await;
    until("the mark of the first", async || database.rows().await == 1).await;
    assert_eq!(texts(&broker, "q"), ["0"]);
    service.shutdown().await.unwrap();
}

async fn what_an_earlier_incarnation_had_claimed_is_taken_again_before_its_lease_is_over(database: Database) {
    let (broker, topology) = broker();
    database.forbid_marking().await;
    database.enqueue(&prepared(["one"]), true).await;
    let service = relaying(&database, &broker, &topology).await;
    until("restarts", async || restarts(&service) > 0).await;
    database.enqueue(&prepared(["two", "three"]), true).await;
    // Looks as if the relay had died right after it claimed the second row; the third row belongs to another relay.
    let claimed = |text: &str, by: &str| match database {
        Database::Postgres { .. } => {
            format!("update fluffle_outbox set claimed_by = {by}, due_at = now() + interval '1 hour' where id = {text}")
        }
        Database::Sqlite { .. } => {
            format!("update fluffle_outbox set claimed_by = {by}, due_at = due_at + 3600000 where id = {text}")
        }
    };
    database.execute(&claimed("2", "(select claimed_by from fluffle_outbox where id = 1)")).await;
    database.execute(&claimed("3", "'another'")).await;
    database.allow_marking().await;
    until("its own rows", async || database.rows().await == 1).await;
    assert_eq!(texts(&broker, "q"), ["one", "two"]);
    service.shutdown().await.unwrap();
}

async fn while_the_broker_is_away_rows_wait_and_nothing_counts_against_them(database: Database) {
    let (broker, _) = broker();
    let topology = Topology::new().queue(Queue::quorum("q"));
    let service = relaying(&database, &broker, &topology).await;
    broker.kill().unwrap();
    let messages = prepared(0..700);
    database.enqueue(&messages, true).await;
    let claimed = "select count(*) from fluffle_outbox where claimed_by is not null";
    until("rows in hand", async || database.number(claimed).await == 250).await;
    broker.start_again().unwrap();
    until("an empty table", async || database.rows().await == 0).await;
    assert_eq!(ids(&broker, "q"), messages.iter().map(Prepared::id).collect::<Vec<_>>());
    assert_eq!(restarts(&service), 0, "the broker's absence is not the relay's failure");
    service.shutdown().await.unwrap();
}

/// The answer to a claim may be lost, and its transaction be committed later.
async fn a_row_that_the_relay_has_without_knowing_is_published_before_its_lease_is_over(database: Database) {
    let (broker, topology) = broker();
    database.record_claims().await;
    database.enqueue(&prepared(["one"]), true).await;
    database.execute("create table kept as select message_id, message from fluffle_outbox").await;
    let service = relaying(&database, &broker, &topology).await;
    until("an empty table", async || database.rows().await == 0).await;
    let later = match database {
        Database::Postgres { .. } => "now() + interval '1 hour'",
        Database::Sqlite { .. } => "9000000000000000",
    };
    let insert = format!(
        "insert into fluffle_outbox (message_id, message, claimed_by, due_at)
         select message_id, message, (select max(relay) from claims), {later} from kept"
    );
    database.execute(&insert).await;
    until("an empty table again", async || database.rows().await == 0).await;
    assert_eq!((texts(&broker, "q"), restarts(&service)), (vec!["one".to_owned(); 2], 0));
    service.shutdown().await.unwrap();
}

async fn while_the_broker_is_away_only_what_is_claimed_at_once_is_in_hand_so_that_the_order_stays(database: Database) {
    let (broker, topology) = broker();
    database.record_claims().await;
    let service = relaying(&database, &broker, &topology).await;
    broker.kill().unwrap();
    let claimed = "select count(*) from fluffle_outbox where claimed_by is not null";
    database.enqueue(&prepared([0]), true).await;
    until("the first in hand", async || database.number(claimed).await == 1).await;
    for n in 1..30 {
        database.enqueue(&prepared([n]), true).await;
    }
    assert_eq!(database.number(claimed).await, 1);
    broker.start_again().unwrap();
    until("an empty table", async || database.rows().await == 0).await;
    assert_eq!(texts(&broker, "q"), (0..30).map(|n| n.to_string()).collect::<Vec<_>>());
    service.shutdown().await.unwrap();
}

async fn if_the_broker_accepts_none_the_relay_does_not_try_the_whole_table(database: Database) {
    let (broker, topology) = broker();
    database.record_claims().await;
    let nacks = broker.faults().inject(Rule::new(Fault::Nack).on_queue("q")).unwrap();
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay(&database, &app).batch(4);
    database.enqueue(&prepared(0..400), true).await;
    let service = started(app.supervise(relay)).await;
    // A nacked row is due again after a second.
    let of_the_first = "select count(*) from claims where id = 1";
    until("the second try of the first", async || database.number(of_the_first).await == 2).await;
    let tried = database.number("select count(distinct id) from claims").await;
    assert!(tried <= 20, "{tried} of 400 rows were tried within a second");
    nacks.heal().unwrap();
    service.shutdown().await.unwrap();
}

async fn a_batch_that_a_stopped_relay_cannot_publish_goes_back_to_the_table(database: Database) {
    let (broker, topology) = broker();
    let service = relaying(&database, &broker, &topology).await;
    broker.kill().unwrap();
    database.enqueue(&prepared(0..3), true).await;
    let claimed = "select count(*) from fluffle_outbox where claimed_by is not null";
    until("a batch in hand", async || database.number(claimed).await == 3).await;
    soon("shutdown", service.shutdown()).await.unwrap();
    assert_eq!(database.number(claimed).await, 0);
    assert_eq!(database.number("select count(*) from fluffle_outbox where attempts = 0").await, 3);
}

/// Three cases: no queue takes the message, its exchange does not exist, and both at once beside good messages.
async fn a_message_refused_for_good_is_parked_and_the_others_go_on(database: Database) {
    let (broker, topology) = broker();
    let app = App::new(broker.client().unwrap()).topology(topology.clone());
    let retry = Retry::exponential(3, Duration::from_millis(20), 2.0).unwrap();
    let relay = relay(&database, &app).retry(retry);
    let service = started(app.supervise(relay)).await;
    let unroutable = prepared_for("nowhere", ["lost"]);
    let homeless = Route::<String>::exchange("missing").prepare(&"lost".to_owned(), &MessageOptions::new()).unwrap();
    let mut batch = prepared(["one"]);
    batch.extend(unroutable);
    batch.extend(prepared(["two"]));
    batch.push(homeless);
    batch.extend(prepared(["three"]));
    database.enqueue(&batch, true).await;

    let parked = "select count(*) from fluffle_outbox where parked_at is not null and attempts = 3";
    until("two parked rows", async || database.number(parked).await == 2).await;
    until("the others", async || database.rows().await == 2).await;
    assert_eq!(texts(&broker, "q").into_iter().collect::<HashSet<_>>().len(), 3);
    let error = "select error from fluffle_outbox where parked_at is not null order by id limit 1";
    assert!(database.text(error).await.contains("no queue took it"), "{}", database.text(error).await);
    let error = "select error from fluffle_outbox where parked_at is not null order by id desc limit 1";
    assert!(database.text(error).await.contains("404"), "{}", database.text(error).await);

    database.enqueue(&prepared(["four"]), true).await;
    until("the row after them", async || database.rows().await == 2).await;
    assert_eq!(database.number(parked).await, 2, "parked, they are not tried again");
    service.shutdown().await.unwrap();

    // A person has added the queues, and releases the parked rows.
    let repaired = topology.queue(Queue::classic("nowhere")).exchange(Exchange::fanout("missing"));
    let repaired = repaired.queue(Queue::classic("found").bind("missing", ""));
    let service = relaying(&database, &broker, &repaired).await;
    database.execute("update fluffle_outbox set parked_at = null, attempts = 0 where parked_at is not null").await;
    until("an empty table", async || database.rows().await == 0).await;
    assert_eq!((texts(&broker, "nowhere"), texts(&broker, "found")), (vec!["lost".into()], vec!["lost".into()]));
    service.shutdown().await.unwrap();
}

async fn a_nacked_message_waits_uncounted_and_the_others_pass(database: Database) {
    let broker = TestBroker::start().unwrap();
    let full = Queue::classic("full").max_length(1).overflow(Overflow::RejectPublish);
    let topology = Topology::new().queue(Queue::classic("q")).queue(full);
    let app = App::new(broker.client().unwrap()).topology(topology.clone());
    let relay = relay(&database, &app).retry(Retry::none());
    let service = started(app.supervise(relay)).await;
    let mut batch = prepared_for("full", ["first", "second"]);
    batch.extend(prepared(["other"]));
    database.enqueue(&batch, true).await;
    let waiting =
        "select count(*) from fluffle_outbox where error like '%basic.nack%' and parked_at is null and attempts = 0";
    until("a nack", async || database.number(waiting).await == 1 && database.rows().await == 1).await;
    assert_eq!((texts(&broker, "full"), texts(&broker, "q")), (vec!["first".into()], vec!["other".into()]));

    let room = started(App::new(broker.client().unwrap()).topology(topology).consume(Consume::queue("full"), || Taker));
    let room = room.await;
    until("an empty table", async || database.rows().await == 0).await;
    room.shutdown().await.unwrap();
    service.shutdown().await.unwrap();
}

struct Taker;

impl Actor for Taker {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Taker {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

async fn a_damaged_row_is_parked_at_once(database: Database) {
    let (broker, topology) = broker();
    let service = relaying(&database, &broker, &topology).await;
    database.enqueue(&prepared(["whole"]), true).await;
    until("an empty table", async || database.rows().await == 0).await;
    let damage = match database {
        Database::Postgres { .. } => "'\\xff00ff'::bytea",
        Database::Sqlite { .. } => "x'ff00ff'",
    };
    database.execute(&format!("insert into fluffle_outbox (message_id, message) values ('bad', {damage})")).await;
    database.enqueue(&prepared(["whole too"]), true).await;
    until("the others", async || database.rows().await == 1).await;
    let error = "select error from fluffle_outbox where parked_at is not null";
    assert!(database.text(error).await.starts_with("not a prepared message"));
    assert_eq!(texts(&broker, "q"), ["whole", "whole too"]);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn several_processes_may_create_the_tables_at_once() {
    let database = Database::postgres().await;
    let Database::Postgres { pool, .. } = &database else { unreachable!() };
    for _ in 0..5 {
        database.execute("drop table fluffle_outbox, fluffle_seen").await;
        let migrations: Vec<_> = (0..4)
            .map(|_| {
                actix::spawn({
                    let pool = pool.clone();
                    async move { postgres::migrate(&pool).await }
                })
            })
            .collect();
        for migration in migrations {
            soon("the tables", migration).await.unwrap().unwrap();
        }
        assert_eq!(database.rows().await, 0);
    }
}

#[actix::test]
async fn a_relay_survives_the_database_going_away_and_coming_back() {
    let database = Database::postgres().await;
    let Database::Postgres { server, .. } = &database else { unreachable!() };
    let (broker, topology) = broker();
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay_of(database.impatient_table(), &app);
    let service = started(app.supervise(relay)).await;
    database.enqueue(&prepared(["before"]), true).await;
    until("the first", async || database.rows().await == 0).await;
    server.kill().unwrap();
    until("restarts", async || restarts(&service) > 2).await;
    server.start_again().unwrap();
    // The pool may still hold lost connections, so wait until a query succeeds.
    until("an answer", async || database.try_number("select count(*) from fluffle_outbox").await.is_ok()).await;
    database.enqueue(&prepared(["after"]), true).await;
    until("an empty table", async || database.rows().await == 0).await;
    assert_eq!(texts(&broker, "q"), ["before", "after"]);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_relay_survives_a_file_that_is_locked_for_long() {
    let database = Database::sqlite().await;
    let Database::Sqlite { pool, .. } = &database else { unreachable!() };
    let (broker, topology) = broker();
    database.enqueue(&prepared(["one"]), true).await;
    let lock = pool.begin_with("begin immediate").await.unwrap();
    let app = App::new(broker.client().unwrap()).topology(topology);
    let relay = relay_of(database.impatient_table(), &app);
    let service = started(app.supervise(relay)).await;
    until("restarts", async || restarts(&service) > 1).await;
    lock.rollback().await.unwrap();
    until("an empty table", async || database.rows().await == 0).await;
    assert_eq!(texts(&broker, "q"), ["one"]);
    service.shutdown().await.unwrap();
}
