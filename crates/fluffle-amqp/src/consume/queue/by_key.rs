//! Order by key: deliveries are sorted by the key of their message, each key's to one handler instance, which has one of them at a
//! time.
//!
//! A key is known once its message is decoded, which is handlers' work: whichever instance has nothing to do sorts what comes
//! next, one instance at a time, for two would overtake one another. What is sorted waits in [`KeyQueues`], within the prefetch
//! and the byte budget, where it can still be taken back; it outlives every incarnation of its handler.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use futures_util::{StreamExt, stream::LocalBoxStream};
use tokio::sync::Notify;

use crate::consume::{
    attempt::envelope::{Item, Opened},
    intake::seen::{self, Seen},
    message::received::Received,
    queue::{
        handler_queue::{HandlerQueue, Job, Next, Ticket, Work},
        key_queues::KeyQueues,
        keys::Keys,
    },
    session::guard::until,
};

/// The part of a [`HandlerQueue`] that keeps order by key.
pub(crate) struct Order {
    keys: Box<dyn Keys>,
    seen: Option<Seen>,
    sorted: Mutex<KeyQueues<Job>>,
    /// Somebody is sorting.
    sorting: AtomicBool,
    /// How often everything was [taken back](Self::clear). Changed with the lock on `sorted`.
    clears: AtomicU64,
    /// Wakes the instances, each for what is its own.
    instances: Vec<Notify>,
}

impl Order {
    /// By `keys`, for so many instances; `seen` knows which items of a batch have been handled before.
    pub(crate) fn new(keys: Box<dyn Keys>, instances: usize, seen: Option<Seen>) -> Self {
        Self {
            keys,
            seen,
            sorted: Mutex::new(KeyQueues::new(instances)),
            sorting: AtomicBool::new(false),
            clears: AtomicU64::new(0),
            instances: (0..instances).map(|_| Notify::new()).collect(),
        }
    }

    /// What is sorted and not taken.
    pub(crate) fn waiting(&self) -> usize {
        self.sorted().waiting()
    }

    /// Takes back what is sorted and `is_meant`.
    pub(crate) fn take_back(&self, is_meant: impl Fn(&Job) -> bool) {
        let taken = self.sorted().retain(|job| !is_meant(job));
        // Without the lock: each answers for itself, and lets go of its key.
        drop(taken);
    }

    /// Takes back what is sorted and `is_meant`, and what somebody is sorting just now: otherwise that would be handled
    /// before what has been taken back of its key. What waits to be sorted must be taken back first.
    pub(crate) fn clear(&self, is_meant: impl Fn(&Job) -> bool) {
        let taken = {
            let mut sorted = self.sorted();
            self.clears.fetch_add(1, Ordering::Release);
            sorted.retain(|job| !is_meant(job))
        };
        // Without the lock: each answers for itself, and lets go of its key.
        drop(taken);
    }

    /// What this instance is to handle next, with its key in hand.
    fn take(&self, handler_queue: &Arc<HandlerQueue>, instance: usize) -> Option<Job> {
        let mut sorted = self.sorted();
        let (key, mut job) = sorted.take(instance)?;
        if let Work::Item(item) = &mut job.work {
            // With the lock: what is begun is not taken back.
            job.received.started.get_or_init(Instant::now);
            item.hold = Some(KeyLock::new(handler_queue, key));
        } else {
            job.received.hold.get_or_init(|| KeyLock::new(handler_queue, key));
        }
        Some(job)
    }

    /// Of a sorter that began after so many `clears`.
    fn push(&self, clears: u64, jobs: impl IntoIterator<Item = (u64, Job)>) {
        let mut sorted = self.sorted();
        if self.clears.load(Ordering::Relaxed) != clears {
            drop(sorted);
            // Taken back meanwhile: each answers for itself.
            return jobs.into_iter().for_each(drop);
        }
        let mut ready: Vec<usize> = jobs.into_iter().filter_map(|(key, job)| sorted.push(key, job)).collect();
        drop(sorted);
        ready.sort_unstable();
        ready.dedup();
        ready.into_iter().for_each(|instance| self.wake(instance));
    }

    /// For another attempt at what is in hand.
    fn push_again(&self, key: u64, job: Job) {
        let instance = self.sorted().again(key, job);
        self.wake(instance);
    }

    fn free(&self, key: u64) {
        let ready = self.sorted().done(key);
        ready.into_iter().for_each(|instance| self.wake(instance));
    }

    fn wake(&self, instance: usize) {
        self.instances.get(instance).into_iter().for_each(Notify::notify_one);
    }

    fn sorted(&self) -> MutexGuard<'_, KeyQueues<Job>> {
        self.sorted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key in hand: nothing else of it is handed out until it is free. Dropped, it is.
pub(crate) struct KeyLock {
    handler_queue: Arc<HandlerQueue>,
    key: u64,
    over: AtomicBool,
}

impl KeyLock {
    fn new(handler_queue: &Arc<HandlerQueue>, key: u64) -> Self {
        Self { handler_queue: Arc::clone(handler_queue), key, over: AtomicBool::new(false) }
    }

    /// The next of this key may be handed out.
    pub(crate) fn free(&self) {
        if let (false, Some(order)) = (self.over.swap(true, Ordering::AcqRel), &self.handler_queue.order) {
            order.free(self.key);
        }
    }

    /// The same for the next attempt, unless it is free.
    pub(crate) fn pass_on(&self) -> Option<Self> {
        (!self.over.swap(true, Ordering::AcqRel)).then(|| Self::new(&self.handler_queue, self.key))
    }
}

impl Drop for KeyLock {
    fn drop(&mut self) {
        self.free();
    }
}

impl fmt::Debug for KeyLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyLock").field("key", &self.key).field("over", &self.over).finish_non_exhaustive()
    }
}

/// What instance `instance` is to handle, in the order of each key, for ever.
pub(crate) fn queue(handler_queue: Arc<HandlerQueue>, instance: usize) -> LocalBoxStream<'static, Job> {
    let each = move |handler_queue: Arc<HandlerQueue>| async move {
        Some((next(&handler_queue, instance).await?, handler_queue))
    };
    futures_util::stream::unfold(handler_queue, each).boxed_local()
}

/// Cancellation safe: a delivery is taken and returned in one go, and sorted in one go. `None` without order by key.
async fn next(handler_queue: &Arc<HandlerQueue>, instance: usize) -> Option<Job> {
    let order = handler_queue.order.as_ref()?;
    let own = order.instances.get(instance)?;
    let mut has_sorted = false;
    loop {
        // From here on nothing is missed: what comes after these were made wakes them.
        let (changed, own) = (handler_queue.changed.notified(), own.notified());
        if let Some(job) = order.take(handler_queue, instance) {
            if has_sorted && handler_queue.has_more() {
                // While this one is busy another may go on: any of them, for the thread of one may be busy too.
                handler_queue.changed.notify_waiters();
            }
            return Some(job);
        }
        let again = match sort_next(handler_queue, order) {
            Sorted::One => {
                has_sorted = true;
                continue;
            }
            Sorted::NotBefore(again) => Some(again),
            Sorted::Nothing => None,
        };
        tokio::select! {
            () = changed => {}
            () = own => {}
            () = until(again) => {}
        }
    }
}

enum Sorted {
    One,
    /// Nothing may be handed out before this.
    NotBefore(tokio::time::Instant),
    /// Nothing to sort, or somebody else does.
    Nothing,
}

/// Sorts the next delivery that may be handed out.
fn sort_next(handler_queue: &Arc<HandlerQueue>, order: &Order) -> Sorted {
    let Some(sorter) = Sorter::new(handler_queue, order) else { return Sorted::Nothing };
    let job = match handler_queue.take() {
        Next::Job(job) => job,
        Next::NotBefore(again) => return Sorted::NotBefore(again),
        Next::Nothing => return Sorted::Nothing,
    };
    if let Some(hold) = job.received.hold.get() {
        let key = hold.key;
        order.push_again(key, job);
        return Sorted::One;
    }
    let Job { received, work: Work::Whole(ticket) } = job else { return Sorted::One };
    if !handler_queue.is_ours(&received) {
        return Sorted::One;
    }
    match order.keys.open(&received) {
        Ok(None) => match order.keys.whole(&received) {
            Ok(key) => order.push(sorter.clears, [(key, Job { received, work: Work::Whole(ticket) })]),
            Err(outcome) => ticket.answer(outcome),
        },
        Ok(Some(contents)) => {
            received.open(contents);
            match &order.seen {
                Some(seen) if received.claim.get().is_some() => look_up(sorter, seen.clone(), received, ticket),
                _ => sort_items(order, sorter.clears, &received, ticket),
            }
        }
        Err(outcome) => ticket.answer(outcome),
    }
    Sorted::One
}

/// Effectively once: which items have been handled before. What comes next waits for that, or it would overtake them.
fn look_up(sorter: Sorter, seen: Seen, received: Arc<Received>, ticket: Ticket) {
    actix_rt::spawn(async move {
        let items = received.contents.get().map_or(0, |contents| contents.items.len());
        let known = seen.known(&seen::item_keys(&received, 0..items)).await;
        if let Some(contents) = received.contents.get().filter(|_| known.contains(&true)) {
            let _ = contents.known.set(known);
        }
        let handler_queue = Arc::clone(&sorter.handler_queue);
        let Some(order) = &handler_queue.order else { return };
        if handler_queue.is_ours(&received) {
            sort_items(order, sorter.clears, &received, ticket);
        }
        drop(sorter);
        handler_queue.changed.notify_waiters();
    });
}

/// The items of a batch that has been opened, each by its own key.
fn sort_items(order: &Order, clears: u64, received: &Arc<Received>, ticket: Ticket) {
    let Some(contents) = received.contents.get() else { return };
    let mut opened = Opened::new(received, contents, ticket);
    let mut jobs = Vec::with_capacity(contents.items.len());
    while let Some((index, raw)) = opened.next() {
        match order.keys.item(&raw) {
            Ok(key) => {
                let work = Work::Item(Item::new(&opened.envelope, index, raw));
                jobs.push((key, Job { received: Arc::clone(received), work }));
            }
            Err(outcome) => opened.envelope.failed(index, outcome),
        }
    }
    // Small items take more room here than on the wire.
    received.takes_more(jobs.len() * KeyQueues::<Job>::EACH);
    order.push(clears, jobs);
}

/// The right to sort, one at a time.
struct Sorter {
    handler_queue: Arc<HandlerQueue>,
    clears: u64,
}

impl Sorter {
    fn new(handler_queue: &Arc<HandlerQueue>, order: &Order) -> Option<Self> {
        // Read before anything is taken: what waits is taken back before this changes.
        let sorter = || Self { handler_queue: Arc::clone(handler_queue), clears: order.clears.load(Ordering::Acquire) };
        (!order.sorting.swap(true, Ordering::AcqRel)).then(sorter)
    }
}

impl Drop for Sorter {
    fn drop(&mut self) {
        if let Some(order) = &self.handler_queue.order {
            order.sorting.store(false, Ordering::Release);
        }
    }
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
        message::received::tests::received_with,
        queue::keys::{KeyOf, KeysBy},
    };

    /// By the number that a message is, so that it names its instance.
    fn handler_queue(instances: usize, bytes: u64) -> Arc<HandlerQueue> {
        let key: KeyOf<String> = Arc::new(|text| text.parse().unwrap_or_default());
        let order = Order::new(Box::new(KeysBy { wire: Wire::protobuf(), key }), instances, None);
        HandlerQueue::new(true, bytes, None, Some(order))
    }

    fn push(handler_queue: &HandlerQueue, encoded: fluffle_wire::Encoded) {
        let labels = lapin::BasicProperties::default()
            .with_content_type((&*encoded.content_type).into())
            .with_type((&*encoded.type_name).into());
        let mut received = received_with(1, labels);
        received.body = encoded.body;
        handler_queue.push(Arc::new(received));
        handler_queue.announce();
    }

    #[test]
    fn what_is_being_sorted_while_everything_is_taken_back_is_taken_back_too() {
        let (handler_queue, wire) = (handler_queue(1, 1000), Wire::<String>::protobuf());
        let order = handler_queue.order.as_ref().unwrap();
        for clears in [true, false] {
            push(&handler_queue, wire.encode(&"0".to_owned()).unwrap());
            let sorter = Sorter::new(&handler_queue, order).unwrap();
            let Next::Job(job) = handler_queue.take() else { panic!("there is one") };
            if clears {
                handler_queue.clear();
            }
            order.push(sorter.clears, [(0, job)]);
            assert_eq!(order.waiting(), usize::from(!clears));
        }
    }

    #[tokio::test]
    async fn whoever_goes_off_with_what_it_has_sorted_leaves_the_rest_to_another() {
        let sorting = async {
            let (handler_queue, wire) = (handler_queue(2, 1000), Wire::<String>::protobuf());
            let (mut zero, mut one) = (handler_queue.queue(0), handler_queue.queue(1));
            let sorter = Sorter::new(&handler_queue, handler_queue.order.as_ref().unwrap()).unwrap();
            let other = spawn_local(async move { one.next().await.is_some() });
            for text in ["0", "1"] {
                push(&handler_queue, wire.encode(&text.to_owned()).unwrap());
            }
            yield_now().await;
            assert!(zero.next().now_or_never().is_none(), "somebody else sorts");
            yield_now().await;
            drop(sorter);
            // From here on nobody tells the other one but this one.
            assert!(handler_queue.queue(0).next().now_or_never().is_some());
            assert!(timeout(Duration::from_secs(10), other).await.expect("it is woken").unwrap());
        };
        LocalSet::new().run_until(sorting).await;
    }

    #[tokio::test]
    async fn the_room_that_small_items_take_here_counts() {
        let (handler_queue, wire) = (handler_queue(1, 1000), Wire::<String>::protobuf());
        let items: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        push(&handler_queue, wire.encode_batch(&items).unwrap());
        push(&handler_queue, wire.encode(&"20".to_owned()).unwrap());
        let mut queue = handler_queue.queue(0);
        let first = queue.next().await.unwrap();
        assert!(first.received.body.len() < 100);
        assert!(matches!(handler_queue.take(), Next::Nothing), "20 small items are more than 1000 bytes");
    }
}
