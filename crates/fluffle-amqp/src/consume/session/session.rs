//! One consumer on one channel, from the first delivery to the last.

use std::{pin::pin, sync::Arc, time::Duration};

use fluffle_wire::headers::Attempt as AttemptNumber;
use futures_util::FutureExt;
use lapin::message::Delivery;
use tokio::{
    sync::watch,
    time::{Instant, interval, sleep},
};

use crate::{
    base::{events::DeliveryEvent, numbered::Numbered},
    consume::{
        attempt::{attempt::Attempt, outcome::Outcome, ticket::Completion},
        decide::verdict::{self, Arrival, Verdict},
        intake::{intake::Intake, step::Taken},
        message::{received::Received, settled::Settled},
        queue::handler_queue::Answers,
        session::{
            draining::ConsumerDrain,
            end::End,
            gate::Gate,
            quarantine::Arrived,
            settings::{Common, SharedSettings},
            stream::{Keeping, Placed},
            subscription::Subscribe,
            watchdog::{Due, Watchdog},
        },
        settle::{
            acks::LEAST_APART, commands::Commands, copies::Copies, failure_lines, settlements::Settlements,
            settler::Settler,
        },
        spec::guarantee::Guarantee,
    },
    link::channel::Generation,
};

/// The most deliveries, and the most answers, taken in one turn of the loop.
const BURST: usize = 64;

/// One consumer on one channel.
pub(crate) struct Session<S, C> {
    generation: Generation,
    pub(super) settings: Arc<SharedSettings>,
    pub(super) subscription: S,
    pub(super) gate: Gate,
    pub(super) intake: Intake,
    answers: Answers,
    /// By delivery tag: given to the handler queue and not answered.
    pub(super) in_flight: Numbered<Arc<Attempt>>,
    pub(super) settlements: Settlements<C>,
    watchdog: Watchdog,
    /// Set once the session takes no more deliveries and finishes those it has.
    pub(super) drain: Option<ConsumerDrain>,
    /// Set once the session is paused: it takes nothing more on this channel and ends when nothing is in hand.
    pub(super) letting_go: bool,
    /// Of a stream: keeps offsets while the session lives.
    keeping: Option<Keeping>,
}

impl<S: Subscribe, C: Commands> Session<S, C> {
    pub(crate) fn new(
        generation: Generation,
        commands: C,
        settings: Arc<SharedSettings>,
        subscription: S,
        answers: Answers,
    ) -> Self {
        let copies = Copies {
            send_queue: Arc::clone(&settings.send_queue),
            connection: settings.connection.clone(),
            side_queues: settings.side_queues.clone(),
        };
        let settler = Settler { commands, copies, events: Arc::clone(&settings.events), seen: settings.seen.clone() };
        Self {
            generation,
            gate: Gate::new(&settings.guard, &settings.quarantine),
            intake: Intake::new(Arc::clone(&settings.steps)),
            settlements: Settlements::new(settler, settings.handler_queue.most_bytes(), settings.reader.clone()),
            watchdog: Watchdog::new(settings.patience),
            settings,
            subscription,
            answers,
            in_flight: Numbered::default(),
            drain: None,
            letting_go: false,
            keeping: None,
        }
    }

    /// Runs until the session has ended. When `draining` turns true, the session takes nothing more and finishes what
    /// it has.
    pub(crate) async fn run(mut self, draining: watch::Receiver<bool>) -> End {
        self.keeping = self.settings.reader.as_ref().map(Keeping::start);
        let end = self.run_until(draining).await;
        if let (Some(reader), false) = (&self.settings.reader, matches!(end, End::ChannelLost(_))) {
            reader.keep_now().await;
        }
        end
    }

    async fn run_until(&mut self, mut draining: watch::Receiver<bool>) -> End {
        // Without room until there are answers, because a consumer at rest never needs it.
        let mut answered = Vec::new();
        let mut overdue = interval(self.settings.patience.check_every());
        // Nothing ticks while nothing is in hand: a process may have thousands of consumers at rest.
        let mut ticks = false;
        // If nothing else forces an ack, the next one waits until this elapses, so that one ack covers many deliveries.
        let mut pause = pin!(sleep(Duration::ZERO));
        loop {
            self.settings.handler_queue.announce();
            if let Some(end) = self.follow().await {
                return end;
            }
            let takes = self.drain.is_none();
            let has_room = takes && !self.letting_go && self.has_room();
            if !ticks && self.has_ages() {
                ticks = true;
                overdue.reset();
                self.watchdog.moved();
            }
            tokio::select! {
                biased;
                () = self.answers.take(&mut answered, BURST) => {
                    self.watchdog.moved();
                    answered.drain(..).for_each(|completion| self.complete(completion));
                }
                () = self.settlements.progress() => {}
                taken = self.intake.next() => self.admit(taken),
                // The channel also tells that the consumer was paused or resumed, which the next turn follows.
                _ = draining.changed(), if takes => if *draining.borrow_and_update() {
                    self.stop_taking().await;
                },
                _ = overdue.tick(), if ticks => {
                    self.look_at_time();
                    ticks = self.has_ages();
                }
                () = self.gate.changed(), if takes => self.settings.note_state(),
                item = self.subscription.next(), if has_room => {
                    if let Some(end) = self.accept_burst(item) {
                        self.settings.handler_queue.announce();
                        // After a cancel the channel still takes acks.
                        self.settlements.ack_all().await;
                        return end;
                    }
                }
                () = &mut pause, if self.settlements.has_front() => {
                    self.settlements.ack_front();
                    pause.as_mut().reset(Instant::now() + LEAST_APART);
                }
            }
        }
    }

    /// Does what the drain, the isolation and the switches ask for. Returns the end if one of them ends the session.
    async fn follow(&mut self) -> Option<End> {
        let idle = self.in_flight.is_empty() && self.settlements.running() == 0;
        if self.drain.is_some() {
            if idle {
                self.settlements.ack_all().await;
                if self.letting_go {
                    self.subscription.close_channel().await;
                }
                return Some(End::Drained);
            }
        } else if self.gate.closes_channel() && idle {
            self.settlements.ack_all().await;
            self.subscription.close_channel().await;
            return Some(End::Isolated);
        }
        self.settlements.relieve(self.subscription.prefetch().unwrap_or(self.settings.prefetch));
        match self.drain {
            Some(_) => None,
            None if self.letting_go || self.settings.guard.pause.is_on() => self.let_go().await,
            None => self.follow_gate().await,
        }
    }

    /// Whether another delivery may be taken. With `AtMostOnce` deliveries are acked on arrival and the broker's
    /// prefetch does not count them. So the length of the handler queue is bounded here, and so is the number of probes
    /// of a half-open switch.
    fn has_room(&self) -> bool {
        match (self.settings.rules.guarantee, self.subscription.prefetch()) {
            (Guarantee::AtLeastOnce, _) | (_, None) => true,
            (Guarantee::AtMostOnce, Some(all)) if all == self.settings.prefetch => {
                self.settings.handler_queue.len() < usize::from(all)
            }
            (Guarantee::AtMostOnce, Some(probes)) => self.in_flight.len() < usize::from(probes),
        }
    }

    /// Takes the deliveries that have arrived, at most [`BURST`]. Returns the end of the session if the channel or the
    /// subscription has ended.
    fn accept_burst(&mut self, first: Option<lapin::Result<Delivery>>) -> Option<End> {
        let mut item = first;
        for taken in 1.. {
            match item {
                Some(Ok(delivery)) => match self.no_stream(&delivery) {
                    Some(end) => return Some(end),
                    None => self.accept(delivery),
                },
                Some(Err(error)) => return Some(End::ChannelLost(error)),
                None => return Some(End::Cancelled),
            }
            if taken == BURST || !self.has_room() {
                break;
            }
            match self.subscription.next().now_or_never() {
                Some(next) => item = next,
                None => break,
            }
        }
        None
    }

    pub(super) fn receive(&mut self, delivery: Delivery) -> Received {
        self.gate.delivered(delivery.delivery_tag);
        self.settlements.delivered(delivery.delivery_tag);
        let in_vain = self.settings.deliveries.of(&delivery);
        let (queue, requests) = (&self.settings.queue, self.settings.requests);
        let message = Received::new(queue, self.generation, in_vain, requests, delivery);
        self.settings.events.received(&message);
        message
    }

    pub(super) fn accept(&mut self, delivery: Delivery) {
        let Placed::Here(position) = self.place(&delivery) else { return };
        let message = Received { position, ..self.receive(delivery) };
        let arrived = self.gate.arrived(&message);
        if arrived == Arrived::First {
            self.settings.note_state();
            self.settings.handler_queue.clear();
        }
        let arrival = verdict::on_arrival(&message, &self.settings.rules);
        if matches!(arrival, Arrival::Handle) && arrived != Arrived::Here {
            // The delivery stays unacked and goes back when the session closes its channel.
            return;
        }
        if self.settings.rules.acks_on_arrival() {
            self.settlements.ack_on_arrival(message.tag);
        }
        match arrival {
            Arrival::Settle(verdict) => self.settle(Arc::new(Attempt::new(message)), verdict),
            Arrival::Handle if self.intake.has_steps() => {
                if let Some(attempt) = self.intake.begin(Attempt::new(message)) {
                    self.hand_over(Arc::new(attempt));
                }
            }
            Arrival::Handle => self.hand_over(Arc::new(Attempt::new(message))),
        }
    }

    /// The intake steps are done with a delivery: it goes to a handler, or is settled.
    fn admit(&mut self, taken: Taken) {
        let (attempt, arrival) = match taken {
            Taken::Ready(attempt) => (attempt, verdict::on_looking_up(false)),
            Taken::HandledBefore(attempt) => (attempt, verdict::on_looking_up(true)),
            Taken::Failed(attempt, outcome) => {
                let verdict = verdict::on_outcome(outcome, &attempt, &self.settings.rules);
                (attempt, Arrival::Settle(verdict))
            }
            Taken::Apart(_) => return,
        };
        match arrival {
            Arrival::Handle => self.hand_over(Arc::new(attempt)),
            Arrival::Settle(verdict) => self.settle(Arc::new(attempt), verdict),
        }
    }

    /// Gives a delivery to whichever handler takes it first; back to its queue, if the consumer has stopped taking
    /// meanwhile.
    fn hand_over(&mut self, attempt: Arc<Attempt>) {
        let takes_none = self.letting_go || self.subscription.prefetch().is_none();
        if takes_none && !self.settings.rules.acks_on_arrival() {
            return self.not_begun(attempt);
        }
        self.in_flight.insert(attempt.tag, Arc::clone(&attempt));
        self.settings.handler_queue.push(attempt);
    }

    /// Takes an answer from the handler queue. It settles its delivery if that came on this channel and still waits for
    /// an answer.
    fn complete(&mut self, Completion { attempt, outcome }: Completion) {
        self.settings.events.crashes(&outcome);
        if let Outcome::LateItem(index, handled) = outcome {
            self.settings.events.emit(DeliveryEvent::Late);
            if handled {
                self.settlements.remember(attempt, Some(vec![index]));
            }
            return;
        }
        if attempt.generation != self.generation {
            return self.complete_orphan(attempt, outcome);
        }
        // The delivery may be at its next attempt already. Then an answer to the earlier attempt is late.
        let is_its_own = self.in_flight.get(attempt.tag).is_some_and(|one| Arc::ptr_eq(one, &attempt));
        if !is_its_own {
            self.settings.events.emit(DeliveryEvent::Late);
            self.note_done(attempt, &outcome);
            return;
        }
        self.in_flight.remove(attempt.tag);
        if let Some(contents) = attempt.contents() {
            self.settings.events.emit(DeliveryEvent::Batch { items: contents.items.len() });
        }
        self.settings.events.answered(&attempt, &outcome);
        self.gate.answered(&attempt, &outcome);
        if matches!(outcome, Outcome::NotStarted) {
            return self.not_begun(attempt);
        }
        match verdict::on_outcome(outcome, &attempt, &self.settings.rules) {
            // A batch of which some items were not begun.
            Verdict::Requeue => self.not_begun(attempt),
            verdict => self.settle(attempt, verdict),
        }
    }

    /// Takes the answer for a delivery whose channel is lost, so it cannot be acked. A delivery that was acked on
    /// arrival is settled as usual.
    fn complete_orphan(&mut self, attempt: Arc<Attempt>, outcome: Outcome) {
        self.settings.orphans.remove(&attempt);
        self.settings.events.answered(&attempt, &outcome);
        if self.settings.rules.acks_on_arrival() {
            let verdict = verdict::on_outcome(outcome, &attempt, &self.settings.rules);
            return self.settle(attempt, verdict);
        }
        attempt.permits.free_key();
        Self::note_offset(&attempt, &outcome);
        let messages = self.note_done(attempt, &outcome);
        if messages > 0 {
            self.settings.events.emit(DeliveryEvent::AckLost { messages });
        }
    }

    /// Work is done, but its delivery can no longer be acked for it. With effectively once it is remembered. Returns
    /// how many messages were handled.
    fn note_done(&mut self, attempt: Arc<Attempt>, outcome: &Outcome) -> usize {
        match (outcome, attempt.contents()) {
            (Outcome::Handled(_), _) => {
                self.settlements.remember(attempt, None);
                1
            }
            (Outcome::Items(items), Some(contents)) => {
                let handled: Vec<usize> = items.handled(contents).collect();
                let count = handled.len();
                self.settlements.remember(attempt, Some(handled));
                count
            }
            _ => 0,
        }
    }

    pub(super) fn settle(&mut self, attempt: Arc<Attempt>, verdict: Verdict) {
        self.gate.settled(&attempt, &verdict);
        if let Verdict::RetryHere { wait, attempt: number, error } = verdict {
            return self.rest(&attempt, wait, number, &error);
        }
        // This process does not try the message again, so the next message of its key need not wait for the settlement.
        attempt.permits.free_key();
        if self.settings.rules.acks_on_arrival() {
            self.settlements.conclude(&attempt, verdict);
        } else {
            self.settlements.settle(attempt, verdict);
        }
    }

    /// Keeps a failed delivery in this process, unacked, until its next attempt.
    fn rest(&mut self, failed: &Attempt, wait: Duration, number: AttemptNumber, error: &str) {
        failure_lines::retry_here(failed, wait, error);
        self.settings.events.emit(DeliveryEvent::RetriedHere { wait });
        self.intake.rest(failed, number, wait, self.settings.seen.clone());
    }

    /// Whether time may make something due in [`look_at_time`](Self::look_at_time).
    fn has_ages(&self) -> bool {
        let Common { reader, handler_queue, orphans, .. } = &**self.settings;
        !self.in_flight.is_empty() || handler_queue.len() > 0 || !orphans.is_empty() || reader.is_some()
    }

    /// Fails deliveries whose handler has had them for too long. Gives back those that have waited too long for a
    /// handler, so that another consumer may have time for them.
    fn look_at_time(&mut self) {
        let limit = self.settings.patience.handler_timeout;
        self.settings.orphans.expire(limit);
        self.in_flight.iter().for_each(|(_, attempt)| attempt.expire_items(limit));
        for (tag, due) in self.watchdog.look(&self.in_flight) {
            if due == Due::GiveBack {
                self.settings.handler_queue.take_back(self.generation, tag);
                continue;
            }
            let Some(attempt) = self.in_flight.get(tag).cloned() else { continue };
            attempt.give_up();
            self.complete(Completion { attempt, outcome: Outcome::too_late(limit) });
        }
        let (queue, handlers) = (&self.settings.queue, &self.settings.handler_queue);
        self.watchdog.look_at_handlers(queue, handlers, self.in_flight.len());
        self.look_at_silence();
    }

    pub(super) fn unsettled(&self) -> usize {
        self.in_flight.len() + self.settlements.running()
    }
}

/// The session has ended: deliveries that no handler has answered yet can no longer be acked.
impl<S, C> Drop for Session<S, C> {
    fn drop(&mut self) {
        let left = self.in_flight.len() + self.settlements.running();
        self.drain.iter_mut().for_each(|drain| drain.left = left);
        if !self.settings.rules.acks_on_arrival() {
            self.in_flight.iter().for_each(|(_, attempt)| attempt.settle_as(Settled::Lost));
            self.settings.events.lost_channel();
        }
        self.settings.orphans.add(self.in_flight.drain());
    }
}

#[cfg(test)]
mod tests;
