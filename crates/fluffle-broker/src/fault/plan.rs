//! The active rules, checked at every event, and the decisions that are not carried out yet.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use super::{Cause, Direction, Event, Fault, FaultError, FiredFault, Rule, Scene};
use crate::keys::ConnectionKey;

/// The most rules at a time.
const MOST_RULES: usize = 1000;

/// How many faults the history keeps.
const MEMORY: usize = 10_000;

/// A rule's decision: the fault happens now, or after so many more bytes.
#[derive(Clone, Debug)]
pub(crate) struct Hit {
    pub(crate) cause: Cause,
    pub(crate) fault: Fault,
    pub(crate) event: Option<Event>,
    pub(crate) bytes: Option<(Direction, u64)>,
}

/// A hit that waits until the state it changes is not borrowed.
#[derive(Debug)]
pub(crate) struct Strike {
    pub(crate) hit: Hit,
    pub(crate) connection: ConnectionKey,
    pub(crate) channel: u16,
    pub(crate) consumer: Option<Rc<str>>,
}

#[derive(Debug)]
struct Armed {
    cause: Cause,
    rule: Rule,
    event: Event,
    random: fastrand::Rng,
    seen: u64,
    fired: u64,
}

impl Armed {
    fn is_due(&mut self) -> bool {
        self.seen += 1;
        let due = self.seen > self.rule.after
            && self.fired < self.rule.times
            && (self.rule.probability >= 1.0 || self.random.f64() < self.rule.probability);
        self.fired += u64::from(due);
        due
    }
}

#[derive(Debug)]
pub(crate) struct Plan {
    seed: u64,
    /// The events for which any rule waits, as bits. If no rule waits for an event, checking this is its whole cost.
    awaited: Cell<u8>,
    rules: RefCell<Vec<Armed>>,
    strikes: RefCell<Vec<Strike>>,
    history: RefCell<VecDeque<FiredFault>>,
    happened: Cell<u64>,
    causes: Cell<u64>,
    sown: Cell<u64>,
}

impl Plan {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            awaited: Cell::new(0),
            rules: RefCell::default(),
            strikes: RefCell::default(),
            history: RefCell::default(),
            happened: Cell::new(0),
            causes: Cell::new(0),
            sown: Cell::new(0),
        }
    }

    pub(super) fn new_id(&self) -> u64 {
        self.causes.set(self.causes.get() + 1);
        self.causes.get()
    }

    pub(super) fn add(&self, cause: Cause, rule: Rule, event: Event) -> Result<(), FaultError> {
        let mut rules = self.rules.borrow_mut();
        if rules.len() >= MOST_RULES {
            return Err(FaultError::TooManyRules { most: MOST_RULES });
        }
        // Each rule draws from its own stream, so that rules do not change each other's randomness.
        let stream = self.sown.replace(self.sown.get() + 1);
        let random = fastrand::Rng::with_seed(self.seed.wrapping_add(stream.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        rules.push(Armed { cause, rule, event, random, seen: 0, fired: 0 });
        drop(rules);
        self.count_awaited();
        Ok(())
    }

    /// Removes one rule, or all.
    pub(super) fn remove(&self, id: Option<u64>) {
        self.rules.borrow_mut().retain(|armed| id.is_some_and(|id| id != armed.cause.id));
        self.count_awaited();
    }

    fn count_awaited(&self) {
        let rules = self.rules.borrow();
        let waiting = rules.iter().filter(|armed| armed.fired < armed.rule.times);
        self.awaited.set(waiting.fold(0, |bits, armed| bits | armed.event.bit()));
    }

    /// Whether any rule waits for the event.
    pub(crate) fn awaits(&self, event: Event) -> bool {
        self.awaited.get() & event.bit() != 0
    }

    /// Returns the faults that happen at an event.
    pub(crate) fn ask(&self, event: Event, scene: &Scene<'_>) -> Vec<Hit> {
        let mut hits = Vec::new();
        if !self.awaits(event) {
            return hits;
        }
        for armed in self.rules.borrow_mut().iter_mut() {
            if armed.event == event && armed.rule.matches(scene) && armed.is_due() {
                let (cause, fault, bytes) = (armed.cause.clone(), armed.rule.fault.clone(), armed.rule.bytes);
                hits.push(Hit { cause, fault, event: Some(event), bytes });
            }
        }
        if hits.is_empty() {
            return hits;
        }
        self.count_awaited();
        // A hit that waits for bytes has not happened yet.
        hits.iter().filter(|hit| hit.bytes.is_none()).for_each(|hit| self.record(hit, scene.connection));
        hits
    }

    /// Counts a fault and adds it to the history.
    pub(crate) fn record(&self, hit: &Hit, connection: &str) {
        self.happened.set(self.happened.get() + 1);
        let (number, id, connection) = (self.happened.get(), hit.cause.id, connection.to_owned());
        let fired = FiredFault { number, id, fault: hit.fault.clone(), event: hit.event, connection };
        tracing::debug!(seed = self.seed, "fault {fired}");
        let mut history = self.history.borrow_mut();
        if history.len() == MEMORY {
            history.pop_front();
        }
        history.push_back(fired);
        drop(history);
        hit.cause.tally.add();
    }

    pub(super) fn history(&self) -> Vec<FiredFault> {
        self.history.borrow().iter().cloned().collect()
    }

    /// Keeps a hit until the state can be changed.
    pub(crate) fn defer(&self, strike: Strike) {
        self.strikes.borrow_mut().push(strike);
    }

    pub(crate) fn has_strikes(&self) -> bool {
        !self.strikes.borrow().is_empty()
    }

    pub(crate) fn take_strikes(&self) -> Vec<Strike> {
        std::mem::take(&mut self.strikes.borrow_mut())
    }
}
