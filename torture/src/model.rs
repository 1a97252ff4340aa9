//! The model: what must hold for every message. Pure: facts in, breaches out.
//!
//! The promises are in `docs/SEMANTICS.md`. How the model interprets them, and what it cannot see, is in
//! `docs/RELIABILITY.md`.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    ops::RangeInclusive,
};

use crate::{
    fact::{Fact, Room},
    foreign::Foreign,
    id::{Id, Lane},
    script::{Act, Along, DELIVERIES, Fate, Script},
    workload::MORTAL_CONSUMERS,
};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// The message was accepted, but neither handled nor dead-lettered.
    Lost(Id),
    /// The message was first handled after a later message of its publisher.
    OrderBroken(Id, u64),
    /// With effectively once, the effect of the message happened so often.
    EffectRepeated(Id, u32),
    /// With at most once, handlers received the message so often.
    HandledTwice(Id, u32),
    /// The message was acked more often than it was handled.
    AckedUndone(Id),
    /// An attempt past the last.
    PastTheCap(Id, u32),
    /// The message kills its process, and handlers received it so often.
    KilledTooOften(Id, u32),
    /// An attempt, although the one before it did not fail, or before the first one that its headers claim.
    Unearned(Id, u32),
    /// Every publish of the message was refused, but it arrived.
    Refused(Id),
    /// The journal refused the message, although the disk had room all the time.
    Unwritten(Id),
    /// A message that nobody published.
    Stranger(Id),
    /// The body differs from the published one.
    Garbled(Id),
    /// The handler of another type received the message, or its dead letter is one of another type.
    Mistyped(Id),
    /// A handler received a message that cannot be read completely.
    Unreadable(Id),
    /// A message in a batch had these two names.
    Renamed(Id, String, String),
    /// The reason of the dead letter does not follow from the script.
    DeadWrongly(Id, u32, String),
    /// The message was published when nothing went wrong any more, but was not handled exactly as its script says.
    NotCalm(Id, String),
    /// When nothing happened any more, this line of the surviving process's ledger did not balance.
    Ledger(String),
    /// A process or a step that did not end in time, or ended by itself.
    Stuck(String),
}

impl Breach {
    /// The message of the breach.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::Lost(id) | Self::AckedUndone(id) | Self::Refused(id) | Self::Unwritten(id) => Some(id),
            Self::Stranger(id) | Self::Garbled(id) | Self::Mistyped(id) | Self::Unreadable(id) => Some(id),
            Self::OrderBroken(id, _) => Some(id),
            Self::EffectRepeated(id, _)
            | Self::HandledTwice(id, _)
            | Self::PastTheCap(id, _)
            | Self::KilledTooOften(id, _)
            | Self::Unearned(id, _) => Some(id),
            Self::DeadWrongly(id, ..) | Self::NotCalm(id, _) | Self::Renamed(id, ..) => Some(id),
            Self::Ledger(_) | Self::Stuck(_) => None,
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(id) => write!(f, "{id} was accepted, and is neither handled nor dead"),
            Self::OrderBroken(id, later) => write!(f, "{id} was first handled after number {later} of its publisher"),
            Self::EffectRepeated(id, times) => write!(f, "{id} had its effect {times} times, despite effectively once"),
            Self::HandledTwice(id, times) => {
                write!(f, "{id} was given to a handler {times} times, despite at most once")
            }
            Self::AckedUndone(id) => write!(f, "{id} was acked more often than it was handled"),
            Self::KilledTooOften(id, times) => write!(f, "{id} killed its process {times} times of {DELIVERIES}"),
            Self::PastTheCap(id, attempt) => write!(f, "{id} came as attempt {attempt}, past its last"),
            Self::Unearned(id, attempt) => {
                write!(f, "{id} came as attempt {attempt}, but it is not its first, and the one before did not fail")
            }
            Self::Refused(id) => write!(f, "{id} was refused at each publish, but arrived"),
            Self::Unwritten(id) => write!(f, "{id} was not written to its journal, although the disk had room"),
            Self::Stranger(id) => write!(f, "{id} was never published"),
            Self::Garbled(id) => write!(f, "{id} has another body than was published"),
            Self::Mistyped(id) => write!(f, "{id} came as another type than it was published in"),
            Self::Unreadable(id) => write!(f, "{id} cannot be read, but was given to a handler"),
            Self::Renamed(id, name, other) => write!(f, "{id} came as {name}, and as {other}"),
            Self::DeadWrongly(id, attempts, why) => {
                write!(f, "{id} is dead after {attempts} attempts with a wrong reason or count: {why:?}")
            }
            Self::NotCalm(id, what) => write!(f, "{id}, published after the storm: {what}"),
            Self::Ledger(line) => write!(f, "the ledger does not balance {line}"),
            Self::Stuck(what) => f.write_str(what),
        }
    }
}

/// The number of messages by result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Confirmed by the broker.
    pub accepted: u64,
    /// Of the accepted ones: published by strangers.
    pub foreign: u64,
    /// Of the foreign ones: dead-lettered because they cannot be read.
    pub undecodable: u64,
    /// Refused because the disk of the journal was full.
    pub unwritten: u64,
    /// Handled at least once.
    pub handled: u64,
    /// Dead-lettered.
    pub dead: u64,
    /// At most once: published but not handled, because the message did not arrive or its handler failed.
    pub dropped: u64,
    /// At least once: how often messages were handled again, in all.
    pub repeated: u64,
    /// How often a process made no progress for so long that a deadline may have passed.
    pub stalls: u64,
}

/// What is known about one message.
#[derive(Debug, Default)]
struct Story {
    /// The numbers of the first and the last fact about it.
    since: u64,
    until: u64,
    tries: u32,
    /// If the disk had room at the last try: how often the disk had been filled by then.
    had_room: Option<u64>,
    noes: u32,
    /// Whether a refusal was due to the full disk.
    unwritten: bool,
    accepted: bool,
    named: Option<String>,
    along: Along,
    begun: u32,
    /// Its position among all first handlings.
    first: Option<u64>,
    done: u32,
    acked: u32,
    dead: u32,
    /// The most deliveries without an answer that its dead letter reports.
    delivered: u32,
    /// How often the process of its handlers had been killed before its first fact.
    killed_before: u64,
}

impl Story {
    /// Whether the message has reached an end that the promises allow.
    fn has_ended(&self) -> bool {
        self.done > 0 || self.dead > 0
    }

    /// Whether another attempt must follow this one.
    fn is_retried(&self, script: Script, id: &Id, attempt: u32) -> bool {
        let act = script.act(id, attempt);
        self.along.has(attempt) || !act.succeeds() && act != Act::Reject
    }

    /// Whether the message may be dead-lettered; `None` means only if connections were lost. `killed` is how often the
    /// child has been killed so far.
    fn may_be_dead(&self, script: Script, id: &Id, attempts: u32, why: &str, killed: u64) -> Option<bool> {
        if is_unreadable(script, id) {
            return Some(why == "undecodable" && attempts == *script.attempts(id).start());
        }
        match why {
            "rejected" => Some(script.act(id, attempts) == Act::Reject),
            "attempts-exhausted" => {
                let mut all = script.attempts(id);
                Some(attempts == *all.end() && all.all(|attempt| self.is_retried(script, id, attempt)))
            }
            // Lost connections are not charged, but a process does not know which ones its predecessor lost.
            "delivery-limit" if self.delivered >= BROKERS_LIMIT => Some(true),
            "delivery-limit" if id.is_poison() => Some(self.delivered >= DELIVERIES),
            "delivery-limit" if id.is_beside_poison() => None,
            "delivery-limit" => {
                let was_killed = MORTAL_CONSUMERS.contains(&id.lane) && killed > self.killed_before;
                Some(was_killed && self.delivered >= DELIVERIES)
            }
            _ => Some(false),
        }
    }

    /// The range of facts during which its result may have come about.
    fn time(&self) -> RangeInclusive<u64> {
        self.since..=self.until + SLACK
    }
}

/// The stories of all messages, checked against the promises.
pub struct Model {
    script: Script,
    stories: HashMap<Id, Story>,
    quiet: HashSet<String>,
    /// How many messages were accepted where nothing may be lost, and have not ended.
    waiting: usize,
    begun: u64,
    /// Whether the disk is full, and how often it has been filled.
    room: Room,
    filled: u64,
    /// How often the child was killed.
    killed: u64,
    breaches: Vec<Breach>,
    /// Breaches that count only if the machine did not stand still in that range of facts.
    unless_stalled: Vec<(Breach, RangeInclusive<u64>)>,
    /// How many facts were read.
    now: u64,
    /// The facts at which a process reported a stall.
    stalls: Vec<u64>,
}

/// After so many deliveries without an answer, a broker drops a message by itself, whatever the reason.
const BROKERS_LIMIT: u32 = 20;

/// So many facts may come before a process reports that it stood still.
const SLACK: u64 = 100;

impl Model {
    /// A model for messages and handlers that follow this script.
    pub fn new(script: Script) -> Self {
        let (stories, quiet) = (HashMap::new(), HashSet::new());
        Self {
            script,
            stories,
            quiet,
            waiting: 0,
            begun: 0,
            room: Room::Some,
            filled: 0,
            killed: 0,
            breaches: Vec::new(),
            unless_stalled: Vec::new(),
            now: 0,
            stalls: Vec::new(),
        }
    }

    /// How many accepted messages have not ended yet.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether a publisher publishes nothing more, and has all its answers.
    pub fn is_quiet(&self, source: &str) -> bool {
        self.quiet.contains(source)
    }

    /// Adds the next fact.
    pub fn take(&mut self, fact: Fact) {
        self.now += 1;
        let Some(id) = fact.id().cloned() else {
            match fact {
                Fact::Stall(_) => self.stalls.push(self.now),
                Fact::Killed(_) => self.killed += 1,
                Fact::Quiet(source) => _ = self.quiet.insert(source),
                Fact::Disk(room) => {
                    self.room = room;
                    self.filled += u64::from(room == Room::None);
                }
                _ => {}
            }
            return;
        };
        let (script, breaches) = (self.script, &mut self.breaches);
        let foreign = script.foreign(&id);
        let story = self.stories.entry(id.clone()).or_default();
        let waited = story.accepted && !story.has_ended();
        if story.since == 0 {
            story.since = self.now;
            story.killed_before = self.killed;
        }
        story.until = self.now;
        if story.tries == 0 && !matches!(fact, Fact::Try(_)) {
            breaches.push(Breach::Stranger(id.clone()));
        }
        match fact {
            Fact::Try(_) => {
                story.tries += 1;
                story.had_room = (self.room == Room::Some).then_some(self.filled);
            }
            Fact::Yes(_) => story.accepted = true,
            Fact::No(..) => story.noes += 1,
            Fact::Unwritten(..) => {
                story.noes += 1;
                story.unwritten = true;
                if story.had_room == Some(self.filled) {
                    breaches.push(Breach::Unwritten(id.clone()));
                }
            }
            // The framework gives each copy of a message without an id a new id.
            Fact::Named(..) if foreign.is_some_and(|foreign| !foreign.is_named()) => {}
            Fact::Named(_, name) => {
                let known = story.named.get_or_insert_with(|| name.clone());
                if *known != name {
                    breaches.push(Breach::Renamed(id.clone(), known.clone(), name));
                }
            }
            Fact::Along(_, attempt) => story.along.add(attempt),
            Fact::Begin(_, attempt) => {
                story.begun += 1;
                if story.first.is_none() {
                    self.begun += 1;
                    story.first = Some(self.begun);
                }
                if is_unreadable(script, &id) {
                    breaches.push(Breach::Unreadable(id.clone()));
                }
                let attempts = script.attempts(&id);
                if attempt > *attempts.end() {
                    breaches.push(Breach::PastTheCap(id.clone(), attempt));
                } else if attempt != *attempts.start()
                    && (attempt < *attempts.start() || !story.is_retried(script, &id, attempt - 1))
                {
                    let unearned = Breach::Unearned(id.clone(), attempt);
                    match id.lane {
                        // A handler that does not answer within a second has failed.
                        Lane::Wild => self.unless_stalled.push((unearned, story.time())),
                        _ => breaches.push(unearned),
                    }
                }
            }
            Fact::Done(..) => story.done += 1,
            Fact::Acked(..) => {
                story.acked += 1;
                if story.acked > story.done {
                    breaches.push(Breach::AckedUndone(id.clone()));
                }
            }
            Fact::Garbled(_) => breaches.push(Breach::Garbled(id.clone())),
            Fact::Mistyped(_) => breaches.push(Breach::Mistyped(id.clone())),
            Fact::Delivered(_, times) => story.delivered = story.delivered.max(times),
            Fact::Dead(_, attempts, why) => {
                story.dead += 1;
                let may = story.may_be_dead(script, &id, attempts, &why, self.killed);
                let wrongly = Breach::DeadWrongly(id.clone(), attempts, why);
                match may {
                    Some(true) => {}
                    // A lost connection counts like a death, and a missed heartbeat loses the connection.
                    None => self.unless_stalled.push((wrongly, story.time())),
                    Some(false) => breaches.push(wrongly),
                }
            }
            Fact::Maybe(..) | Fact::Foreign(..) => {}
            Fact::Quiet(_) | Fact::Fault(_) | Fact::Killed(_) | Fact::Disk(_) | Fact::Stall(_) => {}
        }
        let waits = story.accepted && !story.has_ended();
        if id.lane.loses_nothing() {
            self.waiting = self.waiting + usize::from(waits) - usize::from(waited);
        }
    }

    /// Judges at the end of a run.
    pub fn judge(mut self) -> (Totals, Vec<Breach>) {
        let mut totals = Totals { stalls: self.stalls.len() as u64, ..Totals::default() };
        let mut in_order: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
        for (id, story) in &self.stories {
            let foreign = self.script.foreign(id);
            totals.accepted += u64::from(story.accepted);
            totals.foreign += u64::from(foreign.is_some() && story.accepted);
            totals.undecodable += u64::from(is_unreadable(self.script, id) && story.dead > 0);
            totals.unwritten += u64::from(story.unwritten);
            totals.handled += u64::from(story.done > 0);
            totals.dead += u64::from(story.dead > 0);
            totals.dropped += u64::from(id.lane == Lane::Most && story.accepted && story.done == 0);
            match id.lane {
                Lane::Wild if id.is_poison() && story.begun > DELIVERIES => {
                    self.breaches.push(Breach::KilledTooOften(id.clone(), story.begun));
                }
                Lane::Wild | Lane::Order | Lane::Bulk | Lane::Both | Lane::Story => {
                    totals.repeated += u64::from(story.done.saturating_sub(1))
                }
                // Without an id, the message cannot be recognized.
                Lane::Once if foreign.is_some_and(|foreign| !foreign.is_named()) => {
                    totals.repeated += u64::from(story.done.saturating_sub(1));
                }
                Lane::Once if story.done > 1 => {
                    self.breaches.push(Breach::EffectRepeated(id.clone(), story.done));
                }
                Lane::Most if story.begun > 1 => self.breaches.push(Breach::HandledTwice(id.clone(), story.begun)),
                Lane::Once | Lane::Most => {}
            }
            if id.lane.loses_nothing() && story.accepted && !story.has_ended() {
                self.breaches.push(Breach::Lost(id.clone()));
            }
            if story.tries > 0 && story.noes == story.tries && (story.begun > 0 || story.dead > 0) {
                self.breaches.push(Breach::Refused(id.clone()));
            }
            if id.is_calm()
                && let Some(what) = unrest(self.script, id, story)
            {
                self.unless_stalled.push((Breach::NotCalm(id.clone(), what), story.time()));
            }
            if let (Lane::Order, true, Some(first)) = (id.lane, story.accepted, story.first) {
                in_order.entry(&id.source).or_default().push((id.number, first));
            }
        }
        for (source, mut firsts) in in_order {
            firsts.sort_unstable();
            for pair in firsts.windows(2) {
                if let [(earlier, earlier_first), (later, later_first)] = *pair
                    && earlier_first > later_first
                {
                    let id = Id { lane: Lane::Order, source: source.to_owned(), number: earlier };
                    self.breaches.push(Breach::OrderBroken(id, later));
                }
            }
        }
        let stalls = &self.stalls;
        let stalled = |time: &RangeInclusive<u64>| stalls.iter().any(|stall| time.contains(stall));
        let unexcused = self.unless_stalled.into_iter().filter(|(_, time)| !stalled(time));
        self.breaches.extend(unexcused.map(|(breach, _)| breach));
        self.breaches.sort_by_key(|breach| breach.id().cloned());
        (totals, self.breaches)
    }
}

fn is_unreadable(script: Script, id: &Id) -> bool {
    script.foreign(id).is_some_and(|foreign| !foreign.is_readable())
}

/// What is wrong with a message in the calm part, in which nothing goes wrong.
fn unrest(script: Script, id: &Id, story: &Story) -> Option<String> {
    let (first, last) = script.attempts(id).into_inner();
    let until = |attempt: u32| attempt - first + 1;
    let (begun, done, dead) = match (id.lane, script.fate(id, story.along)) {
        (lane, _) if is_unreadable(script, id) => (0, 0, u32::from(lane.loses_nothing())),
        // There is one attempt, whatever its result.
        (Lane::Most, _) => (1, u32::from(script.act(id, first).succeeds()), 0),
        (_, Fate::Handled(attempt)) => (until(attempt), 1, 0),
        (_, Fate::Rejected(attempt)) => (until(attempt), 0, 1),
        (_, Fate::Exhausted) => (until(last), 0, 1),
    };
    let is = (story.accepted, story.tries, story.begun, story.done, story.dead);
    // The disk is full during the whole calm part.
    let unwritten = story.unwritten && is == (false, 1, 0, 0, 0);
    if script.foreign(id).as_ref().is_some_and(Foreign::is_refused) {
        let refused = story.noes == 1 && is == (false, 1, 0, 0, 0);
        return (!refused).then(|| "the broker must refuse it, and did not".to_owned());
    }
    if unwritten || is == (true, 1, begun, done, dead) {
        return None;
    }
    Some(format!(
        "accepted {}, tried {}, begun {}, done {}, dead {}; its script says begun {begun}, done {done}, dead {dead}",
        is.0, is.1, is.2, is.3, is.4
    ))
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
