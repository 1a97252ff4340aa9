//! Producers, with one publisher each. In a closed loop a producer publishes as fast as confirms come back; in an open
//! loop, whenever a message is due.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use fluffle::{amqp::Receipt, prelude::Publisher};
use futures_util::future::join_all;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use crate::bench::{
    message::Message,
    meter,
    schedule::Schedule,
    stages::{self, Stage},
    state::Run,
};

/// A producer of load.
pub(crate) struct Producer {
    pub(crate) number: usize,
    pub(crate) out: Publisher<Message>,
    pub(crate) meter: meter::Shared,
    pub(crate) pace: Pace,
    pub(crate) run: Arc<Run>,
}

/// When the next message is due.
#[derive(Clone)]
pub(crate) enum Pace {
    /// As soon as the semaphore has a permit: it limits how many messages are unconfirmed.
    Closed(Arc<Semaphore>),
    /// As soon as the publisher accepts it. With batches the window counts batches, and only the publisher knows how
    /// many there are.
    Unbridled,
    /// As scheduled, counted from `start`.
    Open { schedule: Schedule, start: Instant, wake: Arc<Notify> },
}

/// A published message that waits for its confirm.
struct InFlight {
    receipt: Receipt<Message>,
    due: Instant,
    measured: bool,
    sequence: u64,
    /// The permit of a closed loop, held until the confirm.
    place: Option<OwnedSemaphorePermit>,
}

/// The capacity of the channel that passes receipts from the publishing task to the one that waits for confirms. The
/// publisher bounds how many messages are unconfirmed; if the channel is full, the producer waits.
const HANDED_OVER: usize = 1 << 17;

impl Producer {
    /// Publishes until the run ends or the producer's share is done, then waits for the messages in flight.
    pub(crate) async fn work(self) {
        let (mut lanes, mut confirming) = (Vec::new(), Vec::new());
        for queue in 0..self.run.plan.queues {
            let (lane, receipts) = mpsc::channel(HANDED_OVER);
            let confirms =
                Confirming { number: self.number, queue, meter: self.meter.clone(), run: Arc::clone(&self.run) };
            lanes.push(lane);
            confirming.push(confirms.work(receipts));
        }
        tokio::join!(self.publish(lanes), join_all(confirming));
    }

    async fn publish(self, lanes: Vec<mpsc::Sender<InFlight>>) {
        let sent = self.publish_all(lanes).await;
        if let (Pace::Open { schedule, start, .. }, Some(until)) = (&self.pace, self.run.until()) {
            let due = schedule.count(self.number, until.saturating_duration_since(*start));
            self.run.note_unsent(due.saturating_sub(sent));
        }
    }

    /// Publishes until the run ends or the producer's share is done. Returns how many messages.
    async fn publish_all(&self, lanes: Vec<mpsc::Sender<InFlight>>) -> u64 {
        let mut stopped = pin!(self.run.stopped());
        let mut share = self.run.plan.share(self.number);
        let mut sequences = vec![0; self.run.plan.queues];
        let mut n: u64 = 0;
        while share != Some(0) && !self.run.is_stopped() {
            let (due, place) = tokio::select! {
                biased;
                next = self.next(n) => match next {
                    Some(next) => next,
                    None => break,
                },
                () = &mut stopped => break,
            };
            if self.run.is_over(due) {
                break;
            }
            let measured = self.run.is_measured(due);
            let queue = n as usize % sequences.len();
            let sequence = sequences[queue];
            let message = self.message(queue, sequence, due);
            let publishing = self.publish_one(message, due, measured && stages::is_sampled());
            let accepted = tokio::select! {
                biased;
                accepted = publishing => accepted,
                () = &mut stopped => break,
            };
            n += 1;
            sequences[queue] += 1;
            self.run.ledger.accepted(self.number, queue);
            if let Some(receipt) = accepted {
                let sent = InFlight { receipt, due, measured, sequence, place };
                if lanes[queue].send(sent).await.is_err() {
                    break;
                }
            }
            if measured && let Some(share) = &mut share {
                *share -= 1;
            }
        }
        n
    }

    /// Waits until the `n`th message is due, and returns when it was due. `None` at the end of a closed loop.
    async fn next(&self, n: u64) -> Option<(Instant, Option<OwnedSemaphorePermit>)> {
        self.run.enter().await;
        match &self.pace {
            Pace::Closed(places) => {
                let place = Arc::clone(places).acquire_owned().await.ok()?;
                Some((Instant::now(), Some(place)))
            }
            Pace::Unbridled => Some((Instant::now(), None)),
            Pace::Open { schedule, start, wake } => {
                let due = *start + schedule.due(self.number, n);
                while Instant::now() < due {
                    wake.notified().await;
                }
                Some((due, None))
            }
        }
    }

    fn message(&self, queue: usize, sequence: u64, due: Instant) -> Message {
        let run = &self.run;
        let stream = run.ledger.stream(self.number, queue);
        let payload = run.payload.of(stream, sequence);
        Message { run: run.plan.run, stream, sequence, due: run.nanos(due), payload }
    }

    /// Publishes one message. `None` if the publisher did not accept it.
    async fn publish_one(&self, message: Message, due: Instant, timed: bool) -> Option<Receipt<Message>> {
        let bytes = prost::Message::encoded_len(&message) as u64;
        let accepted = if timed { self.timed(message, due).await } else { self.out.enqueue(message).await };
        let counts = &mut self.meter.lock().counts;
        match accepted {
            Ok(receipt) => {
                counts.published += 1;
                counts.published_bytes += bytes;
                Some(receipt)
            }
            Err(error) => {
                counts.failed += 1;
                self.run.leave();
                self.run.note_failure(error.kind());
                None
            }
        }
    }

    async fn timed(
        &self,
        message: Message,
        due: Instant,
    ) -> Result<Receipt<Message>, fluffle::prelude::PublishError<Message>> {
        let begin = Instant::now();
        stages::watch_encoding();
        let (accepted, first) = FirstPoll { inner: pin!(self.out.enqueue(message)), first: None }.await;
        let end = Instant::now();
        if let Some((encode, encoded)) = stages::encoded() {
            let mut meter = self.meter.lock();
            let spans = [
                (Stage::Schedule, due, begin),
                (Stage::Encode, encode, encoded),
                (Stage::Compress, encoded, first),
                (Stage::Room, first, end),
            ];
            // The time of `enqueue` before it encodes. Without batches it makes an id and a routing key, which counts
            // as encoding. With batches it may seal a full batch, which counts as compressing.
            let before = encode.saturating_duration_since(begin);
            let part_of = if self.run.plan.args.batch.is_some() { Stage::Compress } else { Stage::Encode };
            for (stage, from, to) in spans {
                let extra = if stage == part_of { before } else { Duration::ZERO };
                meter.stage(stage, to.saturating_duration_since(from) + extra);
            }
            meter.handed_over.record(end.saturating_duration_since(due));
        }
        accepted
    }
}

/// Waits for the confirms of one producer's messages to one queue, in the order of publishing, which is also the
/// broker's order. A confirm that overtakes another counts only when the other has arrived.
struct Confirming {
    number: usize,
    queue: usize,
    meter: meter::Shared,
    run: Arc<Run>,
}

impl Confirming {
    async fn work(self, mut receipts: mpsc::Receiver<InFlight>) {
        while let Some(sent) = receipts.recv().await {
            let InFlight { receipt, due, measured, sequence, place } = sent;
            let confirmed = receipt.confirmed().await;
            let now = Instant::now();
            drop(place);
            let mut meter = self.meter.lock();
            match confirmed {
                Ok(_) => {
                    self.run.ledger.confirmed(self.number, self.queue, sequence);
                    meter.last = Some(now);
                    meter.counts.confirmed += 1;
                    meter.confirm.record(now.saturating_duration_since(due), measured);
                }
                Err(error) => {
                    meter.counts.failed += 1;
                    self.run.leave();
                    self.run.note_failure(error.kind());
                }
            }
        }
    }
}

/// Records when the first poll of a future ended.
struct FirstPoll<'a, F> {
    inner: Pin<&'a mut F>,
    first: Option<Instant>,
}

impl<F: Future> Future for FirstPoll<'_, F> {
    type Output = (F::Output, Instant);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.inner.as_mut().poll(cx);
        let first = *self.first.get_or_insert_with(Instant::now);
        polled.map(|output| (output, first))
    }
}
