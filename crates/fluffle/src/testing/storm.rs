//! Faults at random for a while, by a seed.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use fastrand::Rng;
use fluffle_broker::{Direction, Event, Fault, FaultError, FaultHandle, Faults, FiredFault, Rule, Target};
use tokio::time::{Instant, sleep_until};

use crate::error::Error;

/// Most connections that one fault by hand strikes, unless it strikes all.
const FEW: usize = 3;

/// Faults of all kinds, at random times, for a while; then everything is healed. What comes when is drawn from a seed.
///
/// | setting | default |
/// |---|---|
/// | [`lasting`](Storm::lasting) | 2 s |
/// | [`every`](Storm::every) | 100 ms between one fault and the next, on average |
/// | [`only`](Storm::only) | all kinds of [`Fault`] |
///
/// The same seed and settings give the same [forecast](Storm::forecast): the same kinds, at the same times, for as long.
/// Whom they hit cannot be repeated: that depends on which connections there are at that moment, and which message is
/// published next, and so on how threads happen to run.
///
/// ```
/// use std::time::Duration;
/// use fluffle::{broker::Fault, testing::{Storm, TestBroker}};
///
/// # actix::System::new().block_on(async {
/// let broker = TestBroker::start()?;
/// // … start the service, and let somebody publish meanwhile.
/// let storm = Storm::seeded(42).lasting(Duration::from_millis(300)).only(|fault| *fault != Fault::Return);
/// let report = storm.rage(broker.faults()).await?;
/// println!("{report}");
/// // … broker.settled(&service).await?; and look: is everything there?
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
    /// The storm of this seed.
    pub fn seeded(seed: u64) -> Self {
        Self { seed, lasting: Duration::from_secs(2), every: Duration::from_millis(100), wanted: Arc::new(|_| true) }
    }

    /// How long it rages. Default 2 s, at most a day.
    #[must_use]
    pub fn lasting(mut self, time: Duration) -> Self {
        self.lasting = time.min(Duration::from_secs(24 * 3600));
        self
    }

    /// The time from one fault to the next, on average; 1 ms at least. Default 100 ms.
    #[must_use]
    pub fn every(mut self, time: Duration) -> Self {
        self.every = time.max(Duration::from_millis(1));
        self
    }

    /// Leaves out the faults to which `wanted` says no. The others come when they would have come, so a storm that broke
    /// something can be taken apart, kind by kind. Said twice, both must say yes.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&Fault) -> bool + Send + Sync + 'static) -> Self {
        let before = self.wanted;
        self.wanted = Arc::new(move |fault| before(fault) && wanted(fault));
        self
    }

    /// What will come, in order.
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

    /// Rages where these faults happen: `broker.faults()`, or `proxy.faults()`, before which faults that need the broker's
    /// help are left out. Each fault that lasts is healed when its time is over, and all of them at the end. Rules and
    /// faults that are not the storm's are left alone.
    ///
    /// # Errors
    /// When the broker or proxy has ended, or has a thousand rules already.
    ///
    /// # Cancellation
    /// Dropped before it is over, what rages then goes on: [`Faults::heal_all`] ends it.
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

/// What was struck and is not healed yet, with the time when it is to be.
struct Raging {
    begin: Instant,
    lasting: Vec<(Duration, FaultHandle)>,
}

impl Raging {
    /// Heals, each at its time, what ends up to then.
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

/// One fault of a [`Storm`], and when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gust {
    /// How long after the storm's beginning it comes.
    pub at: Duration,
    /// How long after that it is healed: it ends, if it is a fault that lasts, and its rule is removed, if it is one that
    /// waits for something to happen to.
    pub lasts: Duration,
    /// What it is.
    pub fault: Fault,
    whom: Whom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    All,
    Oldest(usize),
    /// Those to whom it happens next, by rule: so many, at the fault's natural event or another.
    Next(u64, Option<Event>),
}

impl Gust {
    fn draw(at: Duration, random: &mut Rng) -> Self {
        let time = Duration::from_millis(random.u64(20..400));
        let direction = [Direction::ToBroker, Direction::ToClient, Direction::Both][random.usize(0..3)];
        let (some, next) = (random.usize(0..=FEW), random.u64(1..=5));
        let some = if some == 0 { Whom::All } else { Whom::Oldest(some) };
        // A 406 to whoever declares would be a lie about its queue, and a permanent one: channels close over messages.
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
        // Only missing heartbeats tell a client that its connection is half open, which takes two intervals.
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

/// What a [`Storm`] did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StormReport {
    /// The storm's seed.
    pub seed: u64,
    /// How many faults happened: one that strikes three connections counts three times, a rule that nothing ever came to
    /// not at all.
    pub fired: u64,
    /// What happened to whom, in order; the oldest are left out when there were more than the
    /// [history](Faults::history) holds.
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
