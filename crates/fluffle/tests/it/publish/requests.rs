//! Questions and answers over direct reply-to: every question ends in its own answer, or in an error that gives it
//! back.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::{prelude::*, wire::headers};
use futures_util::future::join_all;
use lapin::BasicProperties;
use tokio::sync::Notify;

use crate::support::*;

/// What a responder does with one question.
enum Say {
    Now(String),
    /// When the test says so.
    When(Arc<Notify>, String),
    After(Duration, String),
    Fail(Failure),
}

type Script = Arc<dyn Fn(&str, u32) -> Say + Send + Sync>;

#[derive(Clone)]
struct Responder(Script);

impl Actor for Responder {
    type Context = Context<Self>;
}

impl Handler<Delivery<String, String>> for Responder {
    type Result = ResponseFuture<Result<String, Failure>>;

    fn handle(&mut self, question: Delivery<String, String>, _: &mut Self::Context) -> Self::Result {
        let say = (self.0)(&question, question.attempt());
        Box::pin(async move {
            match say {
                Say::Now(answer) => Ok(answer),
                Say::When(go, answer) => {
                    go.notified().await;
                    Ok(answer)
                }
                Say::After(time, answer) => {
                    actix::clock::sleep(time).await;
                    Ok(answer)
                }
                Say::Fail(failure) => Err(failure),
            }
        })
    }
}

/// An app that sends questions to queue `q`, and answers questions in `q` as `script` says.
fn app(
    broker: Broker,
    route: Route<String>,
    script: impl Fn(&str, u32) -> Say + Send + Sync + 'static,
) -> (App, Requester<String, String>) {
    let (app, ask) = asking(broker, route);
    let responder = Responder(Arc::new(script));
    (app.consume(Consume::queue("q").retry(retry(3)), move || responder.clone()), ask)
}

/// Like [`app`], but the responder retries questions that fail.
fn retrying(
    broker: Broker,
    route: Route<String>,
    script: impl Fn(&str, u32) -> Say + Send + Sync + 'static,
) -> (App, Requester<String, String>) {
    let (app, ask) = asking(broker, route);
    let responder = Responder(Arc::new(script));
    (app.consume(Consume::queue("q").retry(retry(3)).retry_requests(), move || responder.clone()), ask)
}

/// An app that sends questions to queue `q`, without a responder.
fn asking(broker: Broker, route: Route<String>) -> (App, Requester<String, String>) {
    let app = App::new(broker).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let ask = app.requester::<String, String>(route);
    (app, ask)
}

fn to_q() -> Route<String> {
    Route::queue("q")
}

/// Asks in the background.
fn asked(ask: &Requester<String, String>, question: &str) -> actix_rt::task::JoinHandle<Answered> {
    let (ask, question) = (ask.clone(), question.to_owned());
    actix_rt::spawn(async move { ask.request(question).await })
}

type Answered = Result<String, fluffle::amqp::RequestError<String>>;

/// The reply address of a question in its queue, and the properties of an answer to it.
fn address(question: &DeadLetter) -> (String, BasicProperties) {
    let to = question.properties.reply_to().as_ref().unwrap().as_str().to_owned();
    let correlation = question.properties.correlation_id().clone().unwrap();
    let properties = BasicProperties::default()
        .with_correlation_id(correlation)
        .with_content_type("application/vnd.google.protobuf; proto=google.protobuf.StringValue".into())
        .with_type("google.protobuf.StringValue".into());
    (to, properties)
}

fn body(text: &str) -> Vec<u8> {
    fluffle::wire::Wire::<String>::protobuf().encode(&text.to_owned()).unwrap().body.to_vec()
}

#[actix::test]
async fn a_question_is_answered_and_its_message_settled() {
    let vhost = vhost();
    let (app, ask) = app(broker(vhost.url()), to_q(), |question, _| Say::Now(question.to_uppercase()));
    let service = started(app).await;
    assert_eq!(ask.request("hello".to_owned()).await.unwrap(), "HELLO");
    until("it is acked", || service.consumers()[0].1.handled == 1).await;
    assert_eq!(ask.late_answers(), 0);
    assert_eq!(service.consumers()[0].1.replies_unroutable, 0, "the answer has arrived");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn each_of_many_questions_at_once_gets_its_own_answer_whatever_their_order() {
    let vhost = vhost();
    let (app, ask) = app(broker(vhost.url()), to_q(), |question, _| {
        let n: u64 = question.parse().unwrap();
        Say::After(Duration::from_millis(n * 7 % 50), format!("answer {question}"))
    });
    let service = started(app).await;
    let answers = join_all((0..300).map(|n| ask.request(n.to_string()))).await;
    for (n, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), format!("answer {n}"));
    }
    assert_eq!(ask.late_answers(), 0);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_rejected_question_is_answered_with_its_no_and_that_is_no_dead_letter() {
    let vhost = vhost();
    let (app, ask) = app(broker(vhost.url()), to_q(), |_, _| Say::Fail(Failure::reject("no such customer")));
    let service = started(app).await;
    let error = soon("the refusal", ask.request("who?".to_owned())).await.unwrap_err();
    match error.kind() {
        RequestErrorKind::Refused { reason, error } => {
            assert_eq!((reason.as_str(), error.as_str()), ("rejected", "no such customer"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(error.request, "who?");
    assert!(!error.is_transient());
    until("it is acked", || service.consumers()[0].1.refused == 1).await;
    assert_eq!(service.consumers()[0].1.dead_lettered, 0);
    assert_eq!(Raw::connect(vhost.url()).await.ready("q.dead").await, 0);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_question_whose_handler_fails_or_crashes_is_answered_so_at_once_and_not_asked_again() {
    let vhost = vhost();
    let (app, ask) = app(broker(vhost.url()), to_q(), |question, _| match question {
        "crash" => panic!("scripted panic"),
        _ => Say::Fail(Failure::retry("the database is away")),
    });
    let service = started(app).await;
    for (question, expected) in [("fail", ("failed", "the database is away")), ("crash", ("crashed", "panicked"))] {
        let error = soon("the failure", ask.request(question.to_owned())).await.unwrap_err();
        let RequestErrorKind::Failed { reason, error: why } = error.kind() else { panic!("{error:?}") };
        assert_eq!(reason, expected.0);
        assert!(why.contains(expected.1), "{why}");
        assert!(error.is_transient(), "asked again it may be answered");
    }
    until("both are acked", || service.consumers()[0].1.refused == 2).await;
    let stats = service.consumers()[0].1;
    assert_eq!((stats.received, stats.retried, stats.dead_lettered), (2, 0, 0));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_question_that_waits_here_for_longer_than_its_asker_is_not_handled() {
    let vhost = vhost();
    let route = to_q().deadline(Duration::from_millis(300));
    let handled = Arc::new(Mutex::new(Vec::new()));
    let handling = Arc::clone(&handled);
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (app, ask) = asking(broker(vhost.url()), route);
    let responder = Responder(Arc::new(move |question: &str, _| {
        handling.lock().unwrap().push(question.to_owned());
        match question {
            "slow" => Say::When(Arc::clone(&gate), "late".to_owned()),
            _ => Say::Now("now".to_owned()),
        }
    }));
    let consume = Consume::queue("q").concurrency(1);
    let service = started(app.consume(consume, move || responder.clone())).await;
    let slow = asked(&ask, "slow");
    until("it is in hand", || handled.lock().unwrap().len() == 1).await;
    // The second question expires a deadline after its arrival, so it has expired when the third, sent later, has
    // timed out.
    for question in ["second", "third"] {
        let error = ask.request(question.to_owned()).await.unwrap_err();
        assert!(matches!(error.kind(), RequestErrorKind::TimedOut), "{error}");
    }
    slow.await.unwrap().unwrap_err();
    go.notify_one();
    until("it is let go of", || service.consumers()[0].1.expired >= 1).await;
    assert_eq!(ask.request("fourth".to_owned()).await.unwrap(), "now");
    assert!(!handled.lock().unwrap().contains(&"second".to_owned()), "an expired question was handled");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn at_most_once_too_whoever_asks_is_told() {
    let vhost = vhost();
    let (app, ask) = asking(broker(vhost.url()), to_q());
    let responder = Responder(Arc::new(|question: &str, _| match question {
        "no" => Say::Fail(Failure::reject("never")),
        "fail" => Say::Fail(Failure::retry("away")),
        _ => Say::Now("yes".to_owned()),
    }));
    let consume = Consume::queue("q").guarantee(AtMostOnce);
    let service = started(app.consume(consume, move || responder.clone())).await;
    assert_eq!(soon("an answer", ask.request("well?".to_owned())).await.unwrap(), "yes");
    let failure = async |question: &str| soon("an answer", ask.request(question.to_owned())).await.unwrap_err();
    assert!(matches!(failure("no").await.kind(), RequestErrorKind::Refused { .. }));
    assert!(matches!(failure("fail").await.kind(), RequestErrorKind::Failed { .. }));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn what_has_a_reply_address_and_no_answer_to_give_is_work() {
    let vhost = vhost();
    let (factory, mut record) = handlers(|_| Act::Err(Failure::retry("not yet")));
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let service = started(app.consume(Consume::queue("q").retry(retry(2)), factory)).await;
    let raw = Raw::connect(vhost.url()).await;
    // NServiceBus and others put a reply address on every message. Such a message is not a request.
    raw.channel().queue_declare("their.queue".into(), Default::default(), Default::default()).await.unwrap();
    let properties = BasicProperties::default().with_reply_to("their.queue".into());
    raw.put("q", &body("event"), properties).await;
    for attempt in 1..=2 {
        assert_eq!(next(&mut record).await.attempt, attempt);
    }
    assert_eq!(raw.take("q.dead").await.header(headers::REASON).unwrap(), "attempts-exhausted");
    until("it is settled", || service.consumers()[0].1.dead_lettered == 1).await;
    assert_eq!(raw.ready("their.queue").await, 0, "an answer was sent although the message is not a request");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_question_that_fails_for_a_while_is_retried_and_then_answered() {
    let vhost = vhost();
    let (app, ask) = retrying(broker(vhost.url()), to_q(), |_, attempt| match attempt {
        3 => Say::Now("at last".to_owned()),
        _ => Say::Fail(Failure::retry("not yet")),
    });
    let service = started(app).await;
    assert_eq!(ask.request("now?".to_owned()).await.unwrap(), "at last");
    until("it is settled", || service.consumers()[0].1.handled == 1).await;
    assert_eq!(service.consumers()[0].1.retried, 2);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_question_whose_attempts_are_used_up_is_refused_before_its_deadline() {
    let vhost = vhost();
    let (app, ask) = retrying(broker(vhost.url()), to_q(), |_, _| Say::Fail(Failure::retry("the database is away")));
    let service = started(app).await;
    let error = soon("the refusal", ask.request("now?".to_owned())).await.unwrap_err();
    let RequestErrorKind::Failed { reason, error } = error.kind() else { panic!("{error:?}") };
    assert_eq!((reason.as_str(), error.as_str()), ("attempts-exhausted", "the database is away"));
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_question_is_not_retried_past_its_deadline() {
    let vhost = vhost();
    let route = to_q().deadline(Duration::from_millis(400));
    let (app, ask) = asking(broker(vhost.url()), route);
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let responder = Responder(Arc::new(move |_: &str, _| {
        count.fetch_add(1, Ordering::SeqCst);
        Say::Fail(Failure::retry("not yet"))
    }));
    let retry = Retry::exponential(50, Duration::from_millis(150), 1.0).unwrap();
    let consume = Consume::queue("q").retry(retry).retry_requests();
    let service = started(app.consume(consume, move || responder.clone())).await;
    let error = soon("an end", ask.request("now?".to_owned())).await.unwrap_err();
    assert!(matches!(error.kind(), RequestErrorKind::Failed { .. } | RequestErrorKind::TimedOut), "{error:?}");
    until("nothing of it is left", || service.consumers()[0].1.refused + service.consumers()[0].1.expired == 1).await;
    assert!((2..=4).contains(&handled.load(Ordering::SeqCst)), "{handled:?}");
    assert_eq!(Raw::connect(vhost.url()).await.ready("q.dead").await, 0);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn past_its_deadline_a_question_comes_back_and_its_late_answer_is_counted_and_dropped() {
    let vhost = vhost();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let route = to_q().deadline(Duration::from_millis(300));
    let (app, ask) = app(broker(vhost.url()), route, move |question, _| match question {
        "slow" => Say::When(Arc::clone(&gate), "too late".to_owned()),
        _ => Say::Now("in time".to_owned()),
    });
    let service = started(app).await;
    let error = ask.request("slow".to_owned()).await.unwrap_err();
    assert!(matches!(error.kind(), RequestErrorKind::TimedOut), "{error}");
    assert_eq!(error.request, "slow");
    assert!(error.is_transient());
    go.notify_one();
    until("the late answer is counted", || ask.late_answers() == 1).await;
    assert_eq!(ask.request("fast".to_owned()).await.unwrap(), "in time");
    assert_eq!(ask.late_answers(), 1);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_question_nobody_waits_for_any_more_is_not_delivered() {
    let vhost = vhost();
    let (app, ask) = asking(broker(vhost.url()), to_q().deadline(Duration::from_millis(300)));
    let service = started(app).await;
    let error = ask.request("anybody?".to_owned()).await.unwrap_err();
    assert!(matches!(error.kind(), RequestErrorKind::TimedOut), "{error}");
    let raw = Raw::connect(vhost.url()).await;
    // `Queue::dead_letter` makes the expiry visible, because the broker dead-letters the expired question.
    assert_eq!(raw.take("q.dead").await.body, body("anybody?"));
    assert_eq!(raw.ready("q").await, 0);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_question_no_queue_takes_comes_back_at_once() {
    let vhost = vhost();
    let (app, ask) = asking(broker(vhost.url()), Route::queue("nobody-home"));
    let service = started(app).await;
    let begun = Instant::now();
    let error = ask.request("hello?".to_owned()).await.unwrap_err();
    let RequestErrorKind::Returned(returned) = error.kind() else { panic!("{error:?}") };
    assert_eq!(returned.code, 312);
    assert!(begun.elapsed() < Duration::from_secs(5), "long before the deadline of 30 s");
    assert_eq!(error.request, "hello?");
    assert!(error.to_string().contains("nobody-home"), "{error}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn without_room_a_question_is_overloaded_and_was_never_sent() {
    let vhost = vhost();
    let route = to_q().confirms(Confirms::Window(1)).mailbox(1).deadline(Duration::from_millis(500));
    let (app, ask) = asking(broker(vhost.url()), route);
    let service = started(app).await;
    let on_the_wire = asked(&ask, "first");
    let raw = Raw::connect(vhost.url()).await;
    assert_eq!(raw.take("q").await.body, body("first"));
    let in_the_mailbox = asked(&ask, "second");
    let outside = asked(&ask, "third");
    let kinds = [on_the_wire.await.unwrap(), in_the_mailbox.await.unwrap(), outside.await.unwrap()]
        .map(|answered| format!("{:?}", answered.unwrap_err().kind()));
    assert_eq!(kinds, ["TimedOut", "NotSent(Deadline)", "Overloaded"]);
    assert_eq!(raw.ready("q").await, 0);
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_cut_connection_gives_open_questions_back_and_later_ones_are_answered() {
    let vhost = vhost();
    let go = Arc::new(Notify::new());
    let gate = Arc::clone(&go);
    let (app, ask) = app(broker(vhost.url()), to_q(), move |question, _| match question {
        "before" => Say::When(Arc::clone(&gate), "the answer to before".to_owned()),
        other => Say::Now(format!("the answer to {other}")),
    });
    let service = started(app).await;
    let open: Vec<_> = (0..20).map(|_| asked(&ask, "before")).collect();
    until("all are handed out", || service.consumers()[0].1.received == 20).await;
    assert!(vhost.close_connections("a test cuts the connection") >= 2);
    for answered in open {
        let error = soon("word of the loss", answered).await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), RequestErrorKind::ConnectionLost), "{error}");
        assert_eq!(error.request, "before");
    }
    assert_eq!(ask.request("after".to_owned()).await.unwrap(), "the answer to after");
    go.notify_waiters();
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_question_asked_while_the_connection_is_down_is_answered_when_it_is_back() {
    let vhost = vhost();
    let (app, ask) = app(broker(vhost.url()), to_q(), |question, _| Say::Now(question.to_uppercase()));
    let service = started(app).await;
    vhost.close_connections("a test cuts the connection");
    until("the loss is noticed", || service.connections().iter().all(|one| !one.connected || one.connects > 1)).await;
    let answers = join_all((0..10).map(|n| ask.request(format!("q{n}")))).await;
    // A question may still be sent on the old connection. Then it ends with `ConnectionLost` and does not hang.
    for answer in answers {
        match answer {
            Ok(answer) => assert!(answer.starts_with('Q')),
            Err(error) => assert!(matches!(error.kind(), RequestErrorKind::ConnectionLost), "{error}"),
        }
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_answer_is_taken_for_no_other_question_than_its_own() {
    let vhost = vhost();
    let name = vhost.name().to_owned();
    let (app, ask) = asking(broker(vhost.url()).name(name.as_str()), to_q());
    let service = started(app).await;
    let raw = Raw::connect(vhost.url()).await;

    let first = asked(&ask, "first");
    let (old_address, first_correlation) = address(&raw.take("q").await);
    vhost.close_connections_named(&format!("{name}/publish-0"), "a test cuts the requester");
    let error = soon("word of the loss", first).await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), RequestErrorKind::ConnectionLost), "{error}");

    let second = asked(&ask, "second");
    let (address_now, second_correlation) = address(&raw.take("q").await);
    assert_ne!(address_now, old_address, "direct reply-to belongs to the channel that asked");
    raw.put(&old_address, &body("to a channel that is gone"), first_correlation.clone()).await;
    raw.put(&address_now, &body("the first's, after the reconnect"), first_correlation).await;
    raw.put(&address_now, &body("to nobody"), BasicProperties::default()).await;
    until("both are counted", || ask.late_answers() == 2).await;
    assert!(!second.is_finished(), "the second question must still wait for its own answer");
    raw.put(&address_now, &body("the second's"), second_correlation.clone()).await;
    assert_eq!(second.await.unwrap().unwrap(), "the second's");
    raw.put(&address_now, &body("the second's, once more"), second_correlation).await;
    until("the repetition is counted", || ask.late_answers() == 3).await;
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn an_answer_of_another_type_or_of_rubbish_is_undecodable() {
    let vhost = vhost();
    let (app, ask) = asking(broker(vhost.url()), to_q());
    let service = started(app).await;
    let raw = Raw::connect(vhost.url()).await;
    let another_type = |properties: BasicProperties| {
        properties
            .with_content_type("application/vnd.google.protobuf; proto=google.protobuf.UInt64Value".into())
            .with_type("google.protobuf.UInt64Value".into())
    };
    let same_type = |properties: BasicProperties| properties;
    type Label = fn(BasicProperties) -> BasicProperties;
    let cases: [(&[u8], Label); 2] = [(&[8, 1], another_type), (&[0xff, 0xff], same_type)];
    for (bytes, label) in cases {
        let answered = asked(&ask, "how many?");
        let (to, properties) = address(&raw.take("q").await);
        raw.put(&to, bytes, label(properties)).await;
        let error = soon("the answer", answered).await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), RequestErrorKind::Undecodable(_)), "{error}");
        assert_eq!(error.request, "how many?");
        assert!(!error.is_transient());
    }
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn shutting_down_gives_open_questions_back_and_takes_no_more() {
    let vhost = vhost();
    let (app, ask) = asking(broker(vhost.url()), to_q());
    let service = started(app).await;
    let open = asked(&ask, "open");
    Raw::connect(vhost.url()).await.take("q").await;
    service.shutdown().await.unwrap();
    let error = soon("word of the end", open).await.unwrap().unwrap_err();
    assert!(matches!(error.kind(), RequestErrorKind::Closed), "{error}");
    assert_eq!(error.request, "open");
    let error = soon("a refusal", ask.request("after".to_owned())).await.unwrap_err();
    assert!(matches!(error.kind(), RequestErrorKind::NotSent(NotSent::Ended)), "{error}");
}
