//! A publisher with a journal: accepted messages survive the absence of the broker, and the end of the service and of
//! the process.

use std::{collections::BTreeSet, path::Path, time::Duration};

use fluffle::{
    amqp::PublisherStats,
    broker::{Event, Fault, Rule, Target},
    prelude::*,
    testing::TestBroker,
};

use crate::support::{Act, Record, SOON, handlers, next, soon, started, until};

fn journal(folder: &Path) -> Journal {
    Journal::options().open(folder.join("out.journal")).unwrap()
}

fn app(broker: &TestBroker, journal: Journal) -> (App, Publisher<String>) {
    app_with(broker, Route::queue("q").journal(journal))
}

fn app_with(broker: &TestBroker, route: Route<String>) -> (App, Publisher<String>) {
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher(route);
    (app, out)
}

async fn consuming(app: App) -> (Service, Record) {
    let (factory, record) = handlers(|_| Act::Ok);
    (started(app.consume(Consume::queue("q"), factory)).await, record)
}

async fn texts(record: &mut Record, count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for _ in 0..count {
        texts.push(next(record).await.text);
    }
    texts
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[actix::test]
async fn what_a_journaled_publisher_accepts_arrives_in_order_and_leaves_the_journal() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let journal = journal(folder.path());
    let (app, out) = app(&broker, journal.clone());
    let (service, mut record) = consuming(app).await;
    let mut receipts = Vec::new();
    for number in 0..300 {
        receipts.push(out.enqueue(number.to_string()).await.unwrap());
    }
    for receipt in receipts {
        soon("confirmed", receipt.confirmed()).await.unwrap();
    }
    assert_eq!(texts(&mut record, 300).await, numbers(0..300));
    soon("flushed", out.flush()).await;
    assert_eq!((journal.stats().unconfirmed, journal.stats().confirmed), (0, 300));
    broker.settled(&service).await.unwrap();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_one_service_could_not_send_the_next_one_sends_first_under_the_same_ids() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    broker.stop().unwrap();
    let journal_of_the_first = journal(folder.path());
    let (app, out) = app(&broker, journal_of_the_first.clone());
    let service = app.drain_within(Duration::from_millis(50)).start().await.unwrap();
    let mut ids = BTreeSet::new();
    for number in 0..100 {
        let receipt = out.enqueue(number.to_string()).await.unwrap();
        ids.insert(receipt.id().to_owned());
        // From now on the message will be sent, even if this process dies.
        drop(soon("on the disk", receipt.journaled()).await.unwrap());
    }
    let late = out.enqueue("100".to_owned()).await.unwrap();
    ids.insert(late.id().to_owned());
    let waiting = actix::spawn(late.confirmed());
    soon("the end", service.shutdown()).await.unwrap();
    let error = soon("word of the end", waiting).await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Journaled), "{error}");
    assert_eq!((out.stats().accepted, out.stats().outstanding), (101, 101), "outstanding to the last");
    drop(out);
    soon("closed", journal_of_the_first.close()).await.unwrap();

    broker.start_again().unwrap();
    let (app, out) = app_with(&broker, Route::queue("q").journal(journal(folder.path())));
    let (service, mut record) = consuming(app).await;
    soon("confirmed", out.publish("101".to_owned())).await.unwrap();
    assert_eq!(texts(&mut record, 102).await, numbers(0..102), "the first service's first, in order");
    assert_eq!(broker.settled(&service).await.map_err(|error| error.to_string()), Ok(()));
    let PublisherStats { accepted, confirmed, outstanding, .. } = out.stats();
    assert_eq!((accepted, confirmed, outstanding), (102, 102, 0), "those of the first service included");
    service.shutdown().await.unwrap();
    assert_eq!(ids.len(), 101);
}

#[actix::test]
async fn an_outage_longer_than_any_mailbox_is_waited_out_on_the_disk() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let route = Route::queue("q").journal(journal(folder.path())).mailbox(4).confirms(Confirms::Window(8));
    let (app, out) = app_with(&broker, route);
    let (service, mut record) = consuming(app).await;
    broker.kill().unwrap();
    let mut receipts = Vec::new();
    for number in 0..500 {
        receipts.push(soon("accepted without a broker", out.enqueue(number.to_string())).await.unwrap());
    }
    broker.start_again().unwrap();
    for receipt in receipts {
        soon("confirmed", receipt.confirmed()).await.unwrap();
    }
    let mut seen = Vec::new();
    while seen.len() < 500 {
        let text = next(&mut record).await.text;
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    assert_eq!(seen, numbers(0..500));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn cut_connections_lose_nothing_of_a_journal() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let journal = journal(folder.path());
    let (app, out) = app(&broker, journal.clone());
    let (service, mut record) = consuming(app).await;
    broker.faults().inject(Rule::new(Fault::Cut).at(Event::Published).after(50).times(3)).unwrap();
    let mut receipts = Vec::new();
    for number in 0..300 {
        receipts.push(out.enqueue(number.to_string()).await.unwrap());
    }
    for receipt in receipts {
        soon("confirmed", receipt.confirmed()).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    while seen.len() < 300 {
        seen.insert(next(&mut record).await.text);
    }
    until("the journal is empty", || journal.stats().unconfirmed == 0).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_cannot_be_delivered_goes_back_to_who_waits_or_stays_for_the_next_process() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let journal_of_the_first = journal(folder.path());
    let (app, out) = app_with(&broker, Route::queue("nowhere").journal(journal_of_the_first.clone()));
    let service = started(app).await;
    let error = soon("an answer", out.publish("mine again".to_owned())).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Returned(_)), "{error}");
    until("it has left the journal", || journal_of_the_first.stats().unconfirmed == 0).await;
    let receipt = out.enqueue("nobody's".to_owned()).await.unwrap();
    drop(soon("on the disk", receipt.journaled()).await.unwrap());
    until("it is tried again and again", || out.stats().kept >= 2).await;
    let oldest = || service.status().publishers[0].journal.unwrap().oldest;
    until("its age is known", || oldest().is_some_and(|age| age >= Duration::from_millis(200))).await;
    assert!(oldest().unwrap() < SOON);
    let PublisherStats { accepted, returned, outstanding, .. } = out.stats();
    assert_eq!((accepted, returned, outstanding), (2, 1, 1), "what is tried again is not settled");
    // `flush` does not wait for this message, because the publisher has tried to send it. `settled` names the publisher
    // that still has it.
    soon("flushed", out.flush()).await;
    let unsettled = broker.settled_within(&service, Duration::from_millis(200)).await.unwrap_err().to_string();
    assert!(unsettled.contains("publisher nowhere"), "{unsettled}");
    service.shutdown().await.unwrap();
    drop(out);
    soon("closed", journal_of_the_first.close()).await.unwrap();

    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("nowhere")));
    let out = app.publisher::<String>(Route::queue("nowhere").journal(journal(folder.path())));
    let service = started(app).await;
    until("it found its queue", || broker.messages("nowhere").unwrap().len() == 1).await;
    until("it is confirmed", || out.stats().outstanding == 0).await;
    let PublisherStats { accepted, confirmed, .. } = out.stats();
    assert_eq!((accepted, confirmed), (1, 1), "accepted when it was read");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_journaled_message_that_is_on_the_wire_at_the_end_has_not_failed() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let (app, out) = app(&broker, journal(folder.path()));
    let service = started(app.drain_within(Duration::from_millis(50))).await;
    let alarm = Fault::Block { reason: "low on memory".to_owned(), time: Duration::MAX };
    broker.faults().strike(alarm, Target::all()).unwrap();
    drop(out.enqueue("promised".to_owned()).await.unwrap());
    until("it is on the wire", || service.status().publishers[0].in_flight == 1).await;
    service.shutdown().await.unwrap();
    let PublisherStats { accepted, failed, outstanding, .. } = out.stats();
    assert_eq!((accepted, failed, outstanding), (1, 0, 1), "the next process sends it");
}

/// The deadline passes before the disk can answer, because writing a body of this size takes time.
#[actix::test]
async fn a_publish_waits_for_a_slow_disk_no_longer_than_its_deadline() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let journal = journal(folder.path());
    let (app, out) = app_with(&broker, Route::queue("q").journal(journal).deadline(Duration::ZERO));
    let service = started(app).await;
    let late = out.publish("x".repeat(12 << 20)).await.unwrap_err();
    assert!(matches!(late.kind(), PublishErrorKind::Unknown), "neither on the disk nor refused: {late}");
    soon("it goes its way", out.flush()).await;
    broker.settled(&service).await.unwrap();
    assert_eq!(broker.messages("q").unwrap().len(), 1);
    service.shutdown().await.unwrap();
}

/// The journal is larger than SQLite's cache, so that the damaged bytes are read from the disk.
#[actix::test]
async fn a_message_damaged_on_the_disk_stays_in_the_journal_and_those_after_it_go_out() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let large = |number: usize| format!("{} amid message {number} {}", ".".repeat(1 << 19), ".".repeat(1 << 19));
    broker.stop().unwrap();
    let first = journal(folder.path());
    let (app, out) = app(&broker, first.clone());
    let service = app.start().await.unwrap();
    for number in 0..8 {
        let _ = out.enqueue(large(number)).await.unwrap().journaled().await.unwrap();
    }
    service.shutdown().await.unwrap();
    drop(out);
    first.close().await.unwrap();
    broker.start_again().unwrap();
    let second = journal(folder.path());
    let path = folder.path().join("out.journal");
    let mut file = std::fs::read(&path).unwrap();
    let mark = b"amid message 2 ";
    let at = file.windows(mark.len()).position(|window| window == mark).unwrap();
    file[at] ^= 1;
    std::fs::write(&path, file).unwrap();
    let (app, out) = self::app(&broker, second.clone());
    let (service, mut record) = consuming(app).await;
    let arrived: Vec<String> = texts(&mut record, 7).await;
    let all_but_one: Vec<String> = (0..8).filter(|number| *number != 2).map(large).collect();
    assert!(arrived == all_but_one, "all but the damaged one, in order");
    soon("nothing else to wait for", out.flush()).await;
    soon("the drain", service.shutdown()).await.unwrap();
    assert_eq!(second.stats().unconfirmed, 1, "the damaged message must stay in the journal");
}

#[actix::test]
async fn a_full_journal_waits_up_to_the_deadline_or_says_so_at_once() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    broker.stop().unwrap();
    let big = || "x".repeat(3000);
    for (when_full, file) in [(fluffle::store::WhenFull::Wait, "a"), (fluffle::store::WhenFull::Error, "b")] {
        let journal = Journal::options().max_bytes(10_000).when_full(when_full).open(folder.path().join(file)).unwrap();
        let route = Route::queue("q").journal(journal).deadline(Duration::from_millis(200));
        let (_app, out) = app_with(&broker, route);
        let mut refused = None;
        for _ in 0..4 {
            match out.enqueue(big()).await {
                Ok(receipt) => drop(receipt),
                Err(error) => refused = Some(error),
            }
        }
        let error = refused.expect("it is full");
        assert_eq!(error.message, big(), "the message comes back");
        match when_full {
            fluffle::store::WhenFull::Error => {
                assert!(error.to_string().contains("full"), "{error}");
                assert!(matches!(error.kind(), PublishErrorKind::Journal(_)));
            }
            _ => assert!(matches!(error.kind(), PublishErrorKind::Overloaded), "{error}"),
        }
    }
}

#[actix::test]
async fn two_publishers_cannot_have_one_journal() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let journal = journal(folder.path());
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let _one = app.publisher::<String>(Route::queue("q").journal(journal.clone()));
    let _two = app.publisher::<String>(Route::queue("q").journal(journal));
    let Err(error) = app.start().await else { panic!("it started") };
    assert!(error.to_string().contains("another publisher has it"), "{error}");
}

#[actix::test]
async fn who_awaits_no_more_than_the_disk_may_leave_the_rest_to_the_journal() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let route = Route::queue("q").journal(journal(folder.path())).republish(Republish::Never);
    let (app, out) = app_with(&broker, route);
    let (service, mut record) = consuming(app).await;
    let nacks = broker.faults().inject(Rule::new(Fault::Nack).on_queue("q").times(2)).unwrap();
    let receipt = out.enqueue("promised".to_owned()).await.unwrap();
    let receipt = soon("on the disk", receipt.journaled()).await.unwrap();
    // The broker's nack arrives before the receipt is dropped, and no caller has read it.
    until("it was nacked", || nacks.fired() == 1).await;
    let handed_back = || service.status().publishers[0].journal.unwrap().handed_back;
    until("the publisher knows", || handed_back() == 1).await;
    assert_eq!((out.stats().nacked, out.stats().kept), (0, 0), "it is nobody's yet");
    drop(receipt);
    assert_eq!(next(&mut record).await.text, "promised");
    assert_eq!(nacks.fired(), 2, "and it was tried more than once");
    broker.settled(&service).await.unwrap();
    assert_eq!((out.stats().accepted, out.stats().confirmed, out.stats().kept), (1, 1, 2));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_the_broker_did_not_take_is_tried_again_after_the_last_handle_is_gone() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let route = Route::queue("q").journal(journal(folder.path())).republish(Republish::Never);
    let (app, out) = app_with(&broker, route);
    let (service, mut record) = consuming(app).await;
    let nacks = broker.faults().inject(Rule::new(Fault::Nack).on_queue("q").times(2)).unwrap();
    let is_there = || service.publishers().iter().any(|(name, _)| name == "q");
    assert!(is_there());
    drop(out.enqueue("promised".to_owned()).await.unwrap());
    drop(out);
    assert_eq!(next(&mut record).await.text, "promised");
    assert_eq!(nacks.fired(), 2);
    // The publisher ends when its last message is confirmed.
    until("it is gone", || !is_there()).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_is_accepted_is_not_flushed_before_it_is_published() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let (app, out) = app(&broker, journal(folder.path()));
    let service = started(app).await;
    for number in 0..50 {
        drop(out.enqueue(number.to_string()).await.unwrap());
        soon("flushed", out.flush()).await;
        assert_eq!(broker.messages("q").unwrap().len(), number + 1);
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_publisher_that_drains_sends_what_it_has_journaled() {
    let (folder, broker) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap());
    let route = Route::queue("q").journal(journal(folder.path())).confirms(Confirms::Each);
    let (app, out) = app_with(&broker, route);
    let service = started(app).await;
    for number in 0..200 {
        drop(out.enqueue(number.to_string()).await.unwrap());
    }
    service.shutdown().await.unwrap();
    assert_eq!(broker.messages("q").unwrap().len(), 200);
}
