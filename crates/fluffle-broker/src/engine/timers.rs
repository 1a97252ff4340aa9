//! Timed events.

use std::cmp::Reverse;

use super::{ChannelKey, Engine, QueueKey, refusal::Refusal, state::Timer};

impl Engine {
    /// The time of the next timer, in the engine's milliseconds.
    pub(crate) fn next_timer(&self) -> Option<u64> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Handles all timers that are due.
    pub(crate) fn tick(&mut self) {
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > self.now {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Expiry(key) => {
                    // Only the timer set last counts. An outdated one would set another, and that would never end.
                    if let Some(queue) = self.queues.get_mut(key).filter(|queue| queue.timer_at == at) {
                        queue.timer_at = u64::MAX;
                        self.drop_expired(key);
                    }
                }
                Timer::Idle(queue) => self.expire_queue(queue),
                Timer::Unacked(channel) => self.time_out(channel),
                Timer::Confirm(channel, tag, accepted) => self.tell_late(channel, tag, accepted),
            }
        }
    }

    pub(super) fn set_timer(&mut self, at: u64, timer: Timer) {
        self.timers.push(Reverse((at, timer)));
    }

    /// Drops expired messages from the head and sets the timer for the next.
    pub(super) fn drop_expired(&mut self, key: QueueKey) {
        let now = self.now;
        while let Some(entry) = self.queues.get_mut(key).and_then(|queue| queue.ready.pop_expired(now)) {
            self.dead_letter(key, &entry.message, "expired");
        }
        let Some(queue) = self.queues.get_mut(key) else { return };
        let next = queue.ready.next_expiry();
        if next < queue.timer_at {
            queue.timer_at = next;
            self.set_timer(next, Timer::Expiry(key));
        }
    }

    fn expire_queue(&mut self, key: QueueKey) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        let Some(after) = queue.spec.expires else { return };
        queue.idle_timer = false;
        // A queue with consumers is in use. The timer is set again when one of them ends.
        if !queue.consumers.all.is_empty() {
            return;
        }
        let due = queue.used_at.saturating_add(after);
        if due <= self.now {
            self.remove_queue(key);
        } else {
            queue.idle_timer = true;
            self.set_timer(due, Timer::Idle(key));
        }
    }

    /// Ensures that the oldest delivery of a channel is checked when its time is over.
    pub(super) fn watch_timeout(&mut self, key: ChannelKey) {
        let timeout = self.limits.consumer_timeout;
        let Some(channel) = self.channels.get_mut(key) else { return };
        let Some(oldest) = channel.unacked.oldest().filter(|_| !channel.timeout_set) else { return };
        let at = oldest.since.saturating_add(timeout);
        channel.timeout_set = true;
        self.set_timer(at, Timer::Unacked(key));
    }

    fn time_out(&mut self, key: ChannelKey) {
        let (now, timeout) = (self.now, self.limits.consumer_timeout);
        let Some(channel) = self.channels.get_mut(key) else { return };
        channel.timeout_set = false;
        let overdue = channel.unacked.oldest().is_some_and(|oldest| oldest.since.saturating_add(timeout) <= now);
        if !overdue {
            self.watch_timeout(key);
            return;
        }
        let text = format!(
            "delivery acknowledgement on channel {} timed out. Timeout value used: {timeout} ms. This timeout value \
             can be configured, see consumers doc guide to learn more",
            channel.number
        );
        self.fail_channel(key, Refusal::precondition(text));
    }
}
