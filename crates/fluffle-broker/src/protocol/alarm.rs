//! The alarm that stops publishers. As in RabbitMQ (rabbit_reader's throttle), a connection that publishes while the
//! alarm is raised is told so, and is not read until the alarm is over.

// One thought with shared.rs: `Shared` holds the alarm, and a change of the alarm goes to every link in `Shared`.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use amq_protocol::protocol::{AMQPClass, connection};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    link::{Link, short},
    shared::Shared,
};

/// RabbitMQ's text of the memory alarm.
const LOW_ON_MEMORY: &str = "low on memory";

/// A source of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Memory,
    Fault(u64),
}

#[derive(Debug)]
struct Reason {
    source: Source,
    text: String,
    until: Option<Instant>,
}

#[derive(Debug, Default)]
pub(crate) struct Alarm {
    reasons: RefCell<Vec<Reason>>,
    raised: Cell<bool>,
    low_on_memory: Cell<bool>,
    changed: Notify,
}

impl Alarm {
    /// Raises the alarm for a source, or renews it.
    pub(super) fn raise(&self, source: Source, text: &str, time: Duration) {
        let mut reasons = self.reasons.borrow_mut();
        reasons.retain(|reason| reason.source != source);
        reasons.push(Reason { source, text: text.to_owned(), until: Instant::now().checked_add(time) });
        self.raised.set(true);
        self.changed.notify_one();
    }

    fn text(&self) -> String {
        self.reasons.borrow().first().map(|reason| reason.text.clone()).unwrap_or_default()
    }

    fn next_end(&self) -> Option<Instant> {
        self.reasons.borrow().iter().filter_map(|reason| reason.until).min()
    }
}

impl Shared {
    /// Called when a connection has published. If the alarm is raised, nothing more is read from the connection.
    pub(super) fn throttle(&self, link: &Link) {
        if self.alarm.raised.get() {
            link.block(&self.alarm.text());
        }
    }

    /// Raises the alarm when messages take too much memory, and ends it when a tenth of the limit is free again.
    pub(super) fn watch_memory(&self) {
        let (used, limit) = (self.memory.used(), self.settings.memory_limit);
        if !self.alarm.low_on_memory.get() {
            if used > limit {
                tracing::warn!(used, limit, "messages take more memory than they may: publishers are blocked");
                self.alarm.low_on_memory.set(true);
                self.alarm.raise(Source::Memory, LOW_ON_MEMORY, Duration::MAX);
            }
        } else if used <= limit / 10 * 9 {
            self.alarm.low_on_memory.set(false);
            self.lift(|reason| reason == Source::Memory);
        }
    }

    /// Ends the alarm for these sources. When no source is left, publishers go on.
    pub(super) fn lift(&self, lifted: impl Fn(Source) -> bool) {
        self.lift_reasons(|reason| lifted(reason.source));
    }

    fn lift_reasons(&self, lifted: impl Fn(&Reason) -> bool) {
        let mut reasons = self.alarm.reasons.borrow_mut();
        reasons.retain(|reason| !lifted(reason));
        let over = reasons.is_empty() && self.alarm.raised.replace(!reasons.is_empty());
        drop(reasons);
        if over {
            self.all_links().iter().for_each(|link| link.unblock());
        }
    }
}

impl Link {
    fn block(&self, reason: &str) {
        if self.blocked.replace(true) || !self.hears_blocked.get() {
            return;
        }
        let blocked = connection::Blocked { reason: short(reason) };
        self.send(0, AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)));
    }

    fn unblock(&self) {
        if !self.blocked.replace(false) {
            return;
        }
        if self.hears_blocked.get() {
            let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
            self.send(0, AMQPClass::Connection(unblocked));
        }
        self.last_read.set(Instant::now());
        self.unblocked.notify_one();
    }
}

/// Ends alarms whose time is over.
pub(crate) async fn keep_alarm(shared: Rc<Shared>) {
    loop {
        let Some(end) = shared.alarm.next_end() else {
            shared.alarm.changed.notified().await;
            continue;
        };
        tokio::select! {
            () = sleep_until(end) => {
                let now = Instant::now();
                shared.lift_reasons(|reason| reason.until.is_some_and(|until| until <= now));
            }
            () = shared.alarm.changed.notified() => {}
        }
    }
}
