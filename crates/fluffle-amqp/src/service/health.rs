//! Whether a service is alive and ready, and what is wrong if it is not.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use fluffle_supervise::{ExitReason, NodeSnapshot, State};
use futures_util::FutureExt;

use crate::{
    base::consumer_state::ConsumerState,
    service::{
        Service,
        consumer::Consumer,
        handler_place::BlockedIo,
        status::{ChannelStatus, ConnectionStatus, ConsumerStatus, ServiceStatus},
    },
};

/// How late a thread of the service may be before the service counts as dead.
const LATEST: Duration = Duration::from_secs(30);

/// Whether a service is alive and ready: see [`Service::health`]. `Display` says what is wrong, a line each.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Health {
    /// Why the service is not alive: only a new process helps. Empty if it is alive.
    pub not_alive: Vec<Finding>,
    /// Why the service is not ready, beside what is in `not_alive`. Empty if there is nothing.
    pub not_ready: Vec<Finding>,
    /// What a person may want to know, and what changes neither answer: a consumer is paused, a circuit breaker is
    /// open, the broker blocks a connection.
    pub notes: Vec<Finding>,
}

impl Health {
    /// Whether the supervision tree runs and its threads answer.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.not_alive.is_empty()
    }

    /// Whether the service is alive and does all of its work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_alive() && self.not_ready.is_empty()
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.is_alive(), self.is_ready()) {
            (false, _) => "not alive",
            (true, false) => "alive, not ready",
            (true, true) => "ready",
        })?;
        let wrong = self.not_alive.iter().chain(&self.not_ready).chain(&self.notes);
        wrong.into_iter().try_for_each(|finding| write!(f, "\n{finding}"))
    }
}

/// One thing that is wrong, or worth knowing. `Display` writes it as a line:
/// `connection consume-0: not connected for 12 s: connection refused; next try in 1 s`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What it is about: `connection consume-0`, `consumer orders`.
    pub entity: String,
    /// What is wrong, in the present tense.
    pub what: String,
    /// Since when.
    pub since: Instant,
    /// Why, and what happens next, as far as it is known. Never with a password.
    pub why: Option<String>,
}

impl Finding {
    fn new(entity: impl Into<String>, what: impl Into<String>, since: Instant) -> Self {
        Self { entity: entity.into(), what: what.into(), since, why: None }
    }

    fn because(self, why: Option<String>) -> Self {
        Self { why, ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} for {}", self.entity, self.what, Span(self.since.elapsed()))?;
        self.why.iter().try_for_each(|why| write!(f, ": {why}"))
    }
}

/// A duration in milliseconds, or from a second on in seconds.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            0 => write!(f, "{} ms", self.0.as_millis()),
            seconds => write!(f, "{seconds} s"),
        }
    }
}

impl Service {
    /// Whether the service is alive and ready, and what is wrong if it is not. For probes: it waits for nothing, may be
    /// called from any thread, and answers while every thread of the service is blocked.
    ///
    /// *Alive* says that a new process would do no better. The supervision tree has not ended, and no thread is later
    /// than 30 s; a handlers' thread, no later than the [`handler_timeout`](crate::Consume::handler_timeout) of its
    /// consumer, if that is longer. Nothing that the broker does ends it.
    ///
    /// *Ready* says that the service does all of its work:
    ///
    /// - Every connection is up, so the topology is declared.
    /// - Every publisher and requester has its channel open.
    /// - Every consumer is subscribed and has a handler actor that runs. A consumer that the application has
    ///   [paused](Self::pause_consumer), or whose circuit breaker is open, has a note: neither is a fault of this
    ///   process.
    /// - No kill switch is open, because a release that makes dead letters must not be rolled out further.
    /// - The application's own actors run, or have finished their work.
    ///
    /// | the service | alive | ready |
    /// |---|---|---|
    /// | starts, or waits for a broker that is away | yes | no |
    /// | shuts down | yes | no |
    /// | has a connection that the broker blocks (memory or disk alarm) | yes | yes, with a note |
    /// | has ended, or was shut down | no | no |
    ///
    /// A blocked connection stays ready because consumers go on, publishers hold what they accept, and the alarm is
    /// that of every instance: if all of them were taken out of service, nothing would be gained.
    ///
    /// A thread is measured by calls of this or of [`threads`](Self::threads): if it blocks, the next call but one says
    /// so. So call it at intervals.
    ///
    /// ```no_run
    /// # fn example(service: fluffle_amqp::Service) {
    /// let health = service.health();
    /// if !health.is_ready() {
    ///     eprintln!("{health}");
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn health(&self) -> Health {
        self.health_within(LATEST)
    }

    /// [`health`](Self::health), with another limit than 30 s for how late a thread may be.
    #[must_use]
    pub fn health_within(&self, latest: Duration) -> Health {
        let (tree, status) = (self.snapshot(), self.status());
        let mut health = Health::default();
        if let Some(reason) = self.inner.root.wait().now_or_never() {
            let ended = Finding::new("service", "has ended", tree.since).because(Some(reason.to_string()));
            health.not_alive.push(ended);
            return health;
        }
        health.not_alive = self.late_threads(&status, latest);
        if let Some(begun) = self.inner.clock.begun() {
            health.not_ready.push(Finding::new("service", "shuts down", begun));
            return health;
        }
        let connections = status.connections.iter().filter(|one| !one.connected);
        health.not_ready.extend(connections.map(|connection| not_connected(connection, &status, &tree)));
        let is_up = |name: &str| status.connections.iter().any(|one| one.name == name && one.connected);
        for channel in status.channels.iter().filter(|channel| !channel.is_open && is_up(&channel.connection)) {
            health.not_ready.push(not_open(channel, &tree));
        }
        for consumer in &status.consumers {
            let has_channel = status.channels.iter().any(|channel| channel.name == consumer.name && channel.is_open);
            look_at_consumer(consumer, has_channel, &tree, &mut health);
        }
        let application = tree.find("app/application").map_or(&[][..], |node| &node.children);
        health.not_ready.extend(application.iter().filter_map(not_running));
        let pending = *self.inner.orders.open().borrow();
        if pending > 0 && health.not_ready.is_empty() {
            let what = format!("starts: {pending} of its parts wait for their turn");
            health.not_ready.push(Finding::new("service", what, tree.since));
        }
        let blocked = status.connections.iter().filter_map(|one| Some((one, one.blocked.clone()?, one.blocked_since?)));
        health.notes.extend(blocked.map(|(connection, reason, since)| {
            let entity = format!("connection {}", connection.name);
            Finding::new(entity, "the broker blocks publishing", since).because(Some(reason))
        }));
        health
    }

    /// Whether the service is alive: see [`health`](Self::health), which says why not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.health().is_alive()
    }

    /// Whether the service is ready: see [`health`](Self::health), which says why not.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.health().is_ready()
    }

    fn late_threads(&self, status: &ServiceStatus, latest: Duration) -> Vec<Finding> {
        let timeouts: Vec<_> = self.parts(|parts| {
            let timeout = |consumer: &Consumer| consumer.settings().patience.handler_timeout;
            let each = parts.consumers.iter();
            each.map(|one| (one.name.to_string(), one.place.threads(), timeout(one))).collect()
        });
        // Consumers that share a thread allow it to be blocked for as long as the most patient of them does.
        let mut longest = HashMap::<_, Duration>::new();
        for (_, threads, timeout) in &timeouts {
            let longest = longest.entry(*threads).or_default();
            *longest = (*longest).max(*timeout);
        }
        let now = Instant::now();
        let late = status.threads.iter().filter(|thread| {
            let own = timeouts.iter().find(|(name, ..)| thread.consumer.as_ref() == Some(name));
            thread.lag > own.map_or(latest, |(_, threads, _)| latest.max(longest[threads]))
        });
        let finding = |thread: &crate::ThreadStatus| {
            let since = now.checked_sub(thread.lag).unwrap_or(now);
            let on_io = self.inner.threads.consumer_on_io().filter(|_| thread.name == "io");
            let what = on_io.map_or_else(|| "something".to_owned(), |consumer| format!("a handler of {consumer}"));
            let why = format!("{what} blocks it; a process that starts anew is rid of that");
            Finding::new(format!("thread {}", thread.name), "has not answered", since).because(Some(why))
        };
        late.map(finding).collect()
    }
}

fn not_connected(connection: &ConnectionStatus, status: &ServiceStatus, tree: &NodeSnapshot) -> Finding {
    let name = &connection.name;
    let socket = ["publish", "consume"].iter().find_map(|role| tree.find(&format!("app/{role}/{name}/socket")));
    let consumers = status.consumers.iter().filter(|consumer| consumer.connection == *name).count();
    let mut why = socket.and_then(exit_and_next).unwrap_or_else(|| "it is being opened".to_owned());
    match consumers {
        0 => {}
        1 => why.push_str("; 1 consumer waits for it"),
        more => why.push_str(&format!("; {more} consumers wait for it")),
    }
    Finding::new(format!("connection {name}"), "not connected", connection.since).because(Some(why))
}

/// A channel that is not open though its connection is up.
fn not_open(channel: &ChannelStatus, tree: &NodeSnapshot) -> Finding {
    let ChannelStatus { name, connection, since, .. } = channel;
    let place = ["publish", "consume"].map(|role| format!("app/{role}/{connection}/channels/{name}"));
    let node = place.iter().find_map(|path| tree.find(path));
    // The channel, and who lives on it: the one that failed has the reason.
    let why = node.and_then(|node| node.children.iter().find_map(exit_and_next));
    Finding::new(format!("channel of {name}"), "not open", *since).because(why)
}

fn look_at_consumer(consumer: &ConsumerStatus, has_channel: bool, tree: &NodeSnapshot, health: &mut Health) {
    let finding = |what: &str| Finding::new(format!("consumer {}", consumer.name), what, consumer.since);
    match consumer.state {
        // If there is no channel or no connection, that is said of those.
        ConsumerState::Unsubscribed if !has_channel => {}
        ConsumerState::Unsubscribed => {
            let path = format!("app/consume/{}/channels/{}/consumer", consumer.connection, consumer.name);
            let why = tree.find(&path).and_then(exit_and_next);
            health.not_ready.push(finding("not subscribed").because(why));
        }
        ConsumerState::Killed => {
            let why = "too many of its messages became dead letters; `Service::resume_consumer` starts it again";
            health.not_ready.push(finding("stopped by its kill switch").because(Some(why.to_owned())));
        }
        ConsumerState::Paused => health.notes.push(finding("paused by the application")),
        ConsumerState::BreakerOpen => {
            health.notes.push(finding("not subscribed, because its circuit breaker is open,"))
        }
        ConsumerState::Probing => health.notes.push(finding("takes a few deliveries as probes")),
        ConsumerState::Isolating => {
            health.notes.push(finding("takes one message at a time, because one may be ending the process,"));
        }
        ConsumerState::Consuming => {}
    }
    if let Some(BlockedIo { at, took, .. }) = consumer.blocked_io {
        let entity = format!("consumer {}", consumer.name);
        let why = format!("one of them blocked it for {}; remove `Consume::on_io`", Span(took));
        health.notes.push(Finding::new(entity, "its handlers are not on the io thread", at).because(Some(why)));
    }
    let handlers = tree.find(&format!("app/handlers/{}", consumer.name));
    if let Some(node) = handlers
        && node.children.iter().all(|handler| handler.state != State::Running)
    {
        let since = node.children.iter().map(|handler| handler.since).min().unwrap_or(node.since);
        let why = node.children.iter().find_map(exit_and_next);
        let entity = format!("consumer {}", consumer.name);
        health.not_ready.push(Finding::new(entity, "none of its handler actors runs", since).because(why));
    }
}

/// An actor or supervisor of the application's own, or what is below it, that does not run and has not finished.
fn not_running(node: &NodeSnapshot) -> Option<Finding> {
    match node.state {
        State::Running => node.children.iter().find_map(not_running),
        State::Stopped => None,
        state => Some(
            Finding::new(format!("actor {}", node.path), state.to_string(), node.since).because(exit_and_next(node)),
        ),
    }
}

/// How the last incarnation of a node ended, and when the next one starts.
fn exit_and_next(node: &NodeSnapshot) -> Option<String> {
    let exit = node.last_exit.as_ref().filter(|reason| !matches!(reason, ExitReason::Stopped))?;
    let next = node.next_restart_at.map(|at| Span(at.saturating_duration_since(Instant::now())));
    Some(match next {
        Some(next) => format!("{exit}; next try in {next}"),
        None => exit.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(what: &str) -> Finding {
        let since = Instant::now().checked_sub(Duration::from_secs(12)).unwrap();
        Finding::new("consumer orders", what, since)
    }

    #[test]
    fn what_is_wrong_is_a_line_with_entity_time_and_reason() {
        let refused = finding("not subscribed").because(Some("no queue 'orders'".to_owned()));
        assert_eq!(refused.to_string(), "consumer orders: not subscribed for 12 s: no queue 'orders'");
        let health = Health { not_ready: vec![refused], notes: vec![finding("paused")], ..Health::default() };
        assert!(health.is_alive() && !health.is_ready());
        assert_eq!(health.to_string().lines().collect::<Vec<_>>()[..1], ["alive, not ready"]);
        assert_eq!(health.to_string().lines().count(), 3);
        assert!(!Health { not_alive: vec![finding("blocked")], ..Health::default() }.is_ready(), "dead is not ready");
    }
}
