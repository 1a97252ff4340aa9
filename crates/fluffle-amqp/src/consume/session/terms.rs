//! What a consumer's settings come to.

use crate::{
    base::requests::Requests,
    consume::{
        session::{guard::Guard, pause::Pause, quarantine::Quarantine, watchdog::Patience},
        spec::consume::{Consume, Guarantee, cores},
    },
};

impl<T, R> Consume<T, R> {
    /// How it takes messages that ask for an answer.
    pub(crate) fn requests(&self, answers: bool) -> Requests {
        Requests { answers, retried: self.retry_requests }
    }

    /// How many handler actors, see [`instances`](Self::instances).
    pub(crate) fn handlers(&self) -> usize {
        let of_cores = || if self.key.is_some() { cores() } else { 1 };
        self.instances.unwrap_or_else(of_cores)
    }

    /// The limit chosen, or what the retry policy makes of it.
    pub(crate) fn deliveries(&self) -> u32 {
        self.delivery_limit.unwrap_or_else(|| self.retry.attempts().saturating_mul(2).clamp(6, 20))
    }

    /// At most once nothing comes again, so nothing is suspect.
    pub(crate) fn quarantine(&self) -> Quarantine {
        let limit = (self.guarantee == Guarantee::AtLeastOnce).then(|| self.deliveries());
        Quarantine::new(limit, self.prefetch)
    }

    /// The circuit breaker and the kill switch, ready for use.
    pub(crate) fn guard(&self) -> Guard {
        let kill_switch = self.kill_switch.as_ref().map(|switch| switch.shared(&self.queue));
        Guard { breaker: self.circuit_breaker.clone(), kill_switch, pause: Pause::default() }
    }

    /// How long deliveries may take; warns when that is longer than the broker will wait.
    pub(crate) fn patience(&self) -> Patience {
        let handler_timeout = self.handler_timeout;
        if self.guarantee == Guarantee::AtMostOnce {
            return Patience { handler_timeout, give_back_after: None, consumer_timeout: None };
        }
        let consumer_timeout = self.consumer_timeout;
        let give_back_after = self.give_back_after.unwrap_or(consumer_timeout / 2);
        if give_back_after.saturating_add(handler_timeout) > consumer_timeout {
            tracing::warn!(
                queue = %self.queue, ?handler_timeout, ?give_back_after, ?consumer_timeout,
                "the broker may close the channel over a slow handler before its time is up: shorten the first two together \
                 below consumer_timeout, or say with `Consume::consumer_timeout` that the broker's is longer"
            );
        }
        Patience { handler_timeout, give_back_after: Some(give_back_after), consumer_timeout: Some(consumer_timeout) }
    }
}
