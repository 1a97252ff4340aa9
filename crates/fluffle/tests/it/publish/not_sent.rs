//! If a message was never sent and never will be, its error says so, and says so at once if that can no longer change.

use std::time::Duration;

use fluffle::prelude::*;
use futures_util::future::join_all;

use crate::support::*;

/// Longer than any test waits. An answer within [`SOON`] therefore did not wait for this deadline.
const LONG: Duration = Duration::from_secs(3600);

const SHORT: Duration = Duration::from_millis(200);

/// A broker configuration with a port on which nothing listens.
fn nowhere() -> Broker {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    broker(&format!("amqp://127.0.0.1:{port}"))
}

fn to_q(deadline: Duration) -> Route<String> {
    Route::queue("q").deadline(deadline)
}

fn never_sent<T>(error: &PublishError<T>, why: NotSent) {
    assert!(matches!(error.kind(), PublishErrorKind::NotSent(told) if *told == why), "{error}");
    assert!(error.is_certainly_not_sent() && error.is_transient());
    assert!(!error.to_string().contains("may"), "{error}");
}

fn never_asked<Q>(error: &RequestError<Q>, why: NotSent) {
    assert!(matches!(error.kind(), RequestErrorKind::NotSent(told) if *told == why), "{error}");
    assert!(error.is_certainly_not_sent() && error.is_transient());
}

/// One of each kind of publisher.
struct All {
    plain: Publisher<String>,
    batched: Publisher<String>,
    forwarder: Forwarder,
    requester: Requester<String, String>,
}

impl All {
    fn of(app: &App, deadline: Duration) -> Self {
        Self {
            plain: app.publisher(to_q(deadline)),
            batched: app.publisher(to_q(deadline).batch(Batching::default().linger(LONG))),
            forwarder: app.forwarder("forwarder"),
            requester: app.requester(to_q(deadline)),
        }
    }

    /// Checks that each kind refuses a message at once, with an error that says that the message is not sent.
    async fn refuse(&self, why: NotSent) {
        let text = || "x".to_owned();
        never_sent(&soon("publish", self.plain.publish(text())).await.unwrap_err(), why);
        never_sent(&soon("enqueue", self.plain.enqueue(text())).await.unwrap_err(), why);
        never_sent(&self.plain.try_enqueue(text()).unwrap_err(), why);
        never_sent(&soon("a batch", self.batched.publish(text())).await.unwrap_err(), why);
        let prepared = to_q(LONG).prepare(&text(), &MessageOptions::new()).unwrap();
        never_sent(&soon("forward", self.forwarder.publish(prepared)).await.unwrap_err(), why);
        never_asked(&soon("request", self.requester.request(text())).await.unwrap_err(), why);
    }

    /// Runs `then` while each kind has a message that waits. Checks that each error says that the message is not sent.
    async fn with_messages_on_their_way(&self, then: impl Future<Output = ()>, why: NotSent) {
        let prepared = to_q(LONG).prepare(&"p".to_owned(), &MessageOptions::new()).unwrap();
        let receipt = self.plain.enqueue("e".to_owned()).await.unwrap();
        let item = self.batched.enqueue("i".to_owned()).await.unwrap();
        let waiting = async {
            tokio::join!(
                self.plain.publish("a".to_owned()),
                self.batched.publish("b".to_owned()),
                receipt.confirmed(),
                item.confirmed(),
                self.forwarder.publish(prepared),
                self.requester.request("r".to_owned()),
            )
        };
        let mut waiting = std::pin::pin!(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        then.await;
        let (plain, batched, receipt, item, forwarded, asked) = soon("word", waiting).await;
        for error in [plain, batched, receipt, item].map(Result::unwrap_err) {
            never_sent(&error, why);
        }
        never_sent(&forwarded.unwrap_err(), why);
        never_asked(&asked.unwrap_err(), why);
    }
}

#[actix::test]
async fn what_waits_when_its_app_is_dropped_and_what_comes_later_is_not_sent() {
    let app = App::new(nowhere());
    let all = All::of(&app, LONG);
    all.with_messages_on_their_way(async { drop(app) }, NotSent::NeverStarted).await;
    all.refuse(NotSent::NeverStarted).await;
}

#[actix::test]
async fn what_waits_for_a_broker_when_its_service_is_shut_down_and_what_comes_later_is_not_sent() {
    let app = App::new(nowhere());
    let all = All::of(&app, LONG);
    let service = app.start().await.unwrap();
    let shutdown = async { soon("the shutdown", service.shutdown()).await.unwrap() };
    all.with_messages_on_their_way(shutdown, NotSent::Ended).await;
    all.refuse(NotSent::Ended).await;
    let late = service.publisher(to_q(LONG)).await;
    assert!(late.is_err_and(|error| error.to_string().contains("the service has ended")));
}

/// The service is not shut down by a caller. It gives up by itself because of a permanent error.
#[actix::test]
async fn what_waits_when_its_service_gives_up_and_what_comes_later_is_not_sent() {
    let vhost = vhost();
    let app = App::new(broker(&vhost.url().replace(vhost.name(), "no-such-vhost")));
    let all = All::of(&app, LONG);
    let begin = async {
        let service = app.start().await.unwrap();
        assert!(soon("the end", service.wait()).await.is_err());
    };
    all.with_messages_on_their_way(begin, NotSent::Ended).await;
    all.refuse(NotSent::Ended).await;
}

#[actix::test]
async fn past_its_deadline_a_publish_without_a_broker_is_not_sent_and_what_was_enqueued_is_on_its_way() {
    let app = App::new(nowhere());
    let all = All::of(&app, SHORT);
    let service = app.start().await.unwrap();
    never_sent(&all.plain.publish("a".to_owned()).await.unwrap_err(), NotSent::Deadline);
    never_asked(&all.requester.request("r".to_owned()).await.unwrap_err(), NotSent::Deadline);
    let receipt = all.plain.enqueue("e".to_owned()).await.unwrap();
    let error = receipt.confirmed().await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Waiting), "{error}");
    assert!(!error.is_certainly_not_sent());
    soon("the shutdown", service.shutdown()).await.unwrap();
}

/// For a publisher, an app that is not started is like a broker that is not there.
#[actix::test]
async fn past_its_deadline_a_publish_of_a_service_that_is_not_started_is_withdrawn_and_never_sent() {
    let vhost = vhost();
    let app = App::new(broker(vhost.url())).topology(Topology::new().queue(Queue::quorum("q")));
    let out = app.publisher::<String>(to_q(SHORT));
    let batched = app.publisher::<String>(to_q(SHORT).batch(Batching::default()));
    for error in join_all((0..10).map(|number| out.publish(format!("given back {number}")))).await {
        never_sent(&error.unwrap_err(), NotSent::Deadline);
    }
    let kept = out.enqueue("kept".to_owned()).await.unwrap().confirmed().await.unwrap_err();
    assert!(matches!(kept.kind(), PublishErrorKind::Waiting), "{kept}");
    let item = batched.publish("item".to_owned()).await.unwrap_err();
    assert!(matches!(item.kind(), PublishErrorKind::Waiting), "an item of a batch is not withdrawn: {item}");
    let service = started(app).await;
    soon("what is kept goes out", async { tokio::join!(out.flush(), batched.flush()) }).await;
    service.shutdown().await.unwrap();
    vhost.wait_depth("q", |depth| depth.ready == 2);
}

/// A message that was on the wire when the service ended may have arrived.
#[actix::test]
async fn what_has_been_sent_is_not_called_unsent_when_the_service_ends() {
    use fluffle::broker::{Fault, Rule};
    let broker = fluffle::testing::TestBroker::start().unwrap();
    broker.faults().inject(Rule::new(Fault::DropConfirm).on_queue("q").times(10)).unwrap();
    let app = App::new(broker.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q")));
    let app = app.drain_within(Duration::from_millis(200));
    let (out, short) = (app.publisher::<String>(to_q(LONG)), app.publisher::<String>(to_q(SHORT)));
    let service = started(app).await;
    let unknown = short.publish("short".to_owned()).await.unwrap_err();
    assert!(matches!(unknown.kind(), PublishErrorKind::Unknown), "{unknown}");
    let receipt = out.enqueue("long".to_owned()).await.unwrap();
    until("both are there", || broker.messages("q").is_ok_and(|there| there.len() == 2)).await;
    soon("the shutdown", service.shutdown()).await.unwrap();
    let closed = receipt.confirmed().await.unwrap_err();
    assert!(matches!(closed.kind(), PublishErrorKind::Closed), "{closed}");
    assert!(!unknown.is_certainly_not_sent() && !closed.is_certainly_not_sent());
}

/// A message in the journal is sent by the next process, so its error must not say "not sent".
#[actix::test]
async fn what_a_journal_has_is_not_called_unsent() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::options().open(folder.path().join("out.journal")).unwrap();
    let app = App::new(nowhere());
    let out = app.publisher::<String>(to_q(LONG).journal(journal));
    let receipt = out.enqueue("a".to_owned()).await.unwrap().journaled().await.unwrap();
    drop(app);
    let error = soon("word", receipt.confirmed()).await.unwrap_err();
    assert!(matches!(error.kind(), PublishErrorKind::Journaled), "{error}");
    never_sent(&soon("a refusal", out.publish("b".to_owned())).await.unwrap_err(), NotSent::NeverStarted);
}
