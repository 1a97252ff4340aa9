//! Order by key: sorts deliveries by the key of their message. Each key belongs to one handler instance, which has one
//! message of the key at a time.
//!
//! To know the key, the message must be decoded, and decoding is done on the handlers' threads. So an instance that has
//! nothing to do sorts the next delivery. Only one instance sorts at a time, because two could swap the order of two
//! deliveries. Sorted jobs wait in [`KeyQueues`]; they count against the prefetch and the byte budget. They can still
//! be taken back, and they outlive restarts of their handler.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::{StreamExt, stream::LocalBoxStream};
use tokio::{sync::Notify, time::sleep_until};

use crate::consume::{
    attempt::{
        attempt::Attempt,
        items::{Item, Opened},
        job::{Job, Work},
        permits::{KeyLock, Keys},
        ticket::Ticket,
    },
    intake::seen::Seen,
    queue::{
        key_queues::KeyQueues,
        read_key::ReadKey,
        waiting::{Next, Waiting},
    },
};

/// The settings for sorting deliveries by key.
pub(crate) struct SortBy {
    pub(crate) key: Box<dyn ReadKey>,
    /// How many handler instances there are.
    pub(crate) instances: usize,
    /// With effectively once: tells which items of a batch were handled before.
    pub(crate) seen: Option<Seen>,
}

/// The deliveries of one consumer, sorted by key.
pub(crate) struct ByKey {
    waiting: Arc<Waiting>,
    key: Box<dyn ReadKey>,
    seen: Option<Seen>,
    sorted: Mutex<KeyQueues<Job>>,
    /// Whether an instance is sorting now.
    sorting: AtomicBool,
    /// How often everything was [taken back](Self::clear). Changed under the lock of `sorted`.
    clears: AtomicU64,
    /// Wakes the instances, each for its own jobs.
    instances: Vec<Notify>,
}

impl ByKey {
    pub(crate) fn new(waiting: Arc<Waiting>, SortBy { key, instances, seen }: SortBy) -> Self {
        Self {
            waiting,
            key,
            seen,
            sorted: Mutex::new(KeyQueues::new(instances)),
            sorting: AtomicBool::new(false),
            clears: AtomicU64::new(0),
            instances: (0..instances).map(|_| Notify::new()).collect(),
        }
    }

    /// How many sorted jobs no handler has taken.
    pub(crate) fn len(&self) -> usize {
        self.sorted().waiting()
    }

    /// Takes back the sorted jobs for which `is_meant` is true.
    pub(crate) fn take_back(&self, is_meant: impl Fn(&Job) -> bool) {
        let taken = self.sorted().retain(|job| !is_meant(job));
        // Dropped outside the lock, because each ticket answers when it is dropped, and may free its key.
        drop(taken);
    }

    /// Takes back the sorted jobs that `is_meant`, and the one that is being sorted at this moment: it would be handled
    /// before those of its key that were taken back. Call it after what waits to be sorted was taken back.
    pub(crate) fn clear(&self, is_meant: impl Fn(&Job) -> bool) {
        let taken = {
            let mut sorted = self.sorted();
            self.clears.fetch_add(1, Ordering::Release);
            sorted.retain(|job| !is_meant(job))
        };
        // Outside the lock: each ticket answers for itself, and frees its key.
        drop(taken);
    }

    /// The jobs of one instance, in the order of each key, for ever.
    pub(crate) fn jobs(by_key: Arc<Self>, instance: usize) -> LocalBoxStream<'static, Job> {
        let each = move |by_key: Arc<Self>| async move { Some((by_key.next(instance).await?, by_key)) };
        futures_util::stream::unfold(by_key, each).boxed_local()
    }

    /// Waits for the next job of an instance. Cancellation safe, because there is no await between taking a job and
    /// returning it, nor while a job is being sorted.
    async fn next(self: &Arc<Self>, instance: usize) -> Option<Job> {
        let own = self.instances.get(instance)?;
        let mut has_sorted = false;
        loop {
            // Created before the check, so that what arrives after the check wakes this task.
            let (changed, own) = (self.waiting.in_hand.changed.notified(), own.notified());
            if let Some(job) = self.take(instance) {
                if has_sorted && self.waiting.has_more() {
                    // While this instance is busy, another one can go on sorting. All are woken, because the thread of
                    // a single one may be busy.
                    self.waiting.in_hand.changed.notify_waiters();
                }
                return Some(job);
            }
            match self.sort_next() {
                Sorted::One => has_sorted = true,
                Sorted::NotBefore(again) => {
                    tokio::select! {
                        () = changed => {}
                        () = own => {}
                        () = sleep_until(again) => {}
                    }
                }
                Sorted::Nothing => {
                    tokio::select! {
                        () = changed => {}
                        () = own => {}
                    }
                }
            }
        }
    }

    /// Takes the next job of an instance, with its key locked.
    fn take(self: &Arc<Self>, instance: usize) -> Option<Job> {
        let mut sorted = self.sorted();
        let (key, mut job) = sorted.take(instance)?;
        if let Work::Item(item) = &mut job.work {
            // Started under the lock, because a job that was begun must not be taken back.
            job.attempt.start();
            item.key = Some(self.lock(key));
        } else if job.attempt.permits.key().is_none() {
            job.attempt.permits.take_key(self.lock(key));
        }
        Some(job)
    }

    fn lock(self: &Arc<Self>, key: u64) -> KeyLock {
        KeyLock::new(Arc::downgrade(self) as Weak<dyn Keys>, key)
    }

    /// Sorts the next delivery that may be handed out.
    fn sort_next(self: &Arc<Self>) -> Sorted {
        let Some(sorter) = Sorter::new(self) else { return Sorted::Nothing };
        let job = match self.waiting.take() {
            Next::Job(job) => job,
            Next::NotBefore(again) => return Sorted::NotBefore(again),
            Next::Nothing => return Sorted::Nothing,
        };
        if let Some(key) = job.attempt.permits.key() {
            self.push_again(key, job);
            return Sorted::One;
        }
        let Job { attempt, work: Work::Whole(ticket) } = job else { return Sorted::One };
        if !self.waiting.is_ours(&attempt) {
            return Sorted::One;
        }
        match self.key.open(&attempt) {
            Ok(None) => match self.key.of_message(&attempt) {
                Ok(key) => self.push(sorter.clears, [(key, Job::whole(attempt, ticket))]),
                Err(outcome) => ticket.answer(outcome),
            },
            Ok(Some(contents)) => {
                attempt.open(contents);
                match &self.seen {
                    Some(seen) if attempt.seen_key.is_some() => look_up(sorter, seen.clone(), attempt, ticket),
                    _ => self.sort_items(sorter.clears, &attempt, ticket),
                }
            }
            Err(outcome) => ticket.answer(outcome),
        }
        Sorted::One
    }

    /// Sorts the items of a batch that has been opened, each by its own key.
    fn sort_items(&self, clears: u64, attempt: &Arc<Attempt>, ticket: Ticket) {
        let Some(contents) = attempt.contents() else { return };
        let mut opened = Opened::new(attempt, contents, ticket);
        let mut jobs = Vec::with_capacity(contents.items.len());
        while let Some((index, raw)) = opened.next() {
            match self.key.of_item(attempt, index, &raw) {
                Ok(key) => {
                    let work = Work::Item(Item::new(&opened.items, index, raw));
                    jobs.push((key, Job { attempt: Arc::clone(attempt), work }));
                }
                Err(outcome) => opened.items.failed(index, outcome),
            }
        }
        // Counted because a small item takes more memory here than its bytes on the wire.
        attempt.permits.take_more_bytes((jobs.len() * KeyQueues::<Job>::EACH) as u64);
        self.push(clears, jobs);
    }

    /// Adds what a sorter has sorted that began after so many `clears`.
    fn push(&self, clears: u64, jobs: impl IntoIterator<Item = (u64, Job)>) {
        let mut sorted = self.sorted();
        if self.clears.load(Ordering::Relaxed) != clears {
            drop(sorted);
            // Taken back meanwhile: each ticket answers for itself.
            return jobs.into_iter().for_each(drop);
        }
        let mut ready: Vec<usize> = jobs.into_iter().filter_map(|(key, job)| sorted.push(key, job)).collect();
        drop(sorted);
        ready.sort_unstable();
        ready.dedup();
        ready.into_iter().for_each(|instance| self.wake(instance));
    }

    /// Adds the next attempt of a message that has its key locked, before everything else of the key.
    fn push_again(&self, key: u64, job: Job) {
        let instance = self.sorted().again(key, job);
        self.wake(instance);
    }

    fn wake(&self, instance: usize) {
        self.instances.get(instance).into_iter().for_each(Notify::notify_one);
    }

    fn sorted(&self) -> MutexGuard<'_, KeyQueues<Job>> {
        self.sorted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keys for ByKey {
    fn free(&self, key: u64) {
        let ready = self.sorted().done(key);
        ready.into_iter().for_each(|instance| self.wake(instance));
    }
}

enum Sorted {
    One,
    /// Nothing may be handed out before this time.
    NotBefore(tokio::time::Instant),
    /// There is nothing to sort, or another instance is sorting.
    Nothing,
}

/// The right to sort. One instance has it at a time.
struct Sorter {
    by_key: Arc<ByKey>,
    clears: u64,
}

impl Sorter {
    fn new(by_key: &Arc<ByKey>) -> Option<Self> {
        // Read before a job is taken, because the waiting jobs are taken back before this changes.
        let sorter = || Self { by_key: Arc::clone(by_key), clears: by_key.clears.load(Ordering::Acquire) };
        (!by_key.sorting.swap(true, Ordering::AcqRel)).then(sorter)
    }
}

impl Drop for Sorter {
    fn drop(&mut self) {
        self.by_key.sorting.store(false, Ordering::Release);
    }
}

/// With effectively once: looks up which items were handled before, then sorts the others. It holds the sorter until
/// then, so that the next delivery does not overtake these items.
fn look_up(sorter: Sorter, seen: Seen, attempt: Arc<Attempt>, ticket: Ticket) {
    actix_rt::spawn(async move {
        let known = seen.known(&attempt, attempt.messages()).await;
        if let Some(contents) = attempt.contents() {
            contents.note_known(known);
        }
        let by_key = Arc::clone(&sorter.by_key);
        if by_key.waiting.is_ours(&attempt) {
            by_key.sort_items(sorter.clears, &attempt, ticket);
        }
        drop(sorter);
        by_key.waiting.in_hand.changed.notify_waiters();
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fluffle_wire::Wire;
    use futures_util::FutureExt;
    use tokio::{
        task::{LocalSet, spawn_local, yield_now},
        time::timeout,
    };

    use super::*;
    use crate::consume::{
        attempt::attempt::tests::attempt_at,
        queue::{handler_queue::HandlerQueue, read_key::DecodeKey},
        spec::key::KeyOf,
    };

    /// A queue sorted by key. The key of a message is the number in it, which also gives its instance.
    fn sorted(instances: usize, bytes: u64) -> Arc<HandlerQueue> {
        let key: KeyOf<String> = Arc::new(|text| text.parse().unwrap_or_default());
        let sort_by = SortBy { key: Box::new(DecodeKey { wire: Wire::protobuf(), key }), instances, seen: None };
        HandlerQueue::new(Waiting::new(true, bytes, None, true), Some(sort_by))
    }

    fn push(queue: &HandlerQueue, encoded: fluffle_wire::Encoded) {
        let labels = lapin::BasicProperties::default()
            .with_content_type((&*encoded.content_type).into())
            .with_type((&*encoded.type_name).into());
        queue.push(Arc::new(attempt_at(labels, |message| message.body = encoded.body)));
        queue.announce();
    }

    #[tokio::test]
    async fn an_instance_that_goes_off_with_what_it_has_sorted_leaves_the_rest_to_another() {
        let sorting = async {
            let (queue, wire) = (sorted(2, 1000), Wire::<String>::protobuf());
            let (mut zero, mut one) = (queue.jobs(0), queue.jobs(1));
            let sorter = Sorter::new(queue.by_key.as_ref().unwrap()).unwrap();
            let other = spawn_local(async move { one.next().await.is_some() });
            for text in ["0", "1"] {
                push(&queue, wire.encode(&text.to_owned()).unwrap());
            }
            yield_now().await;
            assert!(zero.next().now_or_never().is_none(), "the test holds the right to sort");
            yield_now().await;
            drop(sorter);
            // From now on only this instance can wake the other one.
            assert!(queue.jobs(0).next().now_or_never().is_some());
            assert!(timeout(Duration::from_secs(10), other).await.expect("the other instance was not woken").unwrap());
        };
        LocalSet::new().run_until(sorting).await;
    }

    #[test]
    fn what_is_being_sorted_while_everything_is_taken_back_is_taken_back_too() {
        let (queue, wire) = (sorted(1, 1000), Wire::<String>::protobuf());
        let by_key = queue.by_key.as_ref().unwrap();
        for clears in [true, false] {
            push(&queue, wire.encode(&"0".to_owned()).unwrap());
            let sorter = Sorter::new(by_key).unwrap();
            let Next::Job(job) = queue.waiting.take() else { panic!("there is one") };
            if clears {
                queue.clear();
            }
            by_key.push(sorter.clears, [(0, job)]);
            assert_eq!(by_key.len(), usize::from(!clears));
        }
    }

    #[tokio::test]
    async fn the_room_that_small_items_take_here_counts() {
        let (queue, wire) = (sorted(1, 1000), Wire::<String>::protobuf());
        let items: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        push(&queue, wire.encode_batch(&items).unwrap());
        push(&queue, wire.encode(&"20".to_owned()).unwrap());
        let mut jobs = queue.jobs(0);
        let first = jobs.next().await.unwrap();
        assert!(first.attempt.body.len() < 100);
        assert!(matches!(queue.waiting.take(), Next::Nothing), "20 small items are more than 1000 bytes");
    }
}
