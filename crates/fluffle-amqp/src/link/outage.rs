//! Tells the log of the outages of a connection: one line when the connection is lost, one for each doubling of the
//! time away, and one when the connection is back. Everything else that an outage causes is logged at `debug`.

use std::{
    collections::BTreeSet,
    fmt::{self, Debug, Display, Formatter},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fluffle_supervise::{ExitReason, What};
use tokio::time::Instant;

/// An outage that is longer than this has lines between the first and the last.
const FIRST_LINE: Duration = Duration::from_secs(2);

/// How long the line "back" waits for the channels of a connection that is up again.
const LONGEST_RETURN: Duration = Duration::from_secs(5);

/// A publisher or a consumer, as far as an outage of its connection concerns it.
pub(crate) trait Traffic: Send + Sync {
    /// What is under way now. After a lost channel: what was under way on it, until the next channel is in use.
    fn under_way(&self) -> UnderWay;
}

/// What is under way on a channel, and the running totals of what was repeated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnderWay {
    /// Messages published and not confirmed. The next channel publishes them again.
    pub(crate) unconfirmed: usize,
    /// Deliveries received and not acked. The broker delivers them again.
    pub(crate) unacked: usize,
    /// Messages that were published again, in all.
    pub(crate) republished: u64,
    /// Deliveries that came again, in all.
    pub(crate) redelivered: u64,
}

impl UnderWay {
    fn and(self, other: Self) -> Self {
        Self {
            unconfirmed: self.unconfirmed + other.unconfirmed,
            unacked: self.unacked + other.unacked,
            republished: self.republished + other.republished,
            redelivered: self.redelivered + other.redelivered,
        }
    }

    /// With the totals counted from `before` on.
    fn since(self, before: Self) -> Self {
        Self {
            republished: self.republished.saturating_sub(before.republished),
            redelivered: self.redelivered.saturating_sub(before.redelivered),
            ..self
        }
    }
}

/// The place of one channel on a connection, which outlives the channel's incarnations.
pub(crate) struct Seat {
    traffic: Option<Weak<dyn Traffic>>,
    in_use: AtomicBool,
    /// At the beginning of the outage.
    before: Mutex<UnderWay>,
}

impl Seat {
    fn under_way(&self) -> UnderWay {
        let traffic = self.traffic.as_ref().and_then(Weak::upgrade);
        traffic.map(|traffic| traffic.under_way()).unwrap_or_default()
    }

    /// The channel is open, and its publisher or consumer has begun to work on it; or it is lost or closed.
    pub(crate) fn set_in_use(&self, in_use: bool) {
        self.in_use.store(in_use, Ordering::Relaxed);
    }

    /// Whether the channel is in use as soon as it is open.
    pub(crate) fn has_no_traffic(&self) -> bool {
        self.traffic.is_none()
    }
}

/// The outages of one connection.
pub(crate) struct Outage {
    connection: String,
    seats: Mutex<Vec<Weak<Seat>>>,
    story: Mutex<Story>,
    away: Arc<Away>,
}

#[derive(Default)]
struct Story {
    /// When the connection came up for the last time.
    up: Option<Instant>,
    /// When the present outage began. `None` if there is none, or after its last line.
    since: Option<Instant>,
    /// How often connecting has failed in the present outage, and the last cause.
    tries: u32,
    cause: String,
    /// Whether the next exit of the connection's actor is that of a lost connection, and not a try that failed.
    exits_for_loss: bool,
    /// A certificate was refused that was accepted before, and whether the log has a line about it.
    certificate: Option<bool>,
}

impl Outage {
    pub(crate) fn new(connection: &str, away: &Arc<Away>) -> Self {
        let (seats, story) = (Mutex::default(), Mutex::default());
        Self { connection: connection.to_owned(), seats, story, away: Arc::clone(away) }
    }

    /// A place for a channel. The seat of a channel that carries neither published messages nor deliveries has no
    /// `traffic`.
    pub(crate) fn seat(&self, traffic: Option<Weak<dyn Traffic>>) -> Arc<Seat> {
        let seat = Arc::new(Seat { traffic, in_use: AtomicBool::new(false), before: Mutex::default() });
        *lock(&seat.before) = seat.under_way();
        let mut seats = lock(&self.seats);
        seats.retain(|seat| seat.strong_count() > 0);
        seats.push(Arc::downgrade(&seat));
        seat
    }

    /// Whether the connection is away, or is back and the log does not say so yet.
    pub(crate) fn is_going_on(&self) -> bool {
        lock(&self.story).since.is_some()
    }

    /// The connection is up, and its topology of so many exchanges and queues is declared.
    pub(crate) fn up(&self, endpoint: &impl Display, (exchanges, queues): (usize, usize)) {
        let connection = &self.connection;
        let mut story = lock(&self.story);
        let is_first = story.up.replace(Instant::now()).is_none();
        if !is_first {
            tracing::debug!(%connection, %endpoint, exchanges, queues, "connected again, topology declared");
            return;
        }
        let (since, tries) = (story.since.take(), story.tries);
        *story = Story { up: story.up, ..Story::default() };
        self.away.back(connection);
        match since {
            None => tracing::info!(%connection, %endpoint, exchanges, queues, "connected, topology declared"),
            Some(since) => tracing::warn!(
                %connection, %endpoint, exchanges, queues, away = short(since.elapsed()), tries,
                "connected, topology declared: publishers and consumers begin"
            ),
        }
    }

    /// The connection was up and is lost.
    pub(crate) fn lost(&self, endpoint: Option<&str>, cause: &str) {
        let seats = self.seats();
        let lost = seats.iter().map(|seat| seat.under_way()).fold(UnderWay::default(), UnderWay::and);
        seats.iter().for_each(|seat| seat.set_in_use(false));
        let connection = &self.connection;
        let mut story = lock(&self.story);
        (story.exits_for_loss, story.cause) = (true, cause.to_owned());
        if story.since.is_some() {
            tracing::debug!(%connection, cause, "connection lost again before everything on it was back");
            return;
        }
        story.since = Some(Instant::now());
        seats.iter().for_each(|seat| *lock(&seat.before) = seat.under_way());
        self.away.leave(connection);
        let UnderWay { unconfirmed, unacked, .. } = lost;
        tracing::warn!(
            %connection, endpoint, cause, was_up = short(story.up.map(|up| up.elapsed()).unwrap_or_default()),
            unconfirmed, unacked,
            "connection lost: {unconfirmed} unconfirmed messages are published again under their ids, {unacked} \
             unacked deliveries come again, as do those whose acks did not arrive, so none of them is lost; the \
             service connects again until it succeeds"
        );
    }

    /// TLS is refused, although it worked when this service connected before.
    pub(crate) fn refused_certificate(&self) {
        lock(&self.story).certificate.get_or_insert(false);
    }

    /// Hears of the connection's actor.
    pub(crate) fn hear(&self, what: &What) {
        match what {
            What::Exited { reason } if !reason.is_normal() => {
                let mut story = lock(&self.story);
                if !std::mem::take(&mut story.exits_for_loss) {
                    story.tries = story.tries.saturating_add(1);
                    story.cause = match reason {
                        ExitReason::Failed(error) => error.to_string(),
                        other => other.to_string(),
                    };
                }
            }
            What::Backoff { delay, .. } => self.waits(*delay),
            _ => {}
        }
    }

    /// The connection is away, and the next try comes after `delay`.
    fn waits(&self, delay: Duration) {
        let mut story = lock(&self.story);
        let is_first = story.up.is_none() && story.since.is_none();
        if is_first {
            story.since = Some(Instant::now());
            self.away.leave(&self.connection);
        }
        let is_news = story.certificate == Some(false);
        let Some((away, connections)) = self.away.line(is_first, is_news) else { return };
        let (cause, tries) = (&story.cause, story.tries);
        if story.certificate.is_some() {
            tracing::error!(
                connection = %self.connection, connections, cause, away = short(away), tries,
                next_try_in = short(delay),
                "TLS is refused, but it worked when this service connected before: this service tries again until a \
                 valid certificate is installed"
            );
            story.certificate = Some(true);
        } else {
            tracing::warn!(
                connection = %self.connection, connections, cause, away = short(away), tries,
                next_try_in = short(delay),
                "no connection to the broker: accepted messages wait here, and the next try comes after the delay"
            );
        }
    }

    /// Called now and then while the connection is up: tells that it is back, once its channels are in use again.
    pub(crate) fn look(&self) {
        if !self.is_going_on() {
            return;
        }
        let all_in_use = self.seats().iter().all(|seat| seat.in_use.load(Ordering::Relaxed));
        let is_late = lock(&self.story).up.is_some_and(|up| up.elapsed() >= LONGEST_RETURN);
        if all_in_use || is_late {
            self.back();
        }
    }

    /// Tells that the connection is back, if the log does not say so yet, and what was repeated so far.
    pub(crate) fn back(&self) {
        let mut story = lock(&self.story);
        let (Some(up), Some(since)) = (story.up, story.since) else { return };
        let (connection, tries) = (&self.connection, story.tries);
        *story = Story { up: story.up, ..Story::default() };
        self.away.back(connection);
        let seats = self.seats();
        let repeated = seats.iter().map(|seat| seat.under_way().since(*lock(&seat.before)));
        let UnderWay { republished, redelivered, .. } = repeated.fold(UnderWay::default(), UnderWay::and);
        let not_yet = seats.iter().filter(|seat| !seat.in_use.load(Ordering::Relaxed)).count();
        let (away, within) = (up.saturating_duration_since(since), up.elapsed());
        tracing::warn!(
            %connection, away = short(away), tries, republished, redelivered,
            channels_not_yet_open = (not_yet > 0).then_some(not_yet),
            "connection back after {away:.1?}: {republished} messages were published again and {redelivered} \
             deliveries came again in its first {within:.1?}"
        );
    }

    fn seats(&self) -> Vec<Arc<Seat>> {
        lock(&self.seats).iter().filter_map(Weak::upgrade).collect()
    }
}

/// The connections of one service that are away. One outage of the broker takes them all away, so the lines between the
/// first and the last are about all of them.
#[derive(Default)]
pub(crate) struct Away(Mutex<Together>);

#[derive(Default)]
struct Together {
    connections: BTreeSet<String>,
    /// When the first of them went away.
    since: Option<Instant>,
    /// How long they had been away at the last line.
    told: Option<Duration>,
}

impl Away {
    fn leave(&self, connection: &str) {
        let mut together = lock(&self.0);
        if together.connections.is_empty() {
            (together.since, together.told) = (Some(Instant::now()), None);
        }
        together.connections.insert(connection.to_owned());
    }

    fn back(&self, connection: &str) {
        lock(&self.0).connections.remove(connection);
    }

    /// How long the connections have been away, and their names, if that is to be logged now: at the first failure of a
    /// service that was never connected, if there is news, and each time when the time away has doubled.
    fn line(&self, is_first: bool, is_news: bool) -> Option<(Duration, String)> {
        let mut together = lock(&self.0);
        let away = together.since?.elapsed();
        let is_due = away >= together.told.map_or(FIRST_LINE, |told| FIRST_LINE.max(told * 2));
        if !(is_due || is_news || is_first && together.told.is_none()) {
            return None;
        }
        together.told = Some(away);
        Some((away, together.connections.iter().map(String::as_str).collect::<Vec<_>>().join(", ")))
    }
}

/// For a log line: two digits after the point are enough.
fn short(time: Duration) -> tracing::field::DebugValue<Rounded> {
    tracing::field::debug(Rounded(time))
}

struct Rounded(Duration);

impl Debug for Rounded {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2?}", self.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
