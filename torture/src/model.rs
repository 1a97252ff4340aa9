//! What must hold of every message. Pure: facts in, breaches out.
//!
//! What is promised is in `docs/SEMANTICS.md`; what the model takes it to mean, and what it cannot see, is in
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

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Accepted, and neither handled nor dead.
    Lost(Id),
    /// First handled after a later message of its publisher was.
    OrderBroken(Id, u64),
    /// Effectively once, and its effect came so often.
    EffectRepeated(Id, u32),
    /// At most once, and given to a handler so often.
    HandledTwice(Id, u32),
    /// Acked more often than it was handled.
    AckedUndone(Id),
    /// An attempt past the last.
    PastTheCap(Id, u32),
    /// It kills its process, and was given to a handler so often.
    KilledTooOften(Id, u32),
    /// An attempt, though the one before it did not fail, or before the first that its headers say.
    Unearned(Id, u32),
    /// Every publish of it was refused, and it is there.
    Refused(Id),
    /// Its journal did not take it, though the disk had room all the while.
    Unwritten(Id),
    /// Nobody published it.
    Stranger(Id),
    /// Its body is another.
    Garbled(Id),
    /// Nobody can read all of it, and a handler was given it.
    Unreadable(Id),
    /// In a batch: it came under these two names.
    Renamed(Id, String, String),
    /// It is dead for a reason that it has not.
    DeadWrongly(Id, u32, String),
    /// Published when nothing went wrong any more, and not handled exactly as its script says.
    NotCalm(Id, String),
    /// Not about one message: what did not end in time, or ended by itself.
    Stuck(String),
}

impl Breach {
    /// The message it is about.
    pub fn id(&self) -> Option<&Id> {
        match self {
            Self::Lost(id) | Self::AckedUndone(id) | Self::Refused(id) | Self::Unwritten(id) => Some(id),
            Self::Stranger(id) | Self::Garbled(id) | Self::Unreadable(id) => Some(id),
            Self::OrderBroken(id, _) => Some(id),
            Self::EffectRepeated(id, _)
            | Self::HandledTwice(id, _)
            | Self::PastTheCap(id, _)
            | Self::KilledTooOften(id, _)
            | Self::Unearned(id, _) => Some(id),
            Self::DeadWrongly(id, ..) | Self::NotCalm(id, _) | Self::Renamed(id, ..) => Some(id),
            Self::Stuck(_) => None,
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(id) => write!(f, "{id} was accepted, and is neither handled nor dead"),
            Self::OrderBroken(id, later) => write!(f, "{id} was first handled after number {later} of its publisher"),
            Self::EffectRepeated(id, times) => write!(f, "{id} had its effect {times} times: effectively once?"),
            Self::HandledTwice(id, times) => write!(f, "{id} was given to a handler {times} times: at most once?"),
            Self::AckedUndone(id) => write!(f, "{id} was acked more often than it was handled"),
            Self::KilledTooOften(id, times) => write!(f, "{id} killed its process {times} times of {DELIVERIES}"),
            Self::PastTheCap(id, attempt) => write!(f, "{id} came as attempt {attempt}, past its last"),
            Self::Unearned(id, attempt) => {
                write!(f, "{id} came as attempt {attempt}, which is not its first, and the one before did not fail")
            }
            Self::Refused(id) => write!(f, "{id} was refused each time it was published, and came all the same"),
            Self::Unwritten(id) => write!(f, "{id} was not written to its journal, though the disk had room"),
            Self::Stranger(id) => write!(f, "{id} was never published"),
            Self::Garbled(id) => write!(f, "{id} has another body than was published"),
            Self::Unreadable(id) => write!(f, "{id} cannot be read, and was given to a handler"),
            Self::Renamed(id, name, other) => write!(f, "{id} came as {name}, and as {other}"),
            Self::DeadWrongly(id, attempts, why) => write!(f, "{id} is dead after {attempts} attempts: {why:?}?"),
            Self::NotCalm(id, what) => write!(f, "{id}, published after the storm: {what}"),
            Self::Stuck(what) => f.write_str(what),
        }
    }
}

/// How many messages came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Confirmed by the broker.
    pub accepted: u64,
    /// Of these, from strangers.
    pub foreign: u64,
    /// Of the foreign ones, dead because they cannot be read.
    pub undecodable: u64,
    /// Refused because its journal's disk was full.
    pub unwritten: u64,
    /// Handled, once at least.
    pub handled: u64,
    /// Dead-lettered.
    pub dead: u64,
    /// At most once: published and not handled, for it did not arrive or its handler failed.
    pub dropped: u64,
    /// At least once: handled again, so often in all.
    pub repeated: u64,
    /// How often a process stood still for long enough that a deadline may have passed.
    pub stalls: u64,
}

/// What is known of one message.
#[derive(Debug, Default)]
struct Story {
    /// When it was first heard of, and last, in facts.
    since: u64,
    until: u64,
    tries: u32,
    /// How often the disk had been filled when it was tried last, if there was room then.
    had_room: Option<u64>,
    noes: u32,
    /// Some of the noes were for want of room.
    unwritten: bool,
    accepted: bool,
    named: Option<String>,
    along: Along,
    begun: u32,
    /// Its place among all first handlings.
    first: Option<u64>,
    done: u32,
    acked: u32,
    dead: u32,
    /// The most deliveries in vain that its dead letter tells of.
    delivered: u32,
    /// How often the process of its handlers had been killed when it was first heard of.
    killed_before: u64,
}

impl Story {
    /// Whether it came to an end that is promised.
    fn has_ended(&self) -> bool {
        self.done > 0 || self.dead > 0
    }

    /// Whether another attempt follows this one.
    fn is_retried(&self, script: Script, id: &Id, attempt: u32) -> bool {
        let act = script.act(id, attempt);
        self.along.has(attempt) || !act.succeeds() && act != Act::Reject
    }

    /// Whether it may be; `None`: only if connections were lost. `killed` is how often the child has been killed yet.
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
            // A lost connection is charged to nobody. But a process does not know which ones its predecessor lost.
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

    /// When what it has come to may have happened.
    fn time(&self) -> RangeInclusive<u64> {
        self.since..=self.until + SLACK
    }
}

/// Every message's story, and the promises it is held against.
pub struct Model {
    script: Script,
    stories: HashMap<Id, Story>,
    quiet: HashSet<String>,
    /// Accepted where nothing may be lost, and not ended.
    waiting: usize,
    begun: u64,
    /// Whether the disk is full, and how often it has been filled.
    room: Room,
    filled: u64,
    /// How often the child was killed.
    killed: u64,
    breaches: Vec<Breach>,
    /// What is one unless the machine stood still meanwhile, and when that would have been.
    unless_stalled: Vec<(Breach, RangeInclusive<u64>)>,
    /// How many facts were told.
    now: u64,
    /// When a process stood still.
    stalls: Vec<u64>,
}

/// Past so many deliveries in vain a broker drops a message by itself, whatever they were in vain for.
const BROKERS_LIMIT: u32 = 20;

/// So many facts may be told before one who stood still says so.
const SLACK: u64 = 100;

impl Model {
    /// Of messages and handlers that follow this script.
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

    /// How many accepted messages have not come to an end yet.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether a publisher has all its answers and will publish no more.
    pub fn is_quiet(&self, source: &str) -> bool {
        self.quiet.contains(source)
    }

    /// Takes the next fact.
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
            // The framework gives a name to a copy of a message that has none, and to another copy another.
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
                        // A second without an answer is a failure.
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
            Fact::Delivered(_, times) => story.delivered = story.delivered.max(times),
            Fact::Dead(_, attempts, why) => {
                story.dead += 1;
                let may = story.may_be_dead(script, &id, attempts, &why, self.killed);
                let wrongly = Breach::DeadWrongly(id.clone(), attempts, why);
                match may {
                    Some(true) => {}
                    // A lost connection counts as a death, and a missed heartbeat is one.
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

    /// Judges, when all is over.
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
                Lane::Wild | Lane::Order | Lane::Bulk => totals.repeated += u64::from(story.done.saturating_sub(1)),
                // Without a name it cannot be told from another.
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

/// What is wrong with a message that nothing went wrong with.
fn unrest(script: Script, id: &Id, story: &Story) -> Option<String> {
    let (first, last) = script.attempts(id).into_inner();
    let until = |attempt: u32| attempt - first + 1;
    let (begun, done, dead) = match (id.lane, script.fate(id, story.along)) {
        (lane, _) if is_unreadable(script, id) => (0, 0, u32::from(lane.loses_nothing())),
        // One attempt, whatever comes of it.
        (Lane::Most, _) => (1, u32::from(script.act(id, first).succeeds()), 0),
        (_, Fate::Handled(attempt)) => (until(attempt), 1, 0),
        (_, Fate::Rejected(attempt)) => (until(attempt), 0, 1),
        (_, Fate::Exhausted) => (until(last), 0, 1),
    };
    let is = (story.accepted, story.tries, story.begun, story.done, story.dead);
    // The disk is full in all calm.
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
