//! A service to which everything happens that its metrics can tell of.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fluffle::{
    amqp::{
        ChannelEvent, ChannelLabels, ConnectionEvent, ConnectionLabels, ConsumerLabels, DeliveryEvent, Listener,
        Observer, PublishEvent, PublisherLabels, Receipt, Replay, ReplayEvent, ReplayLabels, RequestEvent,
        RequesterLabels,
    },
    broker::{Fault, FaultHandle, Rule, Target},
    prelude::*,
    supervise::Event,
    testing::TestBroker,
    wire::Wire,
};
use fluffle_outbox::{Relay, sqlite};
use fluffle_telemetry::{Telemetry, Value, status::StatusServer};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::deploy::SOON;

/// Longer than any alert takes a message for fresh.
const TWO_HOURS: Duration = Duration::from_secs(7200);

/// A service on a broker in this process, with its telemetry and status server.
pub(crate) struct Busy {
    pub(crate) broker: TestBroker,
    pub(crate) service: Service,
    pub(crate) telemetry: Telemetry,
    pub(crate) server: StatusServer,
    /// To the queue `orders`. What a message says is what its handler does: see [`Handles`].
    pub(crate) orders: Publisher<String>,
    /// To the queue `stock`, whose breaker opens for 5 s at the first failure.
    pub(crate) stock: Publisher<String>,
    /// To the queue `mails`, in batches.
    mails: Publisher<String>,
    /// To the queue `mails`, through a journal.
    journaled: Publisher<String>,
    /// To an exchange that has no queue for some keys.
    nowhere: Publisher<String>,
    ask: Requester<String, String>,
    /// Waits for answers shorter than they take.
    hurried: Requester<String, String>,
    /// The outbox table, which a relay of the service publishes.
    outbox: SqlitePool,
    _folder: TempDir,
}

/// Does what a message says: `retry` and `panic` fail at the first attempt, `poison` panics at each, `reject` is never
/// taken, `slow` takes 400 ms, `block` blocks the thread for 3 s, all else is well.
struct Handles;

impl Actor for Handles {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Handles {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        match (&**text, text.attempt()) {
            ("retry", 1) => Box::pin(async { Err(Failure::retry("not yet")) }),
            ("panic", 1) | ("poison", _) => panic!("as the message says"),
            ("reject", _) => Box::pin(async { Err(Failure::reject("never")) }),
            ("slow", _) => Box::pin(async {
                sleep(Duration::from_millis(400)).await;
                Ok(())
            }),
            ("block", _) => {
                std::thread::sleep(Duration::from_secs(3));
                Box::pin(async { Ok(()) })
            }
            _ => Box::pin(async {
                sleep(Duration::from_millis(1)).await;
                Ok(())
            }),
        }
    }
}

/// Answers a question with itself, slowly if it says so.
struct Answers;

impl Actor for Answers {
    type Context = Context<Self>;
}

impl Handler<Delivery<String, String>> for Answers {
    type Result = ResponseFuture<Result<String, Failure>>;

    fn handle(&mut self, text: Delivery<String, String>, _: &mut Self::Context) -> Self::Result {
        let text = text.clone();
        Box::pin(async move {
            if text == "slow" {
                sleep(Duration::from_millis(400)).await;
            }
            Ok(text)
        })
    }
}

/// Hands events on to the metrics, but for the settlement of one delivery, once it is told to: as if a message had been
/// lost from the books.
struct Forgets {
    to: Vec<Arc<dyn Observer>>,
    next: Arc<AtomicBool>,
}

impl Observer for Forgets {
    fn consumer(&self, of: &ConsumerLabels<'_>) -> Option<Listener<DeliveryEvent>> {
        let listeners: Vec<_> = self.to.iter().filter_map(|observer| observer.consumer(of)).collect();
        let next = Arc::clone(&self.next);
        Some(Arc::new(move |event: &DeliveryEvent| {
            if !matches!(event, DeliveryEvent::Settled { .. }) || !next.swap(false, Ordering::SeqCst) {
                listeners.iter().for_each(|listener| listener(event));
            }
        }))
    }

    fn publisher(&self, of: &PublisherLabels<'_>) -> Option<Listener<PublishEvent>> {
        self.to.iter().find_map(|observer| observer.publisher(of))
    }

    fn channel(&self, of: &ChannelLabels<'_>) -> Option<Listener<ChannelEvent>> {
        self.to.iter().find_map(|observer| observer.channel(of))
    }

    fn connection(&self, of: &ConnectionLabels<'_>) -> Option<Listener<ConnectionEvent>> {
        self.to.iter().find_map(|observer| observer.connection(of))
    }

    fn requester(&self, of: &RequesterLabels<'_>) -> Option<Listener<RequestEvent>> {
        self.to.iter().find_map(|observer| observer.requester(of))
    }

    fn replay(&self, of: &ReplayLabels<'_>) -> Option<Listener<ReplayEvent>> {
        self.to.iter().find_map(|observer| observer.replay(of))
    }

    fn nodes(&self) -> Option<Listener<Event>> {
        let listeners: Vec<_> = self.to.iter().filter_map(|observer| observer.nodes()).collect();
        Some(Arc::new(move |event: &Event| listeners.iter().for_each(|listener| listener(event))))
    }
}

/// The future's output, in time.
pub(crate) async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("{what}: not within {SOON:?}"))
}

/// A retry policy with short waits.
fn retry(attempts: u32) -> Retry {
    Retry::exponential(attempts, Duration::from_millis(50), 1.0).unwrap()
}

impl Busy {
    /// A service to which nothing has happened yet.
    pub(crate) async fn start() -> Self {
        let telemetry = Telemetry::new();
        let observers = telemetry.observers();
        Self::observed_by(telemetry, observers).await
    }

    /// The same, and a switch that lets the metrics miss the next settlement of a delivery.
    pub(crate) async fn start_forgetful() -> (Self, Arc<AtomicBool>) {
        let (telemetry, next) = (Telemetry::new(), Arc::new(AtomicBool::new(false)));
        let forgets = Forgets { to: telemetry.observers(), next: Arc::clone(&next) };
        (Self::observed_by(telemetry, vec![Arc::new(forgets)]).await, next)
    }

    async fn observed_by(telemetry: Telemetry, observers: Vec<Arc<dyn Observer>>) -> Self {
        let broker = TestBroker::start().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let topology = Topology::new()
            .exchange(Exchange::direct("x"))
            .queue(Queue::quorum("orders").dead_letter())
            .queue(Queue::quorum("mails").dead_letter())
            .queue(Queue::quorum("stock"))
            .queue(Queue::quorum("sums"));
        let mut app = App::new(broker.client().unwrap()).topology(topology);
        for observer in observers {
            app = app.observe(observer);
        }
        let batching = Batching::default().linger(Duration::from_millis(5));
        let journal = Journal::options().open(folder.path().join("out.journal")).unwrap();
        let file = SqliteConnectOptions::new().filename(folder.path().join("outbox.sqlite")).create_if_missing(true);
        let outbox = SqlitePool::connect_with(file).await.unwrap();
        sqlite::migrate(&outbox).await.unwrap();
        let relay = Relay::new(outbox.clone(), app.forwarder("outbox")).poll_every(Duration::from_secs(3600));
        app = app.supervise(relay);
        let orders = app.publisher(Route::queue("orders"));
        let stock = app.publisher(Route::queue("stock"));
        let mails = app.publisher(Route::queue("mails").batch(batching));
        let journaled = app.publisher(Route::queue("mails").name("journaled").journal(journal));
        let nowhere = app.publisher(Route::exchange("x").key_by(|text: &String| text.clone()));
        let ask = app.requester(Route::queue("sums").deadline(Duration::from_secs(10)));
        let hurried = app.requester(Route::queue("sums").name("hurried").deadline(Duration::from_millis(100)));
        let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(50)).unwrap();
        let breaker = CircuitBreaker::new("stock").window(Window::last(1));
        let service = app
            .consume(Consume::queue("orders").instances(2).retry(retry(5)).handler_backoff(backoff), || Handles)
            .consume(
                Consume::queue("mails")
                    .handler_timeout(Duration::from_millis(200))
                    .retry(retry(2).in_process_below(Duration::from_secs(1)).unwrap()),
                || Handles,
            )
            .consume(Consume::queue("stock").circuit_breaker(breaker), || Handles)
            .consume(Consume::queue("sums").retry(Retry::none()), || Answers)
            .start()
            .await
            .unwrap();
        telemetry.attach(&service).unwrap();
        let server = telemetry.serve("127.0.0.1:0").unwrap();
        soon("ready", service.ready()).await.unwrap();
        let _folder = folder;
        Self {
            broker,
            service,
            telemetry,
            server,
            orders,
            stock,
            mails,
            journaled,
            nowhere,
            ask,
            hurried,
            outbox,
            _folder,
        }
    }

    /// Traffic, retries, dead letters and their replay, batches, requests, restarts, lost connections, a blocked one, a
    /// blocked thread, a pause.
    pub(crate) async fn provoke(&self) {
        for text in ["a", "b", "c", "retry", "panic", "reject", "slow"] {
            soon("confirmed", self.orders.publish(text.to_owned())).await.unwrap();
        }
        let mut receipts = Vec::new();
        for number in 0..20 {
            receipts.push(soon("accepted", self.mails.enqueue(number.to_string())).await.unwrap());
        }
        for receipt in receipts {
            soon("confirmed", receipt.confirmed()).await.unwrap();
        }
        for text in ["retry", "slow"] {
            soon("confirmed", self.journaled.publish(text.to_owned())).await.unwrap();
        }
        soon("returned", self.nowhere.publish("unbound".to_owned())).await.unwrap_err();
        assert_eq!(soon("answered", self.ask.request("1 + 1".to_owned())).await.unwrap(), "1 + 1");
        soon("too late", self.hurried.request("slow".to_owned())).await.unwrap_err();
        self.has("fluffle_request_answers_late_total", &["hurried"], |late| late == 1.0).await;
        self.has("fluffle_consume_late_total", &["mails"], |late| late >= 1.0).await;
        self.has("fluffle_consume_settled_total", &["orders", "dead_lettered"], |dead| dead >= 1.0).await;
        let replayed = soon("replayed", self.service.replay(Replay::from("orders.dead"))).await.unwrap();
        assert_eq!(replayed.replayed, 1, "{replayed}");

        self.lose_connections(1).await;
        let (alarm, waits) = self.block().await;
        self.has("fluffle_connection_blocked_seconds_total", &["publish-0"], |seconds| seconds > 0.2).await;
        alarm.heal().unwrap();
        soon("confirmed", waits.confirmed()).await.unwrap();
        soon("paused", self.service.pause_consumer("mails")).await.unwrap();
        self.service.resume_consumer("mails").unwrap();
        self.has("fluffle_consumer_state", &["mails", "consuming"], |consuming| consuming == 1.0).await;
    }

    /// Leaves a message in the outbox table that has waited for two hours and is not due for another one.
    pub(crate) async fn leave_in_outbox(&self) {
        let message = Route::<String>::queue("mails").prepare(&"waits".to_owned(), &MessageOptions::new()).unwrap();
        let mut transaction = self.outbox.begin().await.unwrap();
        sqlite::enqueue(&mut transaction, &message).await.unwrap();
        transaction.commit().await.unwrap();
        let waits = "update fluffle_outbox set enqueued_at = enqueued_at - 7200000, due_at = due_at + 3600000";
        sqlx::query(waits).execute(&self.outbox).await.unwrap();
        self.has("fluffle_outbox_oldest_age_seconds", &["outbox"], |age| age > 7000.0).await;
    }

    /// Has a message handled that was published two hours ago, by its `timestamp`.
    pub(crate) async fn handle_an_old_message(&self) {
        let url = self.broker.url();
        let client = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.unwrap();
        let channel = client.create_channel().await.unwrap();
        let body = Wire::<String>::protobuf().encode(&"old".to_owned()).unwrap().body;
        let then = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() - TWO_HOURS.as_secs();
        let labels = lapin::BasicProperties::default()
            .with_content_type("application/vnd.google.protobuf; proto=google.protobuf.StringValue".into())
            .with_timestamp(then);
        let options = lapin::options::BasicPublishOptions::default();
        let before = self.read("fluffle_message_age_seconds", &["mails"]);
        channel.basic_publish("".into(), "mails".into(), options, &body, labels).await.unwrap();
        self.has("fluffle_message_age_seconds", &["mails"], |ages| ages > before).await;
    }

    /// Accepts a message into a journal that, by its id, has waited for two hours. Needs a broker that is away.
    pub(crate) async fn leave_in_journal(&self) -> Receipt<String> {
        let then = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - TWO_HOURS;
        // A UUIDv7 begins with its milliseconds.
        let millis = format!("{:012x}", then.as_millis());
        let id = format!("{}-{}-7000-8000-000000000001", &millis[..8], &millis[8..]);
        let options = MessageOptions::new().id(id);
        soon("accepted", self.journaled.enqueue_with("kept".to_owned(), options)).await.unwrap()
    }

    /// Lets the broker read no more of what is published, until the fault is healed. A message waits for that.
    pub(crate) async fn block(&self) -> (FaultHandle, Receipt<String>) {
        let alarm = Fault::Block { reason: "low on memory".to_owned(), time: Duration::MAX };
        let alarm = self.broker.faults().strike(alarm, Target::all()).unwrap();
        let waits = soon("accepted", self.orders.enqueue("e".to_owned())).await.unwrap();
        self.has("fluffle_connection_blocked", &["publish-0"], |blocked| blocked == 1.0).await;
        (alarm, waits)
    }

    /// Loses every connection so often, each time with a message in hand and one without its confirm.
    pub(crate) async fn lose_connections(&self, times: u32) {
        for _ in 0..times {
            let lost = self.read("fluffle_consume_deliveries_lost_total", &["orders"]);
            let again = self.read("messaging_client_sent_messages_total", &["orders"]);
            let in_hand = soon("accepted", self.orders.enqueue("slow".to_owned())).await.unwrap();
            soon("confirmed", in_hand.confirmed()).await.unwrap();
            self.has("fluffle_consume_in_hand", &["orders"], |in_hand| in_hand >= 1.0).await;
            let rule = Rule::new(Fault::DropConfirm).on_queue("orders");
            let without_confirm = self.broker.faults().inject(rule).unwrap();
            let unconfirmed = soon("accepted", self.orders.enqueue("d".to_owned())).await.unwrap();
            self.has("fluffle_publish_in_flight", &["orders"], |in_flight| in_flight >= 1.0).await;
            without_confirm.wait_fired(1, SOON).unwrap();
            without_confirm.heal().unwrap();
            let close = Fault::CloseConnection { code: 320, text: "CONNECTION_FORCED - a test".to_owned() };
            self.broker.faults().strike(close, Target::all()).unwrap();
            soon("published again", unconfirmed.confirmed()).await.unwrap();
            self.has("fluffle_consume_deliveries_lost_total", &["orders"], |now| now > lost).await;
            self.has("messaging_client_sent_messages_total", &["orders"], |sent| sent >= again + 2.0).await;
            soon("ready", self.service.ready()).await.unwrap();
        }
    }

    /// The value of a metric: of a histogram, how many values it has. 0 if there is none.
    pub(crate) fn read(&self, name: &str, labels: &[&str]) -> f64 {
        let families = self.telemetry.read();
        let family = families.iter().find(|family| family.name.prometheus == name);
        let points = family.iter().flat_map(|family| &family.points);
        let wished = points.filter(|point| point.labels.iter().map(|label| &**label).eq(labels.iter().copied()));
        let number = |value: &Value| match value {
            #[allow(clippy::cast_precision_loss, reason = "a few messages")]
            Value::Count(count) => *count as f64,
            Value::Number(number) => *number,
            #[allow(clippy::cast_precision_loss, reason = "a few messages")]
            Value::Counts(counts) => counts.count() as f64,
            other => panic!("{other:?}"),
        };
        wished.map(|point| number(&point.value)).sum()
    }

    /// Waits until a metric has a value.
    pub(crate) async fn has(&self, name: &str, labels: &[&str], is_it: impl Fn(f64) -> bool) {
        let waits = async {
            while !is_it(self.read(name, labels)) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(SOON, waits).await.is_err() {
            panic!("{name} {labels:?} is {} after {SOON:?}", self.read(name, labels));
        }
    }
}
