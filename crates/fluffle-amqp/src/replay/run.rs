//! How a replay runs: it takes a letter, decides, publishes a copy, and acknowledges the letter once the copy is
//! confirmed.

use std::{collections::HashMap, fmt, future::Future, sync::Arc, time::Duration};

use lapin::{
    Channel,
    options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, ConfirmSelectOptions},
};
use tokio::time::{Instant, sleep_until, timeout};

use crate::{
    base::{
        events::ReplayEvent,
        observer::{Listeners, Observers},
        requests::Requests,
    },
    consume::message::{deliveries::InVain, received::Received},
    link::{
        bounded::{OPERATION_TIMEOUT, bounded},
        broker::Broker,
        class::ClientError,
        depth::depth,
        endpoint_order::Turn,
        socket,
    },
    publish::{
        confirm::{ConfirmTracker, ConfirmVerdict},
        message::new_id,
    },
    replay::{letter::DeadLetter, plan::Replay},
};

/// Most copies on the wire at a time.
const WINDOW: usize = 64;

/// How long the broker may take to confirm a copy.
const CONFIRM_LIMIT: Duration = Duration::from_secs(60);

/// What a replay has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Replayed {
    /// Letters looked at.
    pub looked_at: usize,
    /// Letters that are in their own queue again, and no longer in the dead-letter queue. In a dry run, letters that
    /// would be.
    pub replayed: usize,
    /// Letters that the filter did not want.
    pub filtered: usize,
    /// Letters that do not say which queue they came from.
    pub without_origin: usize,
    /// Letters that stay because the client cannot read their properties, so that a copy would be another message.
    pub unreadable: usize,
    /// Letters whose own queue is gone, or refused the copy.
    pub refused: usize,
    /// The id of the replay.
    pub id: String,
    /// Whether it was a dry run, which sends nothing.
    pub dry_run: bool,
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { looked_at, replayed, filtered, without_origin, unreadable, refused, .. } = self;
        let verb = if self.dry_run { "would be replayed" } else { "replayed" };
        write!(
            f,
            "{looked_at} looked at: {replayed} {verb}, {filtered} not wanted, {without_origin} without an origin, "
        )?;
        write!(f, "{unreadable} unreadable, {refused} refused")
    }
}

/// Why a replay ended early, and what it had done by then.
#[derive(Debug, thiserror::Error)]
#[error("the replay of queue `{queue}` ended early: {what} ({done})")]
pub struct ReplayError {
    queue: String,
    what: String,
    /// What the replay had done by then.
    pub done: Replayed,
}

impl Replay {
    /// The error of a replay that has done nothing, because of `what`.
    pub(crate) fn error(&self, what: &str) -> ReplayError {
        let done = Replayed { dry_run: self.dry_run, ..Replayed::default() };
        ReplayError { queue: self.queue.clone(), what: what.to_owned(), done }
    }

    /// Runs the replay, on a connection of its own. Needs a tokio runtime.
    ///
    /// # Errors
    /// If the broker cannot be reached, the dead-letter queue is not there, or the connection is lost on the way. The
    /// error has the counts so far.
    ///
    /// # Cancellation
    /// Dropped, the replay ends where it is. A letter whose copy was not confirmed stays in the dead-letter queue, and
    /// may be in its own queue too.
    pub async fn run(self, broker: &Broker) -> Result<Replayed, ReplayError> {
        let id = self.id.clone().unwrap_or_else(|| new_id().to_string());
        let mut done = Replayed { id, dry_run: self.dry_run, ..Replayed::default() };
        match attempt(&self, broker, &mut done).await {
            Ok(()) => Ok(done),
            Err(what) => Err(ReplayError { queue: self.queue, what, done }),
        }
    }
}

async fn attempt(replay: &Replay, broker: &Broker, done: &mut Replayed) -> Result<(), String> {
    if done.id.len() > 255 {
        return Err(format!("its id has {} bytes, and AMQP allows 255: use a shorter id", done.id.len()));
    }
    let name = format!("{}/replay", broker.name);
    let (socket, _) = socket::connect(broker, &name, &Turn::alone()).await.map_err(|error| error.to_string())?;
    // When the connection ends, the broker puts every letter back that is not acknowledged.
    let outcome = async {
        let letters = within(socket.connection.create_channel()).await?;
        let copies = within(socket.connection.create_channel()).await?;
        within(copies.confirm_select(ConfirmSelectOptions::default())).await?;
        let confirms = ConfirmTracker::new(copies.clone(), socket.frame_max(), true);
        let events = Observers::from(replay.observers.clone()).replay(&replay.queue);
        let letters_too = letters.clone();
        let mut run = Run { replay, letters: letters_too, confirms, sent: HashMap::new(), kept: vec![], done, events };
        let outcome = async {
            run.all().await?;
            run.put_back().await
        }
        .await;
        for channel in [letters, copies] {
            // The error is ignored, because `outcome` says already why a channel was lost.
            let _ = socket::close_channel(&channel, broker.close_timeout).await;
        }
        outcome
    }
    .await;
    if let Err(why) = socket.close("replayed", broker.close_timeout).await {
        tracing::debug!(queue = %replay.queue, %why, "replay: connection not closed in order; socket shut down");
    }
    outcome
}

/// Waits for an operation of lapin, for `OPERATION_TIMEOUT` at most.
async fn within<T>(operation: impl Future<Output = lapin::Result<T>>) -> Result<T, String> {
    bounded(OPERATION_TIMEOUT, operation).await.map_err(|error| error.to_string())
}

struct Run<'a> {
    replay: &'a Replay,
    letters: Channel,
    confirms: ConfirmTracker,
    /// The tags of letters whose copies have no verdict yet, by sequence number.
    sent: HashMap<u64, u64>,
    /// The tags of letters that stay in the dead-letter queue.
    kept: Vec<u64>,
    done: &'a mut Replayed,
    events: Listeners<ReplayEvent>,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<(), String> {
        let queue: Arc<str> = self.replay.queue.as_str().into();
        let ready = depth(&self.letters, &queue).await.map_err(|error| error.to_string())?;
        let most = self.replay.limit.min(usize::try_from(ready).unwrap_or(usize::MAX));
        let mut next = Instant::now();
        while self.done.looked_at < most {
            let Some(letter) = within(self.letters.basic_get((&*queue).into(), BasicGetOptions::default())).await?
            else {
                break;
            };
            self.done.looked_at += 1;
            let letter =
                DeadLetter::new(Received::new(&queue, 0, InVain::default(), Requests::default(), letter.delivery));
            if self.consider(&letter)
                && let Some(pause) = self.replay.pause
            {
                next = next.max(Instant::now()) + pause;
                self.settle_until(next).await?;
            }
            while self.confirms.len() >= WINDOW {
                self.settle().await?;
            }
        }
        while !self.confirms.is_empty() {
            self.settle().await?;
        }
        Ok(())
    }

    /// Sends a copy of the letter, unless it is to stay. Says whether it did.
    fn consider(&mut self, letter: &DeadLetter) -> bool {
        if let Some(what) = letter.unreadable() {
            tracing::warn!(
                queue = %self.replay.queue, what,
                "dead letter not replayed: its properties cannot be read; it stays in the queue"
            );
            self.done.unreadable += 1;
            self.kept.push(letter.tag());
            return false;
        }
        let Some(queue) = self.replay.to_queue.as_deref().or_else(|| letter.origin_queue()) else {
            self.done.without_origin += 1;
            self.kept.push(letter.tag());
            return false;
        };
        if !(self.replay.filter)(letter) {
            self.done.filtered += 1;
            self.kept.push(letter.tag());
            return false;
        }
        if self.replay.dry_run {
            self.done.replayed += 1;
            self.kept.push(letter.tag());
            return false;
        }
        let sequence = self.done.looked_at as u64;
        self.confirms.publish(sequence, letter.replayed(queue, &self.done.id));
        self.sent.insert(sequence, letter.tag());
        true
    }

    /// Waits until `then`, and settles the copies that are confirmed by then. Waiting for confirms is also what writes
    /// copies to the wire.
    async fn settle_until(&mut self, then: Instant) -> Result<(), String> {
        loop {
            tokio::select! {
                () = sleep_until(then) => return Ok(()),
                verdicts = self.confirms.settled(), if !self.confirms.is_empty() => self.let_go(verdicts).await?,
            }
        }
    }

    async fn settle(&mut self) -> Result<(), String> {
        let verdicts = timeout(CONFIRM_LIMIT, self.confirms.settled()).await;
        let verdicts = verdicts.map_err(|_| format!("the broker did not confirm within {CONFIRM_LIMIT:?}"))?;
        self.let_go(verdicts).await
    }

    /// Acknowledges the letters whose copies are confirmed. If the channel was lost, fails with its error afterwards.
    async fn let_go(&mut self, verdicts: Vec<(u64, ConfirmVerdict)>) -> Result<(), String> {
        let mut lost = Ok(());
        for (sequence, verdict) in verdicts {
            let Some(tag) = self.sent.remove(&sequence) else { continue };
            match verdict {
                ConfirmVerdict::Confirmed => {
                    within(self.letters.basic_ack(tag, BasicAckOptions::default())).await?;
                    self.done.replayed += 1;
                    self.events.tell(&ReplayEvent::Replayed);
                }
                ConfirmVerdict::Returned(_) | ConfirmVerdict::Nacked | ConfirmVerdict::DoesNotFit(_) => {
                    self.kept.push(tag);
                    self.done.refused += 1;
                    self.events.tell(&ReplayEvent::Refused);
                }
                ConfirmVerdict::Written => {
                    return Err(
                        "a copy has no confirm on a channel with confirms on: this is a bug in Fluffle".to_owned()
                    );
                }
                ConfirmVerdict::Lost(error) => lost = Err(ClientError(error).to_string()),
            }
        }
        lost
    }

    /// Requeues the letters that stay.
    async fn put_back(&mut self) -> Result<(), String> {
        // From the last to the first, because a classic queue then has them in their old order.
        self.kept.sort_unstable();
        for tag in self.kept.iter().rev() {
            let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
            within(self.letters.basic_nack(*tag, options)).await?;
        }
        Ok(())
    }
}
