//! Decides by circuit breaker and kill switch whether a consumer takes deliveries, and reports its results to both.

use std::{future::pending, sync::Arc};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    base::consumer_state::ConsumerState,
    consume::{
        attempt::{attempt::Attempt, outcome::Outcome},
        decide::verdict::Verdict,
        session::pause::Pause,
    },
    flow::{
        breaker::{CircuitBreaker, SharedSwitch},
        switch::{BreakerState, Epoch},
    },
};

/// The switches of one consumer. They outlive its channels, because a lost connection must not close an open switch.
#[derive(Default)]
pub(crate) struct Guard {
    pub(crate) breaker: Option<CircuitBreaker>,
    pub(crate) kill_switch: Option<Arc<SharedSwitch>>,
    pub(crate) pause: Pause,
}

impl Guard {
    /// The state that the switches cause: `Consuming` only if all of them are closed.
    pub(crate) fn state(&self) -> ConsumerState {
        if self.pause.is_on() {
            return ConsumerState::Paused;
        }
        match (look(self.kill_switch()), look(self.breaker())) {
            (BreakerState::Open, _) => ConsumerState::Killed,
            (_, BreakerState::Open) => ConsumerState::BreakerOpen,
            (BreakerState::HalfOpen, _) | (_, BreakerState::HalfOpen) => ConsumerState::Probing,
            (BreakerState::Closed, BreakerState::Closed) => ConsumerState::Consuming,
        }
    }

    /// How many deliveries the consumer may have unacked, at most `prefetch`. `None` if it must not consume.
    pub(crate) fn allows(&self, prefetch: u16) -> Option<u16> {
        match self.state() {
            ConsumerState::Consuming | ConsumerState::Unsubscribed | ConsumerState::Isolating => Some(prefetch),
            ConsumerState::BreakerOpen | ConsumerState::Killed | ConsumerState::Paused => None,
            ConsumerState::Probing => {
                let half_open = self.all().filter(|switch| switch.look().0 == BreakerState::HalfOpen);
                half_open.map(SharedSwitch::probes).min().map(|probes| probes.min(prefetch))
            }
        }
    }

    /// Closes both switches and ends the pause. Whether any of the three had stopped the consumer.
    pub(crate) fn resume(&self) -> bool {
        // Each of them, whatever the first one says.
        let opened = self.all().filter(|switch| switch.reset()).count() > 0;
        self.pause.set(false) || opened
    }

    pub(crate) fn breaker(&self) -> Option<&SharedSwitch> {
        self.breaker.as_ref().map(|breaker| &**breaker.shared())
    }

    pub(crate) fn kill_switch(&self) -> Option<&SharedSwitch> {
        self.kill_switch.as_deref()
    }

    fn all(&self) -> impl Iterator<Item = &SharedSwitch> {
        self.breaker().into_iter().chain(self.kill_switch())
    }
}

fn look(switch: Option<&SharedSwitch>) -> BreakerState {
    switch.map_or(BreakerState::Closed, |switch| switch.look().0)
}

/// One channel's view of a [`Guard`]. Only deliveries that arrived after the last change of a switch count.
pub(crate) struct Watch {
    guard: Arc<Guard>,
    breaker: Option<Watched>,
    kill_switch: Option<Watched>,
    /// The first delivery tag that counts.
    since: u64,
}

struct Watched {
    epoch: Epoch,
    changes: watch::Receiver<()>,
}

impl Watch {
    pub(crate) fn new(guard: &Arc<Guard>) -> Self {
        let watched =
            |switch: Option<&SharedSwitch>| switch.map(|one| Watched { changes: one.changes(), epoch: one.look().1 });
        let (breaker, kill_switch) = (watched(guard.breaker()), watched(guard.kill_switch()));
        Self { guard: Arc::clone(guard), breaker, kill_switch, since: 0 }
    }

    /// Whether there is anything to wait for.
    pub(crate) fn is_on(&self) -> bool {
        self.breaker.is_some() || self.kill_switch.is_some()
    }

    /// Looks at the switches again. If one has changed, deliveries from `tag` on are the first to count.
    pub(crate) fn look(&mut self, tag: u64) {
        for (watched, switch) in
            [(&mut self.breaker, self.guard.breaker()), (&mut self.kill_switch, self.guard.kill_switch())]
        {
            let (Some(watched), Some(switch)) = (watched, switch) else { continue };
            let (_, epoch, _) = switch.look();
            if epoch != watched.epoch {
                watched.epoch = epoch;
                self.since = tag;
            }
        }
    }

    /// Waits until [`Guard::allows`] may give another number. Cancellation safe.
    pub(crate) async fn changed(&mut self) {
        let due = self.guard.all().filter_map(|switch| switch.look().2).min();
        tokio::select! {
            () = changed(&mut self.breaker) => {}
            () = changed(&mut self.kill_switch) => {}
            () = until(due) => {}
        }
    }

    /// Reports a handler's answer to the breaker, if it says something about the service that the breaker guards. A
    /// rejection does not, unless the breaker counts rejections. A message that no handler was given, for example
    /// because it could not be decoded, does not either: otherwise anyone who may publish to the queue could open the
    /// breaker.
    pub(crate) fn answered(&self, attempt: &Attempt, outcome: &Outcome) {
        let (Some(watched), Some(breaker)) = (&self.breaker, &self.guard.breaker) else { return };
        if !attempt.is_started() {
            return;
        }
        let failed = match outcome {
            Outcome::Handled(_) => false,
            Outcome::Crashed(_) => true,
            Outcome::Failed(failure) if breaker.counts(failure) => true,
            // A batch is one result: a failure if more than half of its items failed.
            Outcome::Items(items) => {
                let counts = |why: &Outcome| match why {
                    Outcome::Crashed(_) => true,
                    Outcome::Failed(failure) => breaker.counts(failure),
                    _ => false,
                };
                items.failed.iter().filter(|(_, why)| counts(why)).count() * 2 > items.until
            }
            Outcome::Failed(_)
            | Outcome::Undecodable(_)
            | Outcome::Unusable(_)
            | Outcome::NotStarted
            | Outcome::Expired
            | Outcome::LateItem(..) => {
                return;
            }
        };
        if attempt.tag >= self.since {
            breaker.shared().record(watched.epoch, failed);
        }
    }

    /// Reports the verdict on a delivery of `items` messages to the kill switch. A retry is not reported, because the
    /// message has not ended yet.
    pub(crate) fn settled(&self, tag: u64, items: usize, verdict: &Verdict) {
        let (Some(watched), Some(switch)) = (&self.kill_switch, self.guard.kill_switch()) else { return };
        if let Some(dead) = verdict.ends_dead(items)
            && tag >= self.since
        {
            switch.record(watched.epoch, dead);
        }
    }
}

async fn changed(watched: &mut Option<Watched>) {
    let Some(watched) = watched else { return pending().await };
    if watched.changes.changed().await.is_err() {
        // Unreachable: the guard owns the sender and outlives this receiver.
        pending().await
    }
}

/// Waits until `due`, or for ever if it is `None`.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
