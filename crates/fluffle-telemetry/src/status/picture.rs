//! What the status page shows at one moment, as the JSON that the page reads.
//!
//! Times are in milliseconds; points in time are milliseconds since 1970-01-01 00:00 UTC. Rates are per second, over
//! the last five seconds. Texts come from names of the application and from error texts: the page must escape them.

use serde::Serialize;

/// A service at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Picture {
    /// When it was taken.
    pub at: u64,
    /// The process.
    pub process: Process,
    /// What is wrong, if anything is.
    pub health: HealthView,
    /// The supervision tree.
    pub tree: NodeView,
    /// The consumers, by queue.
    pub queues: Vec<QueueView>,
    /// The publishers, those of the consumers' copies among them.
    pub publishers: Vec<PublisherView>,
    /// The connections.
    pub connections: Vec<ConnectionView>,
    /// The threads.
    pub arbiters: Vec<ArbiterView>,
    /// The ledgers: one for each publisher, and one for the consumers of each queue.
    pub ledger: Vec<LedgerLine>,
    /// What happened to the tree: the last 50 restarts, the newest first.
    pub stories: Vec<StoryView>,
    /// What the page may do.
    pub actions: Vec<&'static str>,
}

/// The process.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// The application's name, as the broker shows it.
    pub name: String,
    /// The version of Fluffle.
    pub version: &'static str,
    /// The process's id.
    pub pid: u32,
    /// When the service was started.
    pub since: u64,
    /// `starting`, `running`, `draining` or `ended`.
    pub state: &'static str,
}

/// What is wrong, in lines of text. `live` and `ready` empty: all is well.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HealthView {
    /// Why the service is not alive.
    pub live: Vec<String>,
    /// Why it is not ready.
    pub ready: Vec<String>,
    /// What a person may want to know, and what is no fault of the process: a consumer is paused, a breaker is open.
    pub notes: Vec<String>,
}

/// A node of the tree.
#[derive(Clone, Debug, Serialize)]
pub struct NodeView {
    /// Its name among its siblings.
    pub id: String,
    /// Its name in the tree.
    pub path: String,
    /// `actor`, or the strategy of a supervisor: `one-for-one`, `rest-for-one`, `one-for-all`.
    pub kind: String,
    /// `waiting`, `starting`, `running`, `backing off`, `stopping`, `stopped` or `failed`.
    pub state: String,
    /// When it entered this state.
    pub since: u64,
    /// How often it was restarted.
    pub restarts: u64,
    /// When it is started again, while it backs off.
    pub restart_at: Option<u64>,
    /// How its last incarnation ended, if that was not on request.
    pub last_exit: Option<String>,
    /// Messages in its mailbox, and how many fit in. `None` for a supervisor.
    pub mailbox: Option<[usize; 2]>,
    /// A text about itself.
    pub note: Option<String>,
    /// Messages a second through it, if that is known: a consumer, a publisher, and what is above them.
    pub rate: Option<f64>,
    /// Its children.
    pub children: Vec<NodeView>,
}

/// The consumers of one queue.
#[derive(Clone, Debug, Serialize)]
pub struct QueueView {
    /// The queue's name.
    pub name: String,
    /// The names of its consumers in the tree.
    pub consumers: Vec<String>,
    /// The state of its consumers: `consuming`, `unsubscribed`, `paused`, `breaker open`, `probing`, `isolating` or
    /// `killed`; the worst one, if they differ. `gone` if there is none any more.
    pub state: String,
    /// When they entered it, if that is known.
    pub since: Option<u64>,
    /// Deliveries received a second.
    pub received_rate: f64,
    /// Messages settled a second.
    pub settled_rate: f64,
    /// Messages a second whose attempt failed.
    pub failed_rate: f64,
    /// Deliveries received and not settled.
    pub in_hand: usize,
    /// The most that may be in hand.
    pub prefetch: usize,
    /// Deliveries in hand that wait for a handler.
    pub waiting: usize,
    /// Handler actors.
    pub handlers: usize,
    /// How much of the handlers' time is used, from 0 to 1.
    pub busy: f64,
    /// How long each stage takes.
    pub stages: Vec<StageView>,
    /// Messages by outcome, since the start.
    pub outcomes: Vec<OutcomeView>,
    /// Messages in the hand of handlers that crashed, since the start.
    pub crashed: u64,
    /// Why the queue is as fast as it is.
    pub verdict: VerdictView,
    /// Messages ready in the dead-letter queue, if that is known.
    pub dead_letters: Option<u64>,
    /// The slowest, the failed and some sampled messages: at most 10 of each kind.
    pub messages: Vec<MessageView>,
}

/// One stage of messages.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageView {
    /// `broker`, `handler_wait`, `decode`, `handle`, `settle`, `retry_wait`, `batch_wait` or `confirm`.
    pub stage: &'static str,
    /// How many messages passed it in the last minute.
    pub count: u64,
    /// The median of the last minute.
    pub p50: Option<f64>,
    /// The 99th percentile of the last minute.
    pub p99: Option<f64>,
}

/// Messages with one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutcomeView {
    /// For example `handled` or `dead_lettered`.
    pub outcome: &'static str,
    /// How many.
    pub messages: u64,
}

/// Why a queue is as fast as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictView {
    /// `idle`, `healthy`, `prefetch-starved`, `handler-bound`, `ack-bound`, `broker-bound`, `poison`, `breaker-open`,
    /// `paused` or `away`.
    pub kind: &'static str,
    /// What was seen, with its numbers.
    pub words: String,
    /// The setting to try, if there is one.
    pub advice: Option<String>,
}

/// One message that was handled.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MessageView {
    /// Why it is shown: `slow`, `failed` or `sampled`.
    pub why: &'static str,
    /// When it was settled.
    pub at: u64,
    /// Its id.
    pub id: Option<String>,
    /// Its trace, as 32 hex digits.
    pub trace: Option<String>,
    /// The number of the attempt, from 1.
    pub attempt: u32,
    /// Its type.
    pub kind: Option<String>,
    /// The size of its body, in bytes.
    pub bytes: usize,
    /// What became of it.
    pub outcome: &'static str,
    /// Why it failed.
    pub failure: Option<String>,
    /// How long each stage took, in order: stage and milliseconds.
    pub waterfall: Vec<(&'static str, f64)>,
    /// What the application's formatter says of it. Without a formatter, bodies and headers are not shown.
    pub detail: Option<String>,
}

/// One publisher.
#[derive(Clone, Debug, Serialize)]
pub struct PublisherView {
    /// Its name in the tree.
    pub name: String,
    /// Messages accepted a second.
    pub accepted_rate: f64,
    /// Messages settled a second.
    pub settled_rate: f64,
    /// Messages without an outcome.
    pub outstanding: usize,
    /// The most that may be without an outcome.
    pub window: usize,
    /// Messages by outcome, since the start.
    pub outcomes: Vec<OutcomeView>,
    /// Messages published again.
    pub republished: u64,
    /// How long `batch_wait` and `confirm` take.
    pub stages: Vec<StageView>,
    /// Its journal or its outbox table.
    pub store: Option<StoreView>,
}

/// What waits in a store to be published.
#[derive(Clone, Debug, Serialize)]
pub struct StoreView {
    /// `journal` or `outbox`.
    pub kind: &'static str,
    /// Messages that wait.
    pub messages: Option<u64>,
    /// Bytes of their bodies.
    pub bytes: Option<u64>,
    /// The age of the oldest.
    pub oldest: Option<u64>,
    /// Why this is not known.
    pub error: Option<String>,
}

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionView {
    /// Its name.
    pub name: String,
    /// The address that it is connected to, without credentials.
    pub endpoint: Option<String>,
    /// Whether it is up.
    pub up: bool,
    /// Since when it is up, or away.
    pub since: Option<u64>,
    /// How often it was established.
    pub connects: u64,
    /// Open channels.
    pub channels: usize,
    /// The broker's reason, while the broker blocks it.
    pub blocked: Option<String>,
    /// Since when it is blocked.
    pub blocked_since: Option<u64>,
}

/// One thread.
#[derive(Clone, Debug, Serialize)]
pub struct ArbiterView {
    /// Its name.
    pub name: String,
    /// How late it runs what it is given.
    pub lag: f64,
}

/// One ledger: for a publisher `entered = settled + open` in messages, for a queue in deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerLine {
    /// `publish` or `consume`.
    pub side: &'static str,
    /// The publisher or the queue.
    pub of: String,
    /// Accepted or received.
    pub entered: u64,
    /// Settled; of deliveries, also those that were lost with their channel.
    pub settled: u64,
    /// Outstanding, or in hand.
    pub open: u64,
    /// What is missing (positive) or too much (negative). 0, or a defect.
    pub imbalance: i64,
}

/// A restart and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct StoryView {
    /// When the node ended.
    pub at: u64,
    /// The node.
    pub node: String,
    /// Why it ended.
    pub reason: String,
    /// What it had in hand: message ids and attempts, at most 5.
    pub in_hand: Vec<String>,
    /// Its siblings that were restarted with it.
    pub siblings: Vec<String>,
    /// Deliveries that came again.
    pub redelivered: u64,
    /// Messages that were published again.
    pub republished: u64,
    /// The time until it was ready again; `None` while it is not.
    pub recovered_in: Option<u64>,
    /// A remark: "the same message ended it three times".
    pub remark: Option<String>,
}

/// Fifteen minutes, in steps of two seconds: the oldest value first. A step without a value is `null`.
#[derive(Clone, Debug, Serialize)]
pub struct HistoryView {
    /// When the last step ended.
    pub at: u64,
    /// The length of a step.
    pub step: u64,
    /// The series.
    pub series: Vec<SeriesView>,
}

/// One series of the history.
#[derive(Clone, Debug, Serialize)]
pub struct SeriesView {
    /// `queue` or `publisher`.
    pub of: &'static str,
    /// The name of the queue or publisher.
    pub name: String,
    /// Received or accepted a second.
    pub entered: Vec<Option<f32>>,
    /// Settled a second.
    pub settled: Vec<Option<f32>>,
    /// Failed attempts a second, or messages that were not confirmed.
    pub failed: Vec<Option<f32>>,
    /// In hand, or outstanding.
    pub open: Vec<Option<f32>>,
    /// The 99th percentile of the handler's time, or of the confirm's, in milliseconds.
    pub p99: Vec<Option<f32>>,
}
