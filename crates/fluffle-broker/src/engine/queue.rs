//! A queue: its declaration, its messages and its consumers.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use super::{
    ConnectionKey, ConsumerKey, VhostKey, arguments,
    kind::QueueKind,
    log::{Log, Retention},
    message::Message,
    refusal::Refusal,
    start,
    table::{Table, TableValue},
};

/// The size of a stream's segments if it is not set, in bytes.
const DEFAULT_SEGMENT_BYTES: u64 = 500_000_000;

/// The largest size of a stream's segments that may be set, in bytes.
const MOST_SEGMENT_BYTES: u64 = 3_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overflow {
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

/// The declaration of a queue, with its arguments read and checked.
#[derive(Clone, Debug)]
pub(crate) struct QueueSpec {
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: Table,
    pub(crate) kind: QueueKind,
    pub(crate) ttl: Option<u64>,
    pub(crate) expires: Option<u64>,
    pub(crate) max_length: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) overflow: Overflow,
    pub(crate) dead_letter_exchange: Option<Rc<[u8]>>,
    pub(crate) dead_letter_key: Option<Rc<[u8]>>,
    pub(crate) max_priority: u8,
    pub(crate) single_active: bool,
    pub(crate) delivery_limit: Option<i64>,
    /// What a stream keeps; `None` for other queues.
    pub(crate) retention: Option<Retention>,
}

impl QueueSpec {
    /// Reads and checks the arguments. `entity` names the queue in refusals.
    pub(crate) fn read(
        (durable, exclusive, auto_delete): (bool, bool, bool),
        arguments: Table,
        entity: &str,
    ) -> Result<Self, Refusal> {
        let number = |name: &str, least: i64| arguments::number(&arguments, name, least, entity);
        let wrong =
            |name: &str, problem: &str| Refusal::precondition(format!("invalid arg '{name}' for {entity}: {problem}"));
        let text = |name: &str| match arguments.get(name) {
            None => Ok(None),
            Some(value) => match value.text() {
                Some(text) => Ok(Some(Rc::<[u8]>::from(text))),
                None => Err(Refusal::precondition(format!(
                    "invalid type '{}' for arg '{name}' in {entity}",
                    arguments::type_name(value)
                ))),
            },
        };
        text("x-queue-type")?;
        let kind = QueueKind::of(&arguments).ok_or_else(|| {
            let name = arguments.get("x-queue-type").and_then(TableValue::text).unwrap_or_default();
            wrong("x-queue-type", &format!("\"unsupported queue type '{}'\"", String::from_utf8_lossy(name)))
        })?;
        let has = |name: &str| kind.arguments().contains(&name);
        let number = |name: &str, least: i64| if has(name) { number(name, least) } else { Ok(None) };
        let text = |name: &str| if has(name) { text(name) } else { Ok(None) };
        let overflow = match text("x-overflow")?.as_deref() {
            None | Some(b"drop-head") => Overflow::DropHead,
            Some(b"reject-publish") => Overflow::RejectPublish,
            Some(b"reject-publish-dlx") => Overflow::RejectPublishDlx,
            Some(_) => return Err(wrong("x-overflow", "invalid_overflow")),
        };
        let max_priority = match number("x-max-priority", 0)? {
            Some(priority) => u8::try_from(priority)
                .map_err(|_| wrong("x-max-priority", &format!("{{max_value_exceeded,{priority}}}")))?,
            None => 0,
        };
        let mut spec = Self {
            durable,
            exclusive,
            auto_delete,
            kind,
            ttl: number("x-message-ttl", 0)?,
            expires: number("x-expires", 1)?,
            max_length: number("x-max-length", 0)?,
            max_bytes: number("x-max-length-bytes", 0)?,
            overflow,
            dead_letter_exchange: text("x-dead-letter-exchange")?,
            dead_letter_key: text("x-dead-letter-routing-key")?,
            max_priority,
            single_active: has("x-single-active-consumer")
                && arguments::flag(&arguments, "x-single-active-consumer", entity)?,
            retention: None,
            delivery_limit: arguments.get("x-delivery-limit").and_then(TableValue::integer),
            arguments,
        };
        if spec.dead_letter_key.is_some() && spec.dead_letter_exchange.is_none() {
            return Err(wrong("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"));
        }
        if kind == QueueKind::Stream {
            spec.retention = Some(spec.read_retention(entity)?);
        }
        if has("x-queue-leader-locator") {
            start::check_locator(&spec.arguments, entity)?;
        }
        kind.check_arguments(&spec.arguments, entity)?;
        if kind != QueueKind::Classic {
            spec.check_replicated(entity)?;
        }
        Ok(spec)
    }

    fn read_retention(&self, entity: &str) -> Result<Retention, Refusal> {
        let number = |name: &str, least: i64| arguments::number(&self.arguments, name, least, entity);
        let most_age = start::max_age(&self.arguments, entity)?;
        let segment_bytes = number("x-stream-max-segment-size-bytes", 0)?.unwrap_or(DEFAULT_SEGMENT_BYTES);
        number("x-initial-cluster-size", 1)?;
        Ok(Retention { segment_bytes, most_bytes: self.max_bytes, most_age })
    }

    /// Checks the properties of a queue that has replicas in RabbitMQ.
    fn check_replicated(&self, entity: &str) -> Result<(), Refusal> {
        for (name, wrong) in
            [("auto-delete", self.auto_delete), ("exclusive-owner", self.exclusive), ("non-durable", !self.durable)]
        {
            if wrong {
                return Err(Refusal::precondition(format!("invalid property '{name}' for {entity}")));
            }
        }
        if self.retention.is_some_and(|retention| retention.segment_bytes > MOST_SEGMENT_BYTES) {
            let text = "Exceeded max value for x-stream-max-segment-size-bytes";
            return Err(Refusal::precondition(text));
        }
        Ok(())
    }

    /// 406, in RabbitMQ's words, if another declaration of the same queue differs. Its arguments are compared with
    /// those of this queue, and not checked.
    pub(crate) fn check_same(
        &self,
        (durable, auto_delete): (bool, bool),
        received: &Table,
        entity: &str,
    ) -> Result<(), Refusal> {
        arguments::same_flag("durable", entity, durable, self.durable)?;
        arguments::same_flag("auto_delete", entity, auto_delete, self.auto_delete)?;
        for name in self.kind.arguments() {
            // A queue declared without a type is a classic queue.
            if *name == "x-queue-type" && QueueKind::of(received) == Some(self.kind) {
                continue;
            }
            arguments::equivalent(name, entity, received.get(name), self.arguments.get(name))?;
        }
        Ok(())
    }
}

/// One message in one queue.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Rc<Message>,
    /// Its position in the queue. It keeps the position while it is delivered, so that a requeue puts it back there.
    pub(crate) position: u64,
    /// When it expires, in the engine's milliseconds; `u64::MAX` for never.
    pub(crate) expires: u64,
    /// How many deliveries were returned.
    pub(crate) delivery_count: u32,
    pub(crate) redelivered: bool,
}

/// Ready messages, ordered by priority, then by position.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    levels: BTreeMap<u8, VecDeque<Entry>>,
    count: usize,
    bytes: u64,
}

impl Ready {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn push(&mut self, priority: u8, entry: Entry) {
        self.count += 1;
        self.bytes += entry.message.body.len() as u64;
        let level = self.levels.entry(priority).or_default();
        if level.back().is_none_or(|last| last.position < entry.position) {
            level.push_back(entry);
        } else if level.front().is_some_and(|first| first.position > entry.position) {
            level.push_front(entry);
        } else {
            let at = level.partition_point(|other| other.position < entry.position);
            level.insert(at, entry);
        }
    }

    /// The first message of the highest priority that has any.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        let entry = self.levels.values_mut().rev().find_map(VecDeque::pop_front)?;
        self.removed(&entry);
        Some(entry)
    }

    /// The first message, if it has expired.
    pub(crate) fn pop_expired(&mut self, now: u64) -> Option<Entry> {
        if self.next_expiry() <= now { self.pop() } else { None }
    }

    /// When the first message expires.
    pub(crate) fn next_expiry(&self) -> u64 {
        self.levels.values().rev().find_map(VecDeque::front).map_or(u64::MAX, |first| first.expires)
    }

    /// All messages, in delivery order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.levels.values().rev().flatten()
    }

    pub(crate) fn clear(&mut self) -> usize {
        self.levels.clear();
        self.bytes = 0;
        std::mem::take(&mut self.count)
    }

    /// Removes the messages for which `keep` returns `false`.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&mut Entry) -> bool) {
        let (mut count, mut bytes) = (0, 0);
        for level in self.levels.values_mut() {
            level.retain_mut(&mut keep);
            count += level.len();
            bytes += level.iter().map(|entry| entry.message.body.len() as u64).sum::<u64>();
        }
        (self.count, self.bytes) = (count, bytes);
    }

    fn removed(&mut self, entry: &Entry) {
        self.count -= 1;
        self.bytes -= entry.message.body.len() as u64;
    }
}

/// The consumers of a queue. `active` has those that can take a message now, by priority, in round-robin order.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    /// All of them, in the order in which they were added.
    pub(crate) all: Vec<ConsumerKey>,
    /// By priority, highest last.
    pub(crate) active: BTreeMap<i32, VecDeque<ConsumerKey>>,
    /// The exclusive consumer.
    pub(crate) exclusive: Option<ConsumerKey>,
}

#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) name: Rc<str>,
    pub(crate) vhost: VhostKey,
    pub(crate) spec: QueueSpec,
    /// The connection to which an exclusive queue belongs.
    pub(crate) owner: Option<ConnectionKey>,
    pub(crate) ready: Ready,
    /// The messages of a stream, which are not in `ready`.
    pub(crate) log: Option<Log>,
    pub(crate) unacked: usize,
    pub(crate) next_position: u64,
    pub(crate) consumers: Consumers,
    /// Whether it has ever had a consumer.
    pub(crate) was_consumed: bool,
    /// When it was last declared, read from or consumed from.
    pub(crate) used_at: u64,
    /// Whether a timer for `x-expires` is set. Only one is set at a time, however often the queue is used.
    pub(crate) idle_timer: bool,
    /// The time of the current expiry timer; `u64::MAX` if none is set.
    pub(crate) timer_at: u64,
}

impl Queue {
    /// How many messages and consumers `queue.declare-ok` shows. RabbitMQ counts the offsets of a stream, and shows
    /// none of its consumers.
    pub(crate) fn counts(&self) -> (usize, usize) {
        match &self.log {
            Some(log) => {
                let offsets = log.offsets();
                (usize::try_from(offsets.end - offsets.start).unwrap_or(usize::MAX), 0)
            }
            None => (self.ready.len(), self.consumers.all.len()),
        }
    }
}
