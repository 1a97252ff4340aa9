//! Random faults for a limited time, derived from a seed.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use fastrand::Rng;
use fluffle_broker::{Direction, Event, Fault, FaultError, FaultHandle, Faults, FiredFault, Rule, Target};
use tokio::time::{Instant, sleep_until};

use crate::error::Error;

/// Most connections that a fault without a rule strikes, unless it strikes all.
const FEW: usize = 3;

/// Causes faults of all kinds at random times for a limited time, and then heals them all. A seed determines the kinds
/// and times.
///
/// | setting | default |
/// |---|---|
/// | [`lasting`](Storm::lasting) | 2 s |
/// | [`every`](Storm::every) | 100 ms between one fault and the next, on average |
/// | [`only`](Storm::only) | all kinds of [`Fault`] |
///
/// The same seed and settings give the same [forecast](Storm::forecast): the same kinds of faults, at the same times,
/// for the same durations. Which connections and messages they hit is not repeatable, because that depends on the
/// connections of that moment and the message published next, and so on the scheduling of threads.
///
/// ```
/// use std::time::Duration;
/// use fluffle::{broker::Fault, testing::{Storm, TestBroker}};
///
/// # actix::System::new().block_on(async {
/// let broker = TestBroker::start()?;
/// // … start the service, and publish messages during the storm.
/// let storm = Storm::seeded(42).lasting(Duration::from_millis(300)).only(|fault| *fault != Fault::Return);
/// let report = storm.rage(broker.faults()).await?;
/// println!("{report}");
/// // … broker.settled(&service).await?; then check that every message is there.
/// # Ok::<(), fluffle::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Storm {
    seed: u64,
    lasting: Duration,
    every: Duration,
    wanted: Arc<dyn Fn(&Fault) -> bool + Send + Sync>,
}

impl Storm {
    /// Creates the storm of this seed.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, lasting: Duration::from_secs(2), every: Duration::from_millis(100), wanted: Arc::new(|_| true) }
    }

    /// Sets how long the storm lasts. Default 2 s, at most a day.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time.min(Duration::from_secs(24 * 3600));
        self
    }

    /// Sets the average time from one fault to the next. At least 1 ms, default 100 ms.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time.max(Duration::from_millis(1));
        self
    }

    /// Leaves out the faults for which `wanted` returns `false`. The times of the others do not change, so you can
    /// narrow down which kind of fault causes a failure. If `only` is called twice, a fault needs `true` from both.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&Fault) -> bool + Send + Sync + 'static) -> Self {
        let before = self.wanted;
        self.wanted = Arc::new(move |fault| before(fault) && wanted(fault));
        self
    }

    /// Returns the faults of this storm, in order of time.
    ///
    /// ```
    /// use fluffle::{broker::Fault, testing::Storm};
    ///
    /// let storm = Storm::seeded(42);
    /// storm.forecast().iter().for_each(|gust| println!("{gust}"));
    /// assert_eq!(storm.forecast(), Storm::seeded(42).forecast());
    /// assert!(storm.only(|fault| *fault == Fault::Cut).forecast().iter().all(|gust| gust.fault == Fault::Cut));
    /// ```
    pub fn forecast(&self) -> Vec<Gust> {
        let mut random = Rng::with_seed(self.seed);
        let mut gusts = Vec::new();
        let mut at = Duration::ZERO;
        loop {
            at += self.every.mul_f64(2.0 * random.f64());
            if at >= self.lasting {
                return gusts;
            }
            let gust = Gust::draw(at, &mut random);
            if (self.wanted)(&gust.fault) {
                gusts.push(gust);
            }
        }
    }

    /// Runs the storm on `faults`, which is `broker.faults()` or `proxy.faults()`. A proxy leaves out the faults that
    /// need the broker's help. Each lasting fault is healed when its time is over, and all remaining ones at the end.
    /// Rules and faults of others are not touched.
    ///
    /// # Errors
    /// If the broker or proxy has ended, or already has 1,000 rules.
    ///
    /// # Cancellation
    /// If the future is dropped before the storm is over, the current faults go on; [`Faults::heal_all`] ends them.
    pub async fn rage(&self, faults: &Faults) -> Result<StormReport, Error> {
        let begin = Instant::now();
        let mut raging = Raging { begin, lasting: Vec::new() };
        let mut struck = Vec::new();
        for gust in self.forecast() {
            raging.heal_until(gust.at).await?;
            sleep_until(begin + gust.at).await;
            match gust.strike(faults) {
                Ok(handle) => {
                    struck.push(handle.clone());
                    raging.lasting.push((gust.at + gust.lasts, handle));
                }
                Err(FaultError::NeedsBroker { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        raging.heal_until(self.lasting).await?;
        sleep_until(begin + self.lasting).await;
        raging.lasting.iter().try_for_each(|(_, handle)| handle.heal())?;
        StormReport::new(self.seed, faults, &struck)
    }
}

impl fmt::Debug for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storm")
            .field("seed", &self.seed)
            .field("lasting", &self.lasting)
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

/// The faults that are not healed yet, each with the time at which it must be healed.
struct Raging {
    begin: Instant,
    lasting: Vec<(Duration, FaultHandle)>,
}

impl Raging {
    /// Heals the faults that end up to `time`, each at its own time.
    async fn heal_until(&mut self, time: Duration) -> Result<(), Error> {
        self.lasting.sort_by_key(|(ends, _)| *ends);
        let over = self.lasting.iter().take_while(|(ends, _)| *ends <= time).count();
        for (ends, handle) in self.lasting.drain(..over) {
            sleep_until(self.begin + ends).await;
            handle.heal()?;
        }
        Ok(())
    }
}

/// One fault of a [`Storm`], and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gust {
    /// The time of the fault, counted from the beginning of the storm.
    pub at: Duration,
    /// The time from then until it is healed. Healing ends a fault that lasts, and removes the rule of a fault that
    /// waits for an event.
    pub lasts: Duration,
    /// The fault.
    pub fault: Fault,
    whom: Whom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    All,
    Oldest(usize),
    /// The next so many that a rule hits, at this event, or at the fault's natural event if there is none.
    Next(u64, Option<Event>),
}

impl Gust {
    fn draw(at: Duration, random: &mut Rng) -> Self {
        let time = Duration::from_millis(random.u64(20..400));
        let direction = [Direction::ToBroker, Direction::ToClient, Direction::Both][random.usize(0..3)];
        let (some, next) = (random.usize(0..=FEW), random.u64(1..=5));
        let some = if some == 0 { Whom::All } else { Whom::Oldest(some) };
        // Close channels only at message events: a 406 in answer to a declaration would look like a conflict of the
        // topology, which is a permanent error.
        let message = Whom::Next(next, Some([Event::Published, Event::Settled][random.usize(0..2)]));
        let next = Whom::Next(next, None);
        let (fault, whom) = match random.u8(0..17) {
            0 => (Fault::Refuse, next),
            1 => (Fault::HalfOpen, some),
            2 => (Fault::Cut, some),
            3 => (Fault::Stall { direction, time }, some),
            4 => (Fault::Delay { direction, time: time / 20 }, some),
            5 => (Fault::Slow { direction, bytes_per_second: 50_000 }, some),
            6 => (Fault::CorruptFrame, some),
            7 => (Fault::CloseConnection { code: 320, text: "CONNECTION_FORCED - by the storm".to_owned() }, some),
            8 => (Fault::CloseChannel { code: 406, text: "PRECONDITION_FAILED - by the storm".to_owned() }, message),
            9 => (Fault::DropConfirm, next),
            10 => (Fault::DelayConfirm { time }, next),
            11 => (Fault::Nack, next),
            12 => (Fault::Return, next),
            13 => (Fault::CancelConsumer, some),
            14 => (Fault::Block { reason: "low on memory, says the storm".to_owned(), time }, Whom::All),
            15 => (Fault::Restart { away: time }, Whom::All),
            _ => (Fault::Crash { away: time }, Whom::All),
        };
        // A client notices a half-open connection only by missing heartbeats, which takes two intervals.
        let longest = if fault == Fault::HalfOpen { 4_000 } else { 1_500 };
        Self { at, lasts: Duration::from_millis(random.u64(50..longest)), fault, whom }
    }

    fn strike(&self, faults: &Faults) -> Result<FaultHandle, FaultError> {
        match self.whom {
            Whom::All => faults.strike(self.fault.clone(), Target::all()),
            Whom::Oldest(count) => faults.strike(self.fault.clone(), Target::first(count)),
            Whom::Next(times, event) => {
                let rule = Rule::new(self.fault.clone()).times(times);
                faults.inject(event.into_iter().fold(rule, Rule::at))
            }
        }
    }
}

impl fmt::Display for Gust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {:.3?} for {:.3?}: {} ", self.at, self.lasts, self.fault)?;
        match self.whom {
            Whom::All => f.write_str("to all"),
            Whom::Oldest(count) => write!(f, "to the {count} oldest"),
            Whom::Next(times, _) => write!(f, "to the next {times}"),
        }
    }
}

/// The faults that a [`Storm`] caused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StormReport {
    /// The storm's seed.
    pub seed: u64,
    /// The number of faults that happened. A fault that strikes three connections counts three times; a rule whose
    /// event never came counts zero times.
    pub fired: u64,
    /// The faults that happened and what they hit, in order. If there were more than the [history](Faults::history)
    /// holds, the oldest are missing.
    pub history: Vec<FiredFault>,
}

impl StormReport {
    fn new(seed: u64, faults: &Faults, struck: &[FaultHandle]) -> Result<Self, Error> {
        let ours: HashSet<u64> = struck.iter().map(FaultHandle::id).collect();
        let history = faults.history()?.into_iter().filter(|fired| ours.contains(&fired.id)).collect();
        Ok(Self { seed, fired: struck.iter().map(FaultHandle::fired).sum(), history })
    }
}

impl fmt::Display for StormReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "storm of seed {}: {} faults", self.seed, self.fired)?;
        self.history.iter().try_for_each(|fired| write!(f, "\n  {fired}"))
    }
}
