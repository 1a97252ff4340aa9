//! The owner's handle for faults, and the thread's side of it.

use std::{
    sync::{Arc, mpsc},
    time::Duration,
};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{Cause, Event, Fault, FaultError, FiredFault, Hit, Place, Plan, Rule, Target, tally::Tally};
use crate::ask::ask;

/// How many requests may wait for the thread. Each caller waits for its answer, so the queue stays short.
const REQUESTS: usize = 16;

/// A request of the owner to the thread.
#[derive(Debug)]
pub(crate) enum Request {
    Inject { rule: Rule, event: Event, tally: Arc<Tally>, answer: mpsc::SyncSender<Result<u64, FaultError>> },
    Strike { fault: Fault, target: Target, tally: Arc<Tally>, answer: mpsc::SyncSender<u64> },
    Heal { id: Option<u64>, answer: mpsc::SyncSender<()> },
    History { answer: mpsc::SyncSender<Vec<FiredFault>> },
}

/// The faults of a [`Broker`](crate::Broker) or a [`Proxy`](crate::Proxy). All clones control the same faults.
///
/// Each call blocks for the short time that the broker's thread needs for it.
///
/// ```
/// use fluffle_broker::{Broker, Fault, Rule, Target};
///
/// let broker = Broker::builder().fault_seed(7).start()?;
/// let nacks = broker.faults().inject(Rule::new(Fault::Nack).on_queue("orders").probability(0.1))?;
/// broker.faults().strike(Fault::Cut, Target::all())?;
/// println!("{} nacks with seed {}", nacks.fired(), broker.faults().seed());
/// broker.faults().heal_all()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Faults {
    place: Place,
    seed: u64,
    requests: Sender<Request>,
}

impl Faults {
    pub(crate) fn new(place: Place, seed: u64) -> (Self, Receiver<Request>) {
        let (requests, received) = channel(REQUESTS);
        (Self { place, seed, requests }, received)
    }

    /// The seed of all randomness: the same seed, rules and events cause the same faults.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Sets a rule. It stays when the handle is dropped.
    ///
    /// # Errors
    ///
    /// If the rule is invalid, there are already 1,000 rules, or the thread has ended.
    pub fn inject(&self, rule: Rule) -> Result<FaultHandle, FaultError> {
        let event = rule.check(self.place)?;
        let tally = Arc::<Tally>::default();
        let counted = tally.clone();
        let id = self.ask(|answer| Request::Inject { rule, event, tally: counted, answer })??;
        Ok(FaultHandle { cause: Cause { id, tally }, faults: self.clone() })
    }

    /// Causes a fault now, on the current connections. The handle says how many it struck.
    ///
    /// # Errors
    ///
    /// If the fault needs a rule, or does not fit this target, or the thread has ended.
    pub fn strike(&self, fault: Fault, target: Target) -> Result<FaultHandle, FaultError> {
        self.place.check_strike(&fault, &target)?;
        let tally = Arc::<Tally>::default();
        let counted = tally.clone();
        let id = self.ask(|answer| Request::Strike { fault, target, tally: counted, answer })?;
        Ok(FaultHandle { cause: Cause { id, tally }, faults: self.clone() })
    }

    /// Removes every rule, and ends every lasting fault.
    ///
    /// # Errors
    ///
    /// If the thread has ended.
    pub fn heal_all(&self) -> Result<(), FaultError> {
        self.ask(|answer| Request::Heal { id: None, answer })
    }

    /// Returns the faults that have happened: the last 10,000, oldest first.
    ///
    /// # Errors
    ///
    /// If the thread has ended.
    pub fn history(&self) -> Result<Vec<FiredFault>, FaultError> {
        self.ask(|answer| Request::History { answer })
    }

    fn ask<T>(&self, request: impl FnOnce(mpsc::SyncSender<T>) -> Request) -> Result<T, FaultError> {
        ask(&self.requests, request).ok_or(FaultError::Gone)
    }
}

/// A rule that was set, or a fault that was struck. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct FaultHandle {
    cause: Cause,
    faults: Faults,
}

impl FaultHandle {
    /// The number of this fault in the [history](Faults::history).
    pub fn id(&self) -> u64 {
        self.cause.id
    }

    /// How often the fault has happened. A fault by hand counts once for each target it struck.
    pub fn fired(&self) -> u64 {
        self.cause.tally.fired()
    }

    /// Waits until the fault has happened `wanted` times. Blocks the thread.
    ///
    /// # Errors
    ///
    /// If it has not happened so often `within` this time.
    pub fn wait_fired(&self, wanted: u64, within: Duration) -> Result<(), FaultError> {
        match self.cause.tally.wait(wanted, within) {
            fired if fired >= wanted => Ok(()),
            fired => Err(FaultError::NotFired { wanted, fired, within }),
        }
    }

    /// Removes the rule, and ends its lasting faults. Healing twice does nothing.
    ///
    /// # Errors
    ///
    /// If the thread has ended.
    pub fn heal(&self) -> Result<(), FaultError> {
        let id = Some(self.cause.id);
        self.faults.ask(|answer| Request::Heal { id, answer })
    }
}

/// A broker or proxy, in which faults happen.
pub(crate) trait Site {
    fn plan(&self) -> &Plan;

    /// Carries out a fault on everything that the target names, and records each.
    fn strike(&self, hit: &Hit, target: &Target);

    /// Ends the lasting faults of one cause, or all.
    fn heal(&self, id: Option<u64>);
}

/// Carries out a request of the owner.
pub(crate) fn serve(site: &impl Site, request: Request) {
    match request {
        Request::Inject { rule, event, tally, answer } => {
            let id = site.plan().new_id();
            let _ = answer.send(site.plan().add(Cause { id, tally }, rule, event).map(|()| id));
        }
        Request::Strike { fault, target, tally, answer } => {
            let id = site.plan().new_id();
            site.strike(&Hit { cause: Cause { id, tally }, fault, event: None, bytes: None }, &target);
            let _ = answer.send(id);
        }
        Request::Heal { id, answer } => {
            site.plan().remove(id);
            site.heal(id);
            let _ = answer.send(());
        }
        Request::History { answer } => {
            let _ = answer.send(site.plan().history());
        }
    }
}
