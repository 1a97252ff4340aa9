//! A real service on a broker inside, whose status server is asked.

use std::{
    future::Future,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fluffle::{amqp::ConsumerState, prelude::*, supervise::Backoff, testing::TestBroker};
use fluffle_telemetry::{
    Telemetry,
    status::{Action, Status, StatusServer, picture::Picture},
};

pub const TOKEN: &str = "a-token-of-a-test-0123456789";

/// The dead-letter queue of `orders`. Not the one that the name of the queue suggests.
pub const DEAD: &str = "letters";

/// The longest that a test waits for anything.
pub const SOON: Duration = Duration::from_secs(30);

pub fn status() -> Status {
    Status::on("127.0.0.1:0")
}

pub fn with_actions() -> Status {
    status().token(TOKEN).allow([Action::Pause, Action::Resume, Action::Replay])
}

/// A server that other hosts reach.
pub fn exposed() -> Status {
    Status::on("0.0.0.0:0").token(TOKEN)
}

/// Rejects messages, with their text as the reason, until it is told to handle them.
#[derive(Clone)]
struct Orders {
    rejects: Arc<AtomicBool>,
}

impl Actor for Orders {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Orders {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        if self.rejects.load(Ordering::SeqCst) { Err(Failure::reject(text.clone())) } else { Ok(()) }
    }
}

/// A service with a consumer of `orders`, and its status server. Both end when this is dropped.
pub struct Served {
    pub server: Option<StatusServer>,
    pub telemetry: Telemetry,
    pub service: Service,
    pub broker: TestBroker,
    pub out: Publisher<String>,
    pub rejects: Arc<AtomicBool>,
    system: actix::SystemRunner,
}

impl Served {
    pub fn start(status: Status) -> Self {
        Self::start_with(status, |app| app)
    }

    pub fn start_with(status: Status, more: impl FnOnce(App) -> App) -> Self {
        // Fails if another test of this process has done it.
        let _ = tracing_subscriber::fmt().with_ansi(false).with_writer(|| ToLog).try_init();
        let (system, telemetry, broker) = (actix::System::new(), Telemetry::new(), TestBroker::start().unwrap());
        let waits = Backoff::exponential(Duration::from_millis(10), Duration::from_millis(200)).unwrap();
        let topology = Topology::new().queue(Queue::quorum("orders"));
        let app = App::new(broker.client().unwrap().reconnect(waits)).topology(topology).telemetry(&telemetry);
        let out = app.publisher::<String>(Route::queue("orders"));
        let rejects = Arc::new(AtomicBool::new(true));
        let orders = Orders { rejects: Arc::clone(&rejects) };
        let app = more(app.consume(Consume::queue("orders").dead_letter_queue(DEAD), move || orders.clone()));
        let service = system.block_on(async {
            let service = app.start().await.unwrap();
            tokio::time::timeout(SOON, service.ready()).await.expect("in time").unwrap();
            service
        });
        let server = Some(telemetry.serve(status).unwrap());
        // The first picture may be of the time before the consumers were started.
        until("a picture of the queue", || telemetry.picture().is_some_and(|picture| !picture.queues.is_empty()));
        Self { server, telemetry, service, broker, out, rejects, system }
    }

    pub fn port(&self) -> u16 {
        self.server.as_ref().unwrap().address().port()
    }

    /// The server's address, as it stands in `Host`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.system.block_on(async { tokio::time::timeout(SOON, work).await.expect("in time") })
    }

    /// Whether the consumers of `orders` are paused.
    pub fn is_paused(&self) -> bool {
        self.service.status().consumers.iter().all(|consumer| consumer.state == ConsumerState::Paused)
    }

    pub fn dead_letters(&self) -> usize {
        self.broker.read::<String>(DEAD).unwrap().len()
    }

    pub fn publish(&self, texts: &[&str]) {
        for text in texts {
            self.block_on(self.out.publish((*text).to_owned())).unwrap();
        }
    }

    /// Waits for a picture.
    pub fn picture(&self, what: &str, is_it: impl Fn(&Picture) -> bool) -> Arc<Picture> {
        until(what, || self.telemetry.picture().is_some_and(|picture| is_it(&picture)));
        self.telemetry.picture().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.server.take());
        let _ = self.system.block_on(async { tokio::time::timeout(SOON, self.service.shutdown()).await });
    }
}

/// What this process has logged so far, from `info` on. Lines of the tests that run beside this one are among it.
pub fn logged() -> String {
    String::from_utf8(LOG.lock().unwrap().clone()).unwrap()
}

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct ToLog;

impl io::Write for ToLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Looks every 20 ms until `is_it` says so.
#[track_caller]
pub fn until(what: &str, mut is_it: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is_it() {
        assert!(Instant::now() < deadline, "{what}: not within {SOON:?}");
        thread::sleep(Duration::from_millis(20));
    }
}
