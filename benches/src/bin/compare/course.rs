//! One round of a contestant: some messages to warm up, then those that count.
//!
//! The course numbers the messages, measures the time, and checks the work: every message must be confirmed, handled
//! exactly once, and of the right size. A contestant only publishes, awaits confirms, takes deliveries and
//! acknowledges.

use std::{
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use protos::usgs::Quake;
use tokio::sync::{Notify, watch};

use crate::{
    body::{self, Bodies, Parcel},
    cpu::{Processes, Usage},
    failure::Failure,
    figures::Figures,
    latency::Latencies,
    node::{Node, Traffic},
    pace::Pace,
    scenario::Terms,
};

/// The round of one contestant.
#[derive(Debug)]
pub(crate) struct Course {
    pub(crate) url: String,
    pub(crate) queue: String,
    pub(crate) terms: Terms,
    pub(crate) bodies: Bodies,
    processes: Processes,
    traffic: Option<Traffic>,
    warm_up: u64,
    measured: u64,
    confirmed: AtomicU64,
    handled: AtomicU64,
    sum: AtomicU64,
    wrong_size: AtomicU64,
    /// How many messages must be handled by the end of the lap, counted from the start.
    goal: AtomicU64,
    arrived: Notify,
    consuming: Notify,
    over: watch::Sender<bool>,
    latencies: Latencies,
    figures: Mutex<Option<Figures>>,
}

impl Course {
    pub(crate) fn new(node: &Node, queue: String, terms: Terms, bodies: Bodies, messages: u64) -> Self {
        Self::with(node.url(), queue, terms, bodies, messages, node.processes(), node.traffic())
    }

    fn with(
        url: String,
        queue: String,
        terms: Terms,
        bodies: Bodies,
        messages: u64,
        processes: Processes,
        traffic: Option<Traffic>,
    ) -> Self {
        Self {
            url,
            queue,
            bodies,
            terms,
            processes,
            // Reading the traffic takes milliseconds, so only do it where it is needed.
            traffic: traffic.filter(|_| terms.records),
            warm_up: (messages / 5).max(1),
            measured: messages.max(1),
            confirmed: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            wrong_size: AtomicU64::new(0),
            goal: AtomicU64::new(u64::MAX),
            arrived: Notify::new(),
            consuming: Notify::new(),
            over: watch::channel(false).0,
            latencies: Latencies::default(),
            figures: Mutex::default(),
        }
    }

    /// Bytes the broker has received, if that matters.
    fn received(&self) -> Option<u64> {
        self.traffic.as_ref().and_then(Traffic::received)
    }

    /// Called when the consumer is attached.
    pub(crate) fn consumes(&self) {
        self.consuming.notify_one();
    }

    /// Resolves when the consumer is attached, or never will be.
    pub(crate) async fn attached(&self) {
        tokio::select! {
            () = self.consuming.notified() => {}
            () = self.over() => {}
        }
    }

    /// Counts an encoded message as handled.
    pub(crate) fn handled(&self, body: &[u8]) {
        self.count(body::number(body), body.len() == self.bodies.bytes());
    }

    /// Counts a decoded message as handled.
    pub(crate) fn handled_parcel(&self, parcel: &Parcel) {
        self.count(parcel.number, parcel.filler.len() == self.bodies.filling());
    }

    /// Counts a record as handled.
    pub(crate) fn handled_quake(&self, quake: &Quake) {
        self.count(body::fingerprint(quake), true);
    }

    fn count(&self, fingerprint: u64, right_size: bool) {
        if let Some(interval) = self.terms.interval {
            self.latencies.record(fingerprint, interval);
        }
        if !right_size {
            self.wrong_size.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(fingerprint, Ordering::Relaxed);
        let handled = self.handled.fetch_add(1, Ordering::AcqRel) + 1;
        if handled == self.goal.load(Ordering::Acquire) {
            self.arrived.notify_one();
        }
    }

    /// Called when there is nothing left to do, or one side has failed.
    pub(crate) fn end(&self) {
        self.over.send_replace(true);
    }

    pub(crate) async fn over(&self) {
        // `wait_for` cannot fail, because `self` owns the sender.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// The lap for warming up, then the one that counts.
    pub(crate) fn laps(self: &Arc<Self>) -> impl Iterator<Item = Lap> {
        let total = self.warm_up + self.measured;
        let laps = [(1..self.warm_up + 1, false), (self.warm_up + 1..total + 1, true)];
        let course = Arc::clone(self);
        laps.into_iter().map(move |(numbers, counts)| Lap::start(Arc::clone(&course), numbers, counts))
    }

    /// Returns the figures of a finished course, if all the work was done.
    pub(crate) fn verdict(&self) -> Result<Figures, Failure> {
        let total = self.warm_up + self.measured;
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        let (confirmed, handled, sum) = (read(&self.confirmed), read(&self.handled), read(&self.sum));
        if confirmed != total {
            return Err(format!("{confirmed} of {total} messages were confirmed").into());
        }
        let expected = (1..=total).fold(0u64, |sum, number| sum.wrapping_add(self.bodies.fingerprint(number)));
        if handled != total || sum != expected {
            return Err(format!("{handled} of {total} messages were handled, or not the right ones (sum {sum})").into());
        }
        if read(&self.wrong_size) > 0 {
            return Err(format!("{} messages had another size", read(&self.wrong_size)).into());
        }
        let figures = *self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.ok_or_else(|| "the lap that counts was not run to its end".into())
    }
}

/// One lap: its clock runs from here to [`finish`](Lap::finish).
pub(crate) struct Lap {
    course: Arc<Course>,
    numbers: Range<u64>,
    messages: u64,
    counts: bool,
    pace: Option<Pace>,
    began: Instant,
    usage: Usage,
    received: Option<u64>,
    confirmed: u64,
}

impl Lap {
    fn start(course: Arc<Course>, numbers: Range<u64>, counts: bool) -> Self {
        let messages = numbers.end - numbers.start;
        course.goal.store(numbers.end - 1, Ordering::Release);
        let received = course.received();
        let usage = course.processes.usage();
        let began = Instant::now();
        course.latencies.restart(began, numbers.start);
        let pace = course.terms.interval.map(|interval| Pace::start(began, interval, messages));
        Self { course, numbers, messages, counts, pace, began, usage, received, confirmed: 0 }
    }

    /// Returns the numbers of the next messages to publish, at most `most`, as soon as one is due; `None` at the end of
    /// the lap. Cancellation safe.
    pub(crate) async fn burst(&mut self, most: usize) -> Option<Range<u64>> {
        if self.numbers.is_empty() || *self.course.over.borrow() {
            return None;
        }
        let mut count = (self.numbers.end - self.numbers.start).min(most as u64);
        if let Some(pace) = &mut self.pace {
            count = pace.due(count).await;
        }
        let start = self.numbers.start;
        self.numbers.start += count;
        Some(start..self.numbers.start)
    }

    /// Reports that the broker has confirmed so many more messages.
    pub(crate) fn confirmed(&mut self, messages: u64) {
        self.confirmed += messages;
    }

    /// Waits until the consumer has handled everything, then stops the clock.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        let course = &self.course;
        while course.handled.load(Ordering::Acquire) < self.numbers.end - 1 {
            tokio::select! {
                () = course.arrived.notified() => {}
                () = course.over() => return Err("the consumer ended before its time".into()),
            }
        }
        let elapsed = self.began.elapsed();
        let used = course.processes.usage().since(&self.usage);
        let received = course.received().zip(self.received).map(|(now, then)| now - then);
        course.confirmed.fetch_add(self.confirmed, Ordering::AcqRel);
        if self.counts {
            let latency = course.latencies.summary();
            let bytes = self.messages * course.bodies.bytes() as u64;
            let figures = Figures::new(self.messages, bytes, elapsed, used, latency, received);
            *course.figures.lock().unwrap_or_else(PoisonError::into_inner) = Some(figures);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Scenario;

    fn course() -> Arc<Course> {
        let terms = Scenario::Single.terms();
        let bodies = Bodies::of_size(terms.payload_bytes);
        Arc::new(Course::with(String::new(), String::new(), terms, bodies, 10, Processes::new(None), None))
    }

    async fn run(course: &Arc<Course>, handle: impl Fn(u64) -> Vec<u64>) -> Result<Figures, Failure> {
        for mut lap in course.laps() {
            while let Some(burst) = lap.burst(4).await {
                for number in burst {
                    handle(number).into_iter().for_each(|number| course.handled(&course.bodies.encoded(number)));
                    lap.confirmed(1);
                }
            }
            lap.finish().await?;
        }
        course.verdict()
    }

    #[tokio::test]
    async fn only_the_second_lap_counts() {
        let figures = run(&course(), |number| vec![number]).await.unwrap();
        assert_eq!(figures.messages, 10);
    }

    #[tokio::test]
    async fn a_message_handled_twice_in_the_place_of_another_is_noticed() {
        let swapped = run(&course(), |number| vec![if number == 7 { 6 } else { number }]).await;
        assert!(swapped.unwrap_err().to_string().contains("not the right ones"));
    }

    #[tokio::test]
    async fn one_message_too_many_is_noticed() {
        let course = course();
        run(&course, |number| vec![number]).await.unwrap();
        course.handled(&course.bodies.encoded(3));
        assert!(course.verdict().is_err());
    }

    #[tokio::test]
    async fn a_missing_confirm_is_noticed() {
        let course = course();
        for mut lap in course.laps() {
            while let Some(burst) = lap.burst(4).await {
                burst.for_each(|number| course.handled(&course.bodies.encoded(number)));
            }
            lap.finish().await.unwrap();
        }
        assert!(course.verdict().unwrap_err().to_string().contains("0 of 12"));
    }

    #[tokio::test]
    async fn a_truncated_body_is_noticed() {
        let course = course();
        let cut = run(&course, |number| {
            let body = course.bodies.encoded(number);
            course.handled(&body[..99]);
            Vec::new()
        });
        assert!(cut.await.unwrap_err().to_string().contains("another size"));
    }

    #[tokio::test]
    async fn a_consumer_that_ends_ends_the_lap() {
        let course = course();
        let mut laps = course.laps();
        let mut lap = laps.next().unwrap();
        while lap.burst(4).await.is_some() {}
        course.end();
        assert!(lap.finish().await.is_err());
        assert!(laps.next().unwrap().burst(4).await.is_none());
    }
}
