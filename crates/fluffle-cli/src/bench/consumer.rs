//! Handler actors: they verify what they are given, and measure how long it took.

use std::{sync::Arc, time::Instant};

use actix::{Actor, Context, Handler};
use fluffle::prelude::{Delivery, Failure};

use crate::bench::{
    ledger::Arrival,
    message::Message,
    meter,
    run::Run,
    stages::{self, Span, Stage},
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
        let decoded = stages::decoded();
        let measured = self.take(&message, Instant::now());
        if let Some(decoded) = decoded.filter(|_| measured) {
            self.stages(&message, decoded);
        }
        Ok(())
    }
}

impl Verifier {
    /// Notes that it has come; whether it is one that is measured.
    fn take(&mut self, message: &Message, now: Instant) -> bool {
        let run = &self.run;
        if message.run != run.plan.run {
            run.note_foreign();
            return false;
        }
        let intact = run.payload.of(message.stream, message.sequence) == message.payload;
        if run.ledger.received(self.queue, message.stream, message.sequence, intact) != Arrival::First {
            return false;
        }
        let due = run.instant(message.due);
        let measured = run.is_measured(due);
        let mut meter = self.meter.lock();
        meter.last = Some(now);
        meter.counts.handled += 1;
        meter.counts.handled_bytes += prost::Message::encoded_len(message) as u64;
        meter.end_to_end.record(now.saturating_duration_since(due), measured);
        measured
    }

    fn stages(&self, message: &Delivery<Message>, (decode, decoded): Span) {
        let received = message.received_at();
        let done = Instant::now();
        {
            let mut meter = self.meter.lock();
            meter.received.record(received.saturating_duration_since(self.run.instant(message.due)));
            for (stage, from, to) in
                [(Stage::Mailbox, received, decode), (Stage::Decode, decode, decoded), (Stage::Handle, decoded, done)]
            {
                meter.stage(stage, to.saturating_duration_since(from));
            }
        }
        let (settled, meter) = (message.settled(), self.meter.clone());
        actix::spawn(async move {
            settled.await;
            meter.lock().stage(Stage::Settle, done.elapsed());
        });
    }
}
