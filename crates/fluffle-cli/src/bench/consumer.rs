//! Handler actors, which verify messages and measure latency.

use std::{future::Future, sync::Arc, time::Instant};

use actix::{Actor, Context, Handler};
use fluffle::{
    amqp::{DeliveryBatch, ItemFailures},
    prelude::{Delivery, Failure, Settled},
};

use crate::bench::{
    ledger::Arrival,
    message::Message,
    meter,
    stages::{self, Span, Stage},
    state::Run,
};

/// One handler of one queue.
pub(crate) struct Verifier {
    pub(crate) queue: usize,
    pub(crate) meter: meter::Shared,
    pub(crate) run: Arc<Run>,
}

impl Actor for Verifier {
    type Context = Context<Self>;
}

impl Handler<Delivery<Message>> for Verifier {
    type Result = Result<(), Failure>;

    fn handle(&mut self, message: Delivery<Message>, _: &mut Self::Context) -> Self::Result {
        if let Some(sample) = self.take(&message) {
            self.stages(sample, message.received_at(), message.settled());
        }
        Ok(())
    }
}

impl Handler<DeliveryBatch<Message>> for Verifier {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, batch: DeliveryBatch<Message>, _: &mut Self::Context) -> Self::Result {
        // An item that cannot be decoded becomes a dead letter, whatever this returns.
        for message in batch.iter().flatten() {
            if let Some(sample) = self.take(&message) {
                self.stages(sample, batch.received_at(), batch.settled());
            }
        }
        Ok(ItemFailures::none())
    }
}

/// A message that was sampled to measure every stage.
struct Sample {
    due: Instant,
    decode: Span,
}

impl Verifier {
    /// Records and verifies a message. Returns a sample if the stages are to be measured.
    fn take(&mut self, message: &Message) -> Option<Sample> {
        let (decoded, now) = (stages::decoded(), Instant::now());
        let run = &self.run;
        if message.run != run.plan.run {
            run.note_foreign();
            return None;
        }
        let intact = run.payload.of(message.stream, message.sequence) == message.payload;
        if run.ledger.received(self.queue, message.stream, message.sequence, intact) != Arrival::First {
            return None;
        }
        run.leave();
        let due = run.instant(message.due);
        let measured = run.is_measured(due);
        let mut meter = self.meter.lock();
        meter.last = Some(now);
        meter.counts.handled += 1;
        meter.counts.handled_bytes += prost::Message::encoded_len(message) as u64;
        meter.end_to_end.record(now.saturating_duration_since(due), measured);
        decoded.filter(|_| measured).map(|decode| Sample { due, decode })
    }

    fn stages(&self, sample: Sample, received: Instant, settled: impl Future<Output = Settled> + Send + 'static) {
        let Sample { due, decode: (decode, decoded) } = sample;
        let done = Instant::now();
        {
            let mut meter = self.meter.lock();
            meter.received.record(received.saturating_duration_since(due));
            for (stage, from, to) in
                [(Stage::Mailbox, received, decode), (Stage::Decode, decode, decoded), (Stage::Handle, decoded, done)]
            {
                meter.stage(stage, to.saturating_duration_since(from));
            }
        }
        let meter = self.meter.clone();
        // On another thread, because on the handlers' thread this task would wait behind messages.
        self.run.aside.spawn(async move {
            settled.await;
            meter.lock().stage(Stage::Settle, done.elapsed());
        });
    }
}
