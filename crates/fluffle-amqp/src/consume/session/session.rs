//! One generation of consuming: from a channel's first delivery to its last.

use std::{
    pin::pin,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use fluffle_wire::headers::Attempt;
use futures_util::{
    FutureExt, StreamExt,
    future::LocalBoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    base::{failure::Failure, numbered::Numbered},
    consume::{
        decide::verdict::{self, Arrival, Verdict},
        intake::seen::{self, Known},
        message::received::{Received, Resting, Settled},
        queue::handler_queue::{Answers, Completion, Outcome},
        session::{
            actor::SharedSettings,
            draining::ConsumerDrain,
            guard::Watch,
            quarantine::{Arrived, Isolation},
            stats::{count, count_more},
            subscription::Subscription,
            watchdog::{Due, Watchdog},
        },
        settle::{
            acker::Acker,
            acks::{LEAST_APART, MOST_HELD_BACK},
            at_most_once,
            settler::{NextStep, Settler},
        },
        spec::consume::Guarantee,
    },
    link::channel::{Generation, LeasedChannel},
};

/// Deliveries and answers taken in one turn.
const BURST: usize = 64;

/// How it ended.
pub(crate) enum End {
    Drained,
    Cancelled,
    /// What it held is the broker's again, and comes again one by one.
    Isolated,
    /// The application has paused the consumer: nothing is in hand, and the channel is closed.
    Paused,
    /// It could not consume again after its guard had stopped it.
    Refused(lapin::Error),
    ChannelLost(lapin::Error),
}

/// One generation of consuming.
pub(crate) struct Session {
    pub(super) generation: Generation,
    pub(super) settings: Arc<SharedSettings>,
    pub(super) subscription: Subscription,
    watch: Watch,
    isolation: Isolation,
    /// The last delivery tag seen; they count up.
    last_tag: u64,
    answers: Answers,
    pub(super) settler: Arc<Settler>,
    /// By delivery tag: given to the lane and not answered.
    pub(super) in_flight: Numbered<Arc<Received>>,
    pub(super) acker: Acker,
    pub(super) settling: FuturesUnordered<LocalBoxFuture<'static, NextStep>>,
    /// Effectively once: deliveries whose message is being looked up, in order.
    pub(super) looked_up: FuturesOrdered<LocalBoxFuture<'static, (Arc<Received>, Known)>>,
    /// And those whose message an earlier delivery has in hand; they have no place in the order any more.
    pub(super) held_up: FuturesUnordered<LocalBoxFuture<'static, (Arc<Received>, Known)>>,
    /// Failed, and waiting here for their next attempt.
    pub(super) resting: FuturesUnordered<LocalBoxFuture<'static, (Option<Received>, bool)>>,
    watchdog: Watchdog,
    /// Since when it takes nothing more and finishes what it has.
    draining: Option<ConsumerDrain>,
    /// Paused: takes nothing more on this channel, and ends when nothing is in hand.
    pub(super) letting_go: bool,
}

impl Session {
    pub(crate) fn new(
        lease: LeasedChannel,
        settings: Arc<SharedSettings>,
        subscription: Subscription,
        answers: Answers,
    ) -> Self {
        let settler = Arc::new(Settler {
            channel: lease.channel.clone(),
            copies: Arc::clone(&settings.copies),
            retry_queue: settings.retry_queue.clone(),
            dead_letter_queue: settings.dead_letter_queue.clone(),
            connection: settings.connection.clone(),
            counters: Arc::clone(&settings.counters),
            seen: settings.seen.clone(),
        });
        let watchdog = Watchdog::new(settings.patience);
        let acker = Acker::new(lease.channel.clone(), settings.handler_queue.most_bytes());
        Self {
            generation: lease.generation,
            watch: Watch::new(&settings.guard),
            isolation: Isolation::new(&settings.quarantine),
            settings,
            subscription,
            last_tag: 0,
            answers,
            settler,
            in_flight: Numbered::default(),
            acker,
            settling: FuturesUnordered::new(),
            looked_up: FuturesOrdered::new(),
            held_up: FuturesUnordered::new(),
            resting: FuturesUnordered::new(),
            watchdog,
            draining: None,
            letting_go: false,
        }
    }

    pub(crate) async fn run(mut self, mut draining: watch::Receiver<bool>) -> End {
        let mut answered = Vec::with_capacity(BURST);
        let mut overdue = interval(self.settings.patience.check_every());
        let mut held_back = interval(MOST_HELD_BACK / 2);
        held_back.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut pause = pin!(sleep(Duration::ZERO));
        let mut drain_asked = false;
        loop {
            self.settings.handler_queue.announce();
            if drain_asked && self.in_flight.is_empty() && self.settling.is_empty() {
                self.acker.ack_all().await;
                return End::Drained;
            }
            if self.isolation.is_over() && !drain_asked && self.unsettled() == 0 {
                self.acker.ack_all().await;
                self.subscription.close_channel().await;
                return End::Isolated;
            }
            self.acker.relieve(self.subscription.prefetch().unwrap_or(self.settings.prefetch));
            if !drain_asked {
                let end = if self.is_paused() { self.let_go().await } else { self.follow_guard().await };
                if let Some(end) = end {
                    return end;
                }
            }
            let taking = !drain_asked && !self.letting_go && self.has_room();
            tokio::select! {
                biased;
                () = self.answers.take(&mut answered, BURST) => {
                    self.watchdog.moved();
                    for completion in answered.drain(..) {
                        self.complete(completion);
                    }
                }
                Some(()) = self.acker.written() => {}
                Some(step) = self.settling.next(), if !self.settling.is_empty() => self.follow_up(step),
                Some((received, known)) = self.looked_up.next(), if !self.looked_up.is_empty() => {
                    self.admit(received, known);
                }
                Some((received, known)) = self.held_up.next(), if !self.held_up.is_empty() => {
                    self.admit(received, known);
                }
                Some((Some(received), handled)) = self.resting.next(), if !self.resting.is_empty() => {
                    self.follow(Arc::new(received), verdict::looked_up(handled));
                }
                _ = draining.changed(), if !drain_asked => {
                    // Or the consumer was paused or resumed, which the next turn sees.
                    if *draining.borrow_and_update() {
                        drain_asked = true;
                        self.stop_taking().await;
                    }
                }
                _ = overdue.tick() => {
                    self.expire();
                    self.watchdog.look_at_handlers(&self.settings.queue, &self.settings.handler_queue, self.in_flight.len());
                }
                _ = held_back.tick(), if self.acker.is_waiting() => self.acker.ack_overdue(),
                () = self.watch.changed(), if self.watch.is_on() && !drain_asked => {}
                () = self.isolation.changed(), if self.isolation.is_on() && !drain_asked => {}
                item = self.subscription.next(), if taking => {
                    if let Some(end) = self.accept_burst(item) {
                        self.settings.handler_queue.announce();
                        // After a cancel the channel still takes acks.
                        self.acker.ack_all().await;
                        return end;
                    }
                }
                () = &mut pause, if self.acker.has_front() => {
                    self.acker.ack_front();
                    pause.as_mut().reset(Instant::now() + LEAST_APART);
                }
            }
        }
    }

    /// With `AtMostOnce` the broker's prefetch counts what is acked at once, so the lane is bounded here; and so are the
    /// probes of a half-open circuit breaker.
    fn has_room(&self) -> bool {
        match (self.settings.guarantee, self.subscription.prefetch()) {
            (Guarantee::AtLeastOnce, _) | (_, None) => true,
            (Guarantee::AtMostOnce, Some(all)) if all == self.settings.prefetch => {
                self.settings.handler_queue.waiting() < usize::from(all)
            }
            (Guarantee::AtMostOnce, Some(probes)) => self.in_flight.len() < usize::from(probes),
        }
    }

    /// Consumes, stops, or takes a few to probe, as circuit breaker and kill switch have it. Stopping leaves nothing behind
    /// that another consumer of the queue could handle: what no handler has begun goes back. What one has, it finishes.
    async fn follow_guard(&mut self) -> Option<End> {
        if self.unsettled() > 0 || !self.looked_up.is_empty() {
            self.isolation.is_busy();
        }
        let allowed = self.isolation.allows(self.settings.guard.allows(self.settings.prefetch));
        if allowed == self.subscription.prefetch() || self.isolation.is_over() {
            self.watch.look(self.last_tag + 1);
            return None;
        }
        match self.subscription.end().await {
            Ok(left) => self.give_back(left),
            Err(error) => return Some(End::ChannelLost(error)),
        }
        self.settings.handler_queue.announce();
        self.watch.look(self.last_tag + 1);
        tracing::info!(queue = %self.settings.queue, state = ?self.settings.guard.state(), prefetch = ?allowed, "consuming changes");
        match allowed {
            Some(prefetch) => self.subscription.begin(prefetch).await.err().map(End::Refused),
            None => None,
        }
    }

    /// What was delivered and no handler has begun. At most once, what waits is acked already, and what would go back would
    /// be refused as delivered again: all of it is handled.
    fn give_back(&mut self, left: Vec<lapin::message::Delivery>) {
        if self.settings.guarantee == Guarantee::AtMostOnce {
            return left.into_iter().for_each(|delivery| self.accept(delivery));
        }
        self.settings.handler_queue.clear();
        for delivery in left {
            let received = self.receive(delivery);
            self.in_flight.insert(received.tag, Arc::clone(&received));
            self.complete(Completion { received, outcome: Outcome::NotStarted });
        }
    }

    /// Takes what has arrived, up to a burst; gives the end if that has arrived too.
    fn accept_burst(&mut self, first: Option<lapin::Result<lapin::message::Delivery>>) -> Option<End> {
        let mut item = first;
        for taken in 1.. {
            match item {
                Some(Ok(delivery)) => self.accept(delivery),
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

    fn receive(&mut self, delivery: lapin::message::Delivery) -> Arc<Received> {
        count(&self.settings.counters.received);
        self.last_tag = delivery.delivery_tag;
        self.acker.delivered(delivery.delivery_tag);
        let in_vain = self.settings.deliveries.of(&delivery);
        Arc::new(Received::new(&self.settings.queue, self.generation, in_vain, self.settings.requests, delivery))
    }

    pub(super) fn accept(&mut self, delivery: lapin::message::Delivery) {
        let received = self.receive(delivery);
        let arrived = self.isolation.look(&received);
        if arrived == Arrived::First {
            self.settings.handler_queue.clear();
        }
        match verdict::receive(
            &received,
            self.settings.guarantee,
            self.settings.seen.is_some(),
            self.settings.delivery_limit,
        ) {
            Arrival::Settle(verdict) => return self.settle(received, verdict),
            // Until its channel is closed.
            _ if arrived != Arrived::Here => return,
            Arrival::Handle => {}
            Arrival::LookUp(key) => return self.look_up(received, key),
            Arrival::AckAndHandle => self.acker.finish_on_receipt(received.tag),
            Arrival::AckAndDrop(why) => {
                self.acker.finish_on_receipt(received.tag);
                return at_most_once::drop_delivery(&received, &self.settings.counters, &why);
            }
        }
        self.hand_over(received);
    }

    /// To whichever handler takes it first; back to its queue, if the consumer has stopped taking meanwhile.
    fn hand_over(&mut self, received: Arc<Received>) {
        self.in_flight.insert(received.tag, Arc::clone(&received));
        let takes_none = self.letting_go || self.subscription.prefetch().is_none();
        if takes_none && self.settings.guarantee == Guarantee::AtLeastOnce {
            return self.complete(Completion { received, outcome: Outcome::NotStarted });
        }
        self.settings.handler_queue.push(received);
    }

    fn look_up(&mut self, received: Arc<Received>, key: String) {
        let Some(seen) = self.settings.seen.clone() else { return self.hand_over(received) };
        self.looked_up.push_back(Box::pin(async move { (received, seen.look_up(key).await) }));
    }

    /// Effectively once: what is known of a delivery's message decides whether it is handled.
    fn admit(&mut self, received: Arc<Received>, known: Known) {
        match (known, self.settings.seen.clone()) {
            (Known::Handled, _) => self.follow(received, verdict::looked_up(true)),
            (Known::New(claim), _) => {
                let _ = received.claim.set(Arc::new(claim));
                self.follow(received, verdict::looked_up(false));
            }
            (Known::InHand(release), Some(seen)) => self.held_up.push(Box::pin(async move {
                release.wait().await;
                let key = seen::key(&received).unwrap_or_default();
                (received, seen.look_up(key).await)
            })),
            (Known::InHand(_), None) => self.hand_over(received),
        }
    }

    /// An answer from the lane: settled if it is for a delivery of this channel that still waits for one.
    fn complete(&mut self, Completion { received, outcome }: Completion) {
        count_more(&self.settings.counters.crashed, outcome.crashes());
        if let Outcome::LateItem(index, handled) = outcome {
            count(&self.settings.counters.late);
            return if handled {
                self.remember(received, Some(vec![index]))
            };
        }
        if received.generation != self.generation {
            self.settings.orphans.remove(&received);
            received.free_key();
            // At most once it was acked before: then its channel is nobody's business any more.
            if self.settings.guarantee == Guarantee::AtMostOnce {
                self.settle_at_most_once(received, outcome);
            } else {
                self.note_done(received, &outcome, &self.settings.counters.work_done_ack_lost);
            }
            return;
        }
        // A tag may have been given to a handler before, and be at its next attempt: only its own answer is its answer.
        let is_its_own = self.in_flight.get(received.tag).is_some_and(|one| Arc::ptr_eq(one, &received));
        let taken = if is_its_own { self.in_flight.remove(received.tag) } else { None };
        if taken.is_some() {
            count_more(&self.settings.counters.batches, usize::from(received.contents.get().is_some()));
            self.watch.answered(&received, &outcome);
        }
        match taken {
            // It goes back with its channel.
            Some(received)
                if (self.isolation.is_over() || self.letting_go) && matches!(outcome, Outcome::NotStarted) =>
            {
                drop(self.settler.begin(received));
            }
            Some(received) if self.settings.guarantee == Guarantee::AtLeastOnce => {
                match verdict::decide(outcome, &received, &self.settings.retry) {
                    // A batch of which some items were not begun: as above.
                    Verdict::Requeue if self.letting_go => drop(self.settler.begin(received)),
                    verdict => self.settle(received, verdict),
                }
            }
            Some(received) => {
                received.free_key();
                self.settle_at_most_once(received, outcome);
            }
            None => {
                count(&self.settings.counters.late);
                self.note_done(received, &outcome, &AtomicU64::new(0));
            }
        }
    }

    fn settle(&mut self, received: Arc<Received>, verdict: Verdict) {
        let items = received.contents.get().map_or(1, |contents| contents.items.len());
        self.watch.settled(received.tag, items, &verdict);
        if let Verdict::RetryHere { wait, attempt, error } = verdict {
            return self.rest(&received, wait, attempt, &error);
        }
        let mut settling = self.settler.begin(received);
        if settling.at_once(&verdict) {
            return self.acker.finish(settling);
        }
        // It failed, and is not tried again here: others of its key need not wait for what becomes of it.
        settling.received().free_key();
        let settler = Arc::clone(&self.settler);
        settler.mark(&mut settling, &verdict);
        self.settling.push(Box::pin(async move { settler.settle(settling, verdict).await }));
    }

    fn follow_up(&mut self, step: NextStep) {
        match step {
            NextStep::Ack(settling) => self.acker.finish(settling),
            NextStep::Written(tag) => self.acker.settled_otherwise(tag),
            NextStep::Over => {}
        }
    }

    /// Keeps a failed delivery until its next attempt.
    fn rest(&mut self, received: &Received, wait: Duration, attempt: Attempt, error: &str) {
        tracing::warn!(
            queue = %received.queue, message_id = received.message_id().unwrap_or("-"),
            attempt = received.attempt.get(), ?wait, %error, "not handled: retry in this process"
        );
        count(&self.settings.counters.retried);
        received.release();
        let (again, seen) = (Resting::new(received.again(attempt)), self.settings.seen.clone());
        self.resting.push(Box::pin(async move {
            sleep(wait).await;
            // Its handler may have finished after all, too late to say so.
            let handled = match (&seen, again.key()) {
                (Some(seen), Some(key)) => seen.has(key).await,
                _ => false,
            };
            (again.wake(), handled)
        }));
    }

    fn follow(&mut self, received: Arc<Received>, arrival: Arrival) {
        match arrival {
            Arrival::Settle(verdict) => self.settle(received, verdict),
            _ => self.hand_over(received),
        }
    }

    /// Deliveries whose handler has had them for too long are failed attempts; those that waited for one for too long go
    /// back to the queue, where another consumer may have time for them.
    fn expire(&mut self) {
        let limit = self.settings.patience.handler_timeout;
        self.settings.orphans.expire(limit);
        self.in_flight.iter().for_each(|(_, received)| received.expire_items(limit));
        for (tag, due) in self.watchdog.look(&self.in_flight) {
            if due == Due::GiveBack {
                self.settings.handler_queue.take_back(self.generation, tag);
                continue;
            }
            let Some(received) = self.in_flight.get(tag).cloned() else { continue };
            received.give_up();
            let failure = Failure::retry(format!("the handler did not answer within {limit:?}"));
            self.complete(Completion { received, outcome: Outcome::Failed(failure) });
        }
    }

    /// No more deliveries: cancels the subscription and takes back what no handler has been given.
    async fn stop_taking(&mut self) {
        let left = self.subscription.end().await.unwrap_or_else(|error| {
            tracing::warn!(queue = %self.settings.queue, %error, "basic.cancel did not work: closing the channel will do");
            Vec::new()
        });
        // At most once what waits is acked already: nobody else will handle it.
        if self.settings.guarantee == Guarantee::AtLeastOnce {
            self.give_back(left);
        }
        // The broker has these again when the channel closes.
        self.looked_up.clear();
        self.held_up.clear();
        self.resting.clear();
        self.draining =
            Some(ConsumerDrain::begin(&self.settings.queue, self.settings.clock.for_work(), self.unsettled()));
    }

    pub(super) fn unsettled(&self) -> usize {
        self.in_flight.len() + self.settling.len()
    }
}

/// The channel is gone: what no handler has answered yet cannot be acked any more.
impl Drop for Session {
    fn drop(&mut self) {
        let left = self.unsettled();
        self.draining.as_mut().into_iter().for_each(|draining| draining.left = left);
        if self.settings.guarantee == Guarantee::AtLeastOnce {
            self.in_flight.iter().for_each(|(_, received)| received.settle_as(Settled::Lost));
        }
        self.settings.orphans.add(self.in_flight.drain());
    }
}
