//! A service with traffic, and its status page.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use fluffle::{prelude::*, supervise::Backoff, testing::TestBroker};
use fluffle_telemetry::{
    Telemetry,
    status::{Action, Status, StatusServer, picture::Picture},
};

use crate::view::SOON;

pub const TOKEN: &str = "a-token-of-a-test-0123456789";

/// A page without a token, which only reads.
pub fn reads() -> Status {
    Status::on("127.0.0.1:0")
}

/// A page that can do everything with the token.
pub fn acts() -> Status {
    reads().token(TOKEN).allow(Action::ALL)
}

/// Handles readings as their text says: `reject: …`, `crash`, `slow`; and every fiftieth raises an alert.
#[derive(Clone)]
struct Readings {
    alerts: Publisher<String>,
    is_mended: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
}

impl Actor for Readings {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Readings {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, reading: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        let (number, text) = (self.seen.fetch_add(1, Ordering::SeqCst), reading.clone());
        let is_mended = self.is_mended.load(Ordering::SeqCst);
        assert!(is_mended || text != "crash", "the sensor of this reading is not calibrated");
        let alerts = self.alerts.clone();
        Box::pin(async move {
            if let (Some(why), false) = (text.strip_prefix("reject: "), is_mended) {
                return Err(Failure::reject(why.to_owned()));
            }
            let wait = if text == "slow" { 120 } else { 1 + number % 4 };
            tokio::time::sleep(Duration::from_millis(wait)).await;
            if number % 50 == 0 {
                alerts.publish(format!("of {text}")).await?;
            }
            Ok(())
        })
    }
}

struct Alerts;

impl Actor for Alerts {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Alerts {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

/// A service with readings and alerts, and its status page. The page ends when this is dropped.
pub struct Site {
    pub server: StatusServer,
    pub telemetry: Telemetry,
    pub service: Service,
    pub broker: TestBroker,
    pub readings: Publisher<String>,
    /// Messages that fail are handled from now on.
    pub is_mended: Arc<AtomicBool>,
}

impl Site {
    pub async fn start(status: Status) -> Self {
        Self::start_with(status, Telemetry::new(), &[]).await
    }

    /// With more queues, which have no traffic.
    pub async fn start_with(status: Status, telemetry: Telemetry, more: &[&str]) -> Self {
        let broker = TestBroker::start().unwrap();
        let waits = Backoff::exponential(Duration::from_millis(50), Duration::from_millis(500)).unwrap();
        let queues = ["readings", "alerts"].iter().chain(more);
        let topology = queues.fold(Topology::new(), |topology, name| topology.queue(Queue::quorum(*name)));
        let client = broker.client().unwrap().name("quakes").reconnect(waits);
        let app = App::new(client).topology(topology).telemetry(&telemetry);
        let readings = app.publisher::<String>(Route::queue("readings"));
        let handler = Readings {
            alerts: app.publisher::<String>(Route::queue("alerts")),
            is_mended: Arc::default(),
            seen: Arc::default(),
        };
        let is_mended = Arc::clone(&handler.is_mended);
        let attempts = Retry::exponential(3, Duration::from_millis(300), 1.0).unwrap();
        let restarts = Backoff::exponential(Duration::from_millis(300), Duration::from_secs(1)).unwrap();
        let consume = Consume::queue("readings").prefetch(64).instances(3).retry(attempts).handler_backoff(restarts);
        let app = app.consume(consume.dead_letter_queue("letters"), move || handler.clone());
        let app = app.consume(Consume::queue("alerts").prefetch(16), || Alerts);
        let app = more.iter().fold(app, |app, name| app.consume(Consume::queue(*name), || Alerts));
        let service = app.start().await.unwrap();
        tokio::time::timeout(SOON, service.ready()).await.expect("in time").unwrap();
        let server = telemetry.serve(status).unwrap();
        let site = Self { server, telemetry, service, broker, readings, is_mended };
        site.picture("a picture of the queues", |picture| picture.queues.len() == 2 + more.len()).await;
        site
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port())
    }

    pub fn port(&self) -> u16 {
        self.server.address().port()
    }

    /// Publishes readings from now on, until the runtime ends: one in some milliseconds, each hundredth of them slow.
    pub fn feed(&self, every: Duration) {
        let readings = self.readings.clone();
        actix::spawn(async move {
            let mut tick = tokio::time::interval(every);
            for number in 0_u64.. {
                tick.tick().await;
                let text = if number % 100 == 99 { "slow".to_owned() } else { format!("reading {number}") };
                // While the broker is away, the publisher holds what it accepts.
                if readings.enqueue(text).await.is_err() {
                    return;
                }
            }
        });
    }

    pub async fn publish(&self, texts: &[&str]) {
        for text in texts {
            self.readings.publish((*text).to_owned()).await.unwrap();
        }
    }

    pub async fn picture(&self, what: &str, is_it: impl Fn(&Picture) -> bool) -> Arc<Picture> {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(picture) = self.telemetry.picture().filter(|picture| is_it(picture)) {
                return picture;
            }
            assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether the consumers of `readings` are paused.
    pub fn is_paused(&self) -> bool {
        let picture = self.telemetry.picture().unwrap();
        picture.queues.iter().any(|queue| queue.name == "readings" && queue.state == "paused")
    }

    pub async fn end(self) {
        drop(self.server);
        tokio::time::timeout(SOON, self.service.shutdown()).await.expect("in time").unwrap();
    }
}
