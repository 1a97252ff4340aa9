//! What a session does when it must not go on as it is: follows its switches, lets go of what it has when it is paused,
//! and gives back what no handler has begun.

use std::sync::{Arc, atomic::Ordering::SeqCst};

use lapin::message::Delivery;

use crate::consume::{
    attempt::attempt::Attempt,
    decide::verdict,
    session::{draining::ConsumerDrain, end::End, session::Session, subscription::Subscribe},
    settle::commands::Commands,
};

impl<S: Subscribe, C: Commands> Session<S, C> {
    /// Makes the subscription what the gate allows: none, or one with another prefetch. The old subscription ends
    /// first, and what no handler has begun goes back, so that another consumer of the queue can handle it. Handlers
    /// finish what they have begun.
    pub(super) async fn follow_gate(&mut self) -> Option<End> {
        let busy = self.unsettled() > 0 || !self.intake.is_empty();
        let allowed = self.gate.allows(self.settings.prefetch, busy);
        if allowed == self.subscription.prefetch() || self.gate.closes_channel() {
            self.gate.followed();
            return None;
        }
        if self.settings.reader.is_some() && self.subscription.is_engaged() {
            // The next session, on a fresh channel, reads on from the first message that is not done.
            self.gate.followed();
            return self.let_go().await;
        }
        match self.subscription.end().await {
            Ok(left) => self.give_back(left),
            Err(error) => return Some(End::ChannelLost(error)),
        }
        self.settings.handler_queue.announce();
        self.gate.followed();
        tracing::info!(
            queue = %self.settings.queue, state = ?self.settings.guard.state(), prefetch = ?allowed,
            "the consumer's switches changed its subscription; without a prefetch it is not subscribed"
        );
        match allowed {
            Some(prefetch) => self.subscription.begin(prefetch).await.err().map(End::Refused),
            None => None,
        }
    }

    /// The consumer is paused: takes nothing more, finishes what handlers have begun, and gives the rest back by
    /// closing the channel. The next session waits without a subscription until the consumer is resumed.
    ///
    /// The subscription ends with its channel and is not cancelled before, because both `basic.nack` and `basic.cancel`
    /// put messages behind the rest of a quorum queue without an `x-delivery-limit`, out of their order: RabbitMQ
    /// itself requeues what it was about to deliver to a subscription that is cancelled. Until the channel closes, the
    /// prefetch bounds what arrives, and it is left alone.
    pub(super) async fn let_go(&mut self) -> Option<End> {
        if !self.subscription.is_engaged() {
            // Nothing was ever delivered on this channel.
            return None;
        }
        if !self.letting_go {
            self.letting_go = true;
            if self.settings.rules.acks_on_arrival() {
                // What was delivered is handled: it is acked already, and would be dropped if it came again.
                match self.subscription.end().await {
                    Ok(left) => left.into_iter().for_each(|delivery| self.accept(delivery)),
                    Err(error) => return Some(End::ChannelLost(error)),
                }
            } else {
                self.intake.clear();
                self.settings.handler_queue.clear();
            }
            self.settings.handler_queue.announce();
            let begun = self.in_flight.iter().filter(|(_, attempt)| attempt.is_started()).count();
            let (queue, in_hand) = (&self.settings.queue, begun + self.settlements.running());
            let paused_by = if self.settings.guard.pause.is_on() { "the application" } else { "its switches" };
            tracing::info!(%queue, in_hand, paused_by, "paused: finishes what is in hand; all else goes back");
        }
        self.settings.held.store(self.unsettled(), SeqCst);
        if self.unsettled() > 0 {
            return None;
        }
        self.settlements.ack_all().await;
        self.subscription.close_channel().await;
        tracing::info!(queue = %self.settings.queue, "paused: everything in hand is settled, the channel is closed");
        Some(End::Paused)
    }

    /// Gives back what was delivered and no handler has begun. At most once, everything delivered is handled instead:
    /// what waits is acked already, and what went back would be dropped when it came again.
    pub(super) fn give_back(&mut self, left: Vec<Delivery>) {
        if self.settings.rules.acks_on_arrival() {
            return left.into_iter().for_each(|delivery| self.accept(delivery));
        }
        self.settings.handler_queue.clear();
        for delivery in left {
            let attempt = Attempt::new(self.receive(delivery));
            self.not_begun(Arc::new(attempt));
        }
    }

    /// Settles a delivery that no handler has begun and that this consumer does not keep.
    pub(super) fn not_begun(&mut self, attempt: Arc<Attempt>) {
        // A stream delivers it again on a fresh channel only.
        self.letting_go |= self.settings.rules.is_stream && self.drain.is_none() && self.subscription.is_engaged();
        let verdict = verdict::not_begun(&self.settings.rules, self.closes_channel());
        self.settle(attempt, verdict);
    }

    /// Whether the channel is to be closed as soon as nothing is in hand.
    pub(super) fn closes_channel(&self) -> bool {
        self.letting_go || self.gate.closes_channel()
    }

    /// Begins the drain: ends the subscription and gives back what no handler has begun.
    ///
    /// The subscription to a queue with a single active consumer ends with its channel, as at a [pause](Self::let_go).
    /// With a `basic.cancel` RabbitMQ would make another consumer the active one at once, and what goes back after that
    /// would come behind what that one was given.
    pub(super) async fn stop_taking(&mut self) {
        if self.settings.single_active && !self.settings.rules.acks_on_arrival() {
            self.letting_go = true;
            self.intake.clear();
            self.settings.handler_queue.clear();
            return self.begin_drain();
        }
        let left = self.subscription.end().await.unwrap_or_else(|error| {
            tracing::warn!(
                queue = %self.settings.queue, %error,
                "basic.cancel failed while the consumer stops: closing the channel ends the subscription"
            );
            Vec::new()
        });
        // With `AtMostOnce` the waiting deliveries are acked already, so only this consumer can still handle them.
        if !self.settings.rules.acks_on_arrival() {
            self.give_back(left);
        }
        // The broker requeues these deliveries when the channel closes.
        self.intake.clear();
        self.begin_drain();
    }

    fn begin_drain(&mut self) {
        let limit = self.settings.clock.for_work();
        self.drain = Some(ConsumerDrain::begin(&self.settings.queue, limit, self.unsettled()));
    }
}
