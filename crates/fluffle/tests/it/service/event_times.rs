//! What events say of the time that messages took, stage by stage; and the events of requests, replays, journals and of
//! a consumer's state.

use std::{sync::Arc, time::Duration};

use fluffle::{
    amqp::{
        BetweenHosts, ConsumerState, DeliveryEvent, PublishEvent, PublishResult, Replay, ReplayEvent, RequestEvent,
        RequestResult,
    },
    broker::{Fault, Rule},
    prelude::*,
    testing::TestBroker,
};
use lapin::BasicProperties;
use tokio::sync::Notify;

use super::heard::{Heard, of};
use crate::support::*;

/// The times of a delivery from its publish: until it was received, of its wait as a retry copy, and its age at the
/// end.
type FromPublish = (Option<BetweenHosts>, Option<BetweenHosts>, Option<BetweenHosts>);

fn from_publish(events: &[DeliveryEvent]) -> FromPublish {
    let received = events.iter().find_map(|event| match event {
        DeliveryEvent::Received { since_publish, retry_wait, .. } => Some((*since_publish, *retry_wait)),
        _ => None,
    });
    let age = events.iter().find_map(|event| match event {
        DeliveryEvent::Settled { age, .. } => Some(*age),
        _ => None,
    });
    let (since_publish, retry_wait) = received.expect("received");
    (since_publish, retry_wait, age.expect("settled"))
}

#[actix::test]
async fn a_message_says_how_long_it_was_under_way_and_how_old_it_was_and_what_decoding_took() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Block(Duration::from_millis(30)));
    let service = started(heard.by(app).consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a"]).await;
    let events = heard.settled(1).await;
    let (Some(under_way), None, Some(age)) = from_publish(&events) else { panic!("{events:?}") };
    assert!(!under_way.is_clamped && !age.is_clamped);
    assert!(age.time >= under_way.time + Duration::from_millis(29), "the handler is part of it: {events:?}");
    assert!(age.time < SOON, "{events:?}");
    let DeliveryEvent::Started { waited, decode: Some(decode), .. } = events[1] else { panic!("{events:?}") };
    assert!(decode <= waited && !decode.is_zero(), "{events:?}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_time_that_is_not_known_is_missing_and_one_to_come_is_clamped() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Ok);
    let service = started(heard.by(app).consume(Consume::queue("q"), factory)).await;
    let mut before = 0;
    let mut last = async |heard: &Heard, count| {
        let events = heard.settled(count).await;
        let times = from_publish(&events[before..]);
        before = events.len();
        times
    };
    out.publish_with("a".to_owned(), MessageOptions::new().id("order-7")).await.unwrap();
    let (under_way, _, age) = last(&heard, 1).await;
    assert!(under_way.is_none() && age.is_some_and(|age| !age.is_clamped), "to the second, for the age alone");
    let raw = Raw::connect(vhost.url()).await;
    let (body, labels) = (encoded("b").0, BasicProperties::default());
    raw.put("q", &body, labels.clone()).await;
    assert_eq!(last(&heard, 2).await, (None, None, None));
    let in_an_hour = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600;
    raw.put("q", &body, labels.with_timestamp(in_an_hour)).await;
    let (_, _, age) = last(&heard, 3).await;
    assert!(age.is_some_and(|age| age.is_clamped && age.time.is_zero()), "{age:?}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_retry_copy_says_how_long_it_waited_and_its_age_goes_on() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let (factory, _record) =
        handlers(|seen| if seen.attempt == 1 { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
    let service = started(heard.by(app).consume(Consume::queue("q").retry(retry(2)), factory)).await;
    publish(&out, &["a"]).await;
    let events = heard.settled(2).await;
    let second = events.iter().rposition(|event| matches!(event, DeliveryEvent::Received { .. })).unwrap();
    let (Some(first), None, Some(_)) = from_publish(&events) else { panic!("{events:?}") };
    let (None, Some(waited), Some(age)) = from_publish(&events[second..]) else { panic!("{events:?}") };
    assert!(!waited.is_clamped && waited.time >= Duration::from_millis(10), "{waited:?}");
    // In whole milliseconds, since both come from headers.
    assert!(age.time + Duration::from_millis(2) >= first.time + waited.time, "{first:?} {waited:?} {age:?}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_batch_says_how_long_it_was_open() {
    let (vhost, heard) = (vhost(), Heard::default());
    let app = heard.by(app_with_q(vhost.url()));
    let linger = Duration::from_millis(80);
    let out = app.publisher::<String>(Route::queue("q").batch(Batching::default().linger(linger)));
    let service = started(app).await;
    let (first, second) = futures_util::join!(out.publish("a".to_owned()), out.publish("b".to_owned()));
    first.unwrap();
    second.unwrap();
    let events = of(&heard.messages, "q");
    let PublishEvent::Accepted { messages: 2, batch_wait: Some(open), .. } = events[0] else { panic!("{events:?}") };
    assert!(open >= linger && open < SOON, "{open:?}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn the_states_of_a_consumer_follow_one_another_without_a_gap() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Err(Failure::retry("the database is away")));
    let wait = Duration::from_millis(50);
    let breaker = CircuitBreaker::new("database")
        .window(Window::last(1))
        .open_for(Backoff::exponential(wait, Duration::from_secs(3600)).unwrap().factor(100_000.0).unwrap());
    let consume = Consume::queue("q").circuit_breaker(breaker).retry(retry(9));
    let service = started(heard.by(app).consume(consume, factory)).await;
    let is_now = async |wished: ConsumerState| {
        until(&format!("{wished:?}"), || of(&heard.states, "q").last().is_some_and(|(_, to)| *to == wished)).await;
    };
    is_now(ConsumerState::Consuming).await;
    let _nothing_changed = service.status();
    service.pause_consumer("q").await.unwrap();
    is_now(ConsumerState::Paused).await;
    service.resume_consumer("q").unwrap();
    is_now(ConsumerState::Consuming).await;
    publish(&out, &["a"]).await;
    until("it probes", || of(&heard.states, "q").iter().any(|(_, to)| *to == ConsumerState::Probing)).await;
    is_now(ConsumerState::BreakerOpen).await;
    service.shutdown().await.unwrap();
    let states = of(&heard.states, "q");
    assert_eq!(states[0].0, ConsumerState::Unsubscribed);
    assert!(states.windows(2).all(|pair| pair[0].1 == pair[1].0 && pair[1].0 != pair[1].1), "{states:?}");
}

struct Answers(Arc<Notify>);

impl Actor for Answers {
    type Context = Context<Self>;
}

impl Handler<Delivery<String, String>> for Answers {
    type Result = ResponseFuture<Result<String, Failure>>;

    fn handle(&mut self, question: Delivery<String, String>, _: &mut Self::Context) -> Self::Result {
        let (go, question) = (Arc::clone(&self.0), question.to_string());
        Box::pin(async move {
            match question.as_str() {
                "slow" => go.notified().await,
                "bad" => return Err(Failure::reject("never")),
                _ => {}
            }
            Ok(question)
        })
    }
}

#[actix::test]
async fn each_request_is_asked_sent_and_settled_and_a_late_answer_is_heard_of() {
    let (vhost, heard) = (vhost(), Heard::default());
    let app = heard.by(app_with_q(vhost.url()));
    let ask = app.requester::<String, String>(Route::queue("q").name("ask").deadline(Duration::from_millis(400)));
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let service = started(app.consume(Consume::queue("q"), move || Answers(Arc::clone(&gate)))).await;
    let mut before = 0;
    for (question, expected) in
        [("a", RequestResult::Answered), ("bad", RequestResult::Refused), ("slow", RequestResult::TimedOut)]
    {
        let answer = ask.request(question.to_owned()).await;
        assert_eq!(answer.is_ok(), expected == RequestResult::Answered);
        let events = of(&heard.requests, "ask").split_off(before);
        before += events.len();
        let [
            RequestEvent::Asked { requests: 1, .. },
            RequestEvent::Sent { requests: 1, .. },
            RequestEvent::Settled { result, requests: 1, took: Some(took), .. },
        ] = events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(result, expected, "{question}");
        assert!(took > Duration::ZERO && (took >= Duration::from_millis(400)) == (question == "slow"), "{took:?}");
    }
    go.notify_one();
    until("it is late", || of(&heard.requests, "ask").contains(&RequestEvent::LateAnswer)).await;
    let requester = service.status().requesters.remove(0);
    let stats = requester.stats;
    assert_eq!((stats.asked, stats.answered, stats.refused, stats.timed_out), (3, 1, 1, 1), "{stats:?}");
    assert_eq!((requester.name.as_str(), stats.pending, stats.late_answers), ("ask", 0, 1));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_replay_of_the_service_tells_of_each_letter() {
    let (vhost, heard) = (vhost(), Heard::default());
    let (app, out) = app(vhost.url());
    let (factory, _record) = handlers(|_| Act::Err(Failure::reject("never")));
    let service = started(heard.by(app).consume(Consume::queue("q"), factory)).await;
    publish(&out, &["a", "b"]).await;
    heard.settled(2).await;
    let raw = Raw::connect(vhost.url()).await;
    soon("two dead letters", async { while raw.ready("q.dead").await < 2 {} }).await;
    let would = soon("looked at", service.replay(Replay::from("q.dead").dry_run())).await.unwrap();
    assert_eq!((would.replayed, of(&heard.replays, "q.dead")), (2, vec![]), "a dry run has no events");
    soon("two dead letters", async { while raw.ready("q.dead").await < 2 {} }).await;
    let gone = Replay::from("q.dead").limit(1).to_queue("nowhere");
    assert_eq!(soon("refused", service.replay(gone)).await.unwrap().refused, 1);
    soon("two dead letters", async { while raw.ready("q.dead").await < 2 {} }).await;
    assert_eq!(soon("replayed", service.replay(Replay::from("q.dead"))).await.unwrap().replayed, 2);
    let expected = [ReplayEvent::Refused, ReplayEvent::Replayed, ReplayEvent::Replayed];
    assert_eq!(of(&heard.replays, "q.dead"), expected);
    service.shutdown().await.unwrap();
    let over = service.replay(Replay::from("q.dead")).await.unwrap_err();
    assert!(over.to_string().contains("the service has ended"), "{over}");
}

#[actix::test]
async fn a_journaled_message_that_fails_is_kept_and_settled_once() {
    let (folder, embedded, heard) = (tempfile::tempdir().unwrap(), TestBroker::start().unwrap(), Heard::default());
    let journal = Journal::options().open(folder.path().join("out.journal")).unwrap();
    let topology = Topology::new().queue(Queue::quorum("q"));
    let app = heard.by(App::new(embedded.client().unwrap()).topology(topology));
    let out = app.publisher::<String>(Route::queue("q").journal(journal).republish(Republish::Never));
    let service = started(app).await;
    embedded.faults().inject(Rule::new(Fault::Nack).on_queue("q").times(2)).unwrap();
    drop(out.enqueue("nobody's".to_owned()).await.unwrap());
    until("it is confirmed", || out.stats().confirmed == 1).await;
    let events = of(&heard.messages, "q");
    let [
        PublishEvent::Accepted { messages: 1, .. },
        PublishEvent::Kept { result: PublishResult::Nacked, messages: 1, .. },
        PublishEvent::Kept { .. },
        PublishEvent::Settled { result: PublishResult::Confirmed, took, .. },
    ] = events[..]
    else {
        panic!("{events:?}")
    };
    assert!(took.is_some_and(|took| took >= Duration::from_millis(200)), "its waits are part of it: {took:?}");
    service.shutdown().await.unwrap();
}
