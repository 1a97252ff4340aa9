//! The handler actors, and the state that survives their crashes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    panic::resume_unwind,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use examples::Seen;
use fluffle::{Error, prelude::*, wire::Wire};
use hdrhistogram::Histogram;
use protos::usgs::{Alert, Quake, alert::Level};

use examples::feed::ALERT_FROM;

/// Header with the time of publishing, in microseconds since 1970. AMQP's own timestamp has only seconds.
const SENT: &str = "x-sent-us";

/// The longest time that the histogram distinguishes from longer ones: an hour, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// The counts of one handler. After a crash, the fresh actor shares them.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) seen: Seen,
    /// Microseconds from the publisher to the end of the handler.
    pub(crate) took: Arc<Mutex<Histogram<u64>>>,
    crash_every: Option<u64>,
    first_attempts: Arc<AtomicU64>,
}

impl Desk {
    pub(crate) fn new(crash_every: Option<u64>) -> Result<Self, Error> {
        let took = Arc::new(Mutex::new(Histogram::new_with_bounds(1, LONGEST, 3).map_err(Error::other)?));
        Ok(Self { seen: Seen::new(), took, crash_every, first_attempts: Arc::default() })
    }

    /// Panics on every Nth message, at its first delivery.
    fn begin<T>(&self, delivery: &Delivery<T>) {
        let Some(every) = self.crash_every.filter(|_| delivery.attempt() == 1) else { return };
        if (self.first_attempts.fetch_add(1, Relaxed) + 1).is_multiple_of(every) {
            // Like `panic!`, but prints nothing to the terminal.
            resume_unwind(Box::new("a crash on purpose"));
        }
    }

    /// Counts a message as handled, under the id of its quake.
    fn done<T>(&self, delivery: &Delivery<T>, quake: Option<&str>) {
        let sent = delivery.header_integer(SENT).unwrap_or_default();
        let took = u64::try_from(now() - sent).unwrap_or_default();
        self.took.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took);
        self.seen.note_id(quake.unwrap_or("(without an id)"));
    }
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Options with the time of publishing.
pub(crate) fn sent_now() -> MessageOptions {
    MessageOptions::new().header_integer(SENT, now())
}

/// Publishes an alert for each quake that is strong enough.
///
/// A panic counts as a failed attempt of every message that the actor had begun and not answered, so their alerts might
/// be published twice (at least once). With `concurrency(1)`, the actor never has another message in hand.
pub(crate) struct Alerts {
    pub(crate) desk: Desk,
    pub(crate) out: Publisher<Alert>,
}

impl Actor for Alerts {
    type Context = Context<Self>;
}

impl Handler<Delivery<Quake>> for Alerts {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, quake: Delivery<Quake>, _: &mut Self::Context) -> Self::Result {
        self.desk.begin(&quake);
        let (desk, out) = (self.desk.clone(), self.out.clone());
        Box::pin(async move {
            if quake.magnitude() >= ALERT_FROM {
                let sent = quake.header_integer(SENT).unwrap_or_default();
                let options = MessageOptions::new().caused_by(&quake).header_integer(SENT, sent);
                // Waits for the broker's confirm. The quake is acknowledged only after that.
                out.publish_with(alert(&quake), options).await?;
            }
            desk.done(&quake, quake.message_id());
            Ok(())
        })
    }
}

fn alert(quake: &Quake) -> Alert {
    let level = match quake.magnitude() {
        magnitude if magnitude < 5.0 => Level::Light,
        magnitude if magnitude < 6.0 => Level::Moderate,
        magnitude if magnitude < 7.0 => Level::Strong,
        magnitude if magnitude < 8.0 => Level::Major,
        _ => Level::Great,
    };
    Alert {
        quake_id: quake.id.clone(),
        magnitude: quake.magnitude(),
        place: quake.place.clone(),
        network: quake.network.clone(),
        event_time: quake.event_time,
        level: level.into(),
    }
}

/// Handles the alerts.
pub(crate) struct Siren {
    pub(crate) desk: Desk,
}

impl Actor for Siren {
    type Context = Context<Self>;
}

impl Handler<Delivery<Alert>> for Siren {
    type Result = Result<(), Failure>;

    fn handle(&mut self, alert: Delivery<Alert>, _: &mut Self::Context) -> Self::Result {
        self.desk.begin(&alert);
        // `caused_by` set the alert's correlation id to the quake's message id.
        self.desk.done(&alert, alert.correlation_id());
        Ok(())
    }
}

/// For each network, the number of quakes and the largest one.
pub(crate) type Ledger = Arc<Mutex<BTreeMap<String, (u64, Quake)>>>;

/// Maintains the ledger.
pub(crate) struct Regions {
    pub(crate) desk: Desk,
    pub(crate) ledger: Ledger,
}

impl Actor for Regions {
    type Context = Context<Self>;
}

impl Handler<Delivery<Quake>> for Regions {
    type Result = Result<(), Failure>;

    fn handle(&mut self, quake: Delivery<Quake>, _: &mut Self::Context) -> Self::Result {
        self.desk.begin(&quake);
        let mut ledger = self.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, largest) = ledger.entry(quake.network.clone()).or_default();
        *count += 1;
        if *count == 1 || quake.magnitude() > largest.magnitude() {
            *largest = quake.clone();
        }
        self.desk.done(&quake, quake.message_id());
        Ok(())
    }
}

/// Appends each quake to a file, one JSON object a line.
pub(crate) struct Archive {
    pub(crate) desk: Desk,
    pub(crate) path: PathBuf,
    pub(crate) file: Option<File>,
}

impl Actor for Archive {
    type Context = Context<Self>;

    /// After a crash, the fresh actor opens the file again. If that fails, its supervisor tries again later.
    fn started(&mut self, ctx: &mut Self::Context) {
        match File::options().append(true).create(true).open(&self.path) {
            Ok(file) => self.file = Some(file),
            Err(error) => ctx.fail(error),
        }
    }
}

impl Handler<Delivery<Quake>> for Archive {
    type Result = Result<(), Failure>;

    fn handle(&mut self, quake: Delivery<Quake>, _: &mut Self::Context) -> Self::Result {
        self.desk.begin(&quake);
        let file = self.file.as_mut().ok_or_else(|| Failure::retry("the archive is not open"))?;
        let mut line = Wire::<Quake>::json().encode(&quake).map_err(Failure::reject)?.body.to_vec();
        line.push(b'\n');
        // A full disk may have room again later, so `?` makes this a retry.
        file.write_all(&line)?;
        self.desk.done(&quake, quake.message_id());
        Ok(())
    }
}
