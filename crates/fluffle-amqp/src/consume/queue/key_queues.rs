//! One queue for each key, if order is kept by key. The code is pure, so that tests can compare it with a model.
//!
//! Each key belongs to one handler instance. At most one work item of a key is in hand at a time. An instance takes
//! from its keys in turn. A work item in hand may come back for another attempt; it then goes before everything that
//! waits for its key.

use std::collections::{HashMap, VecDeque};

/// The work items `W` that wait for handler instances, by key.
#[derive(Debug)]
pub(crate) struct KeyQueues<W> {
    keys: HashMap<u64, KeyQueue<W>>,
    instances: Vec<Instance<W>>,
    waiting: usize,
}

#[derive(Debug)]
struct Instance<W> {
    /// Its keys that have something waiting and nothing in hand, in the order in which they became ready.
    ready: VecDeque<u64>,
    /// Work items that come back for another attempt. Their keys stay in hand.
    again: VecDeque<(u64, W)>,
}

/// The queue of one key. It exists only while something of the key waits or is in hand.
#[derive(Debug)]
struct KeyQueue<W> {
    in_hand: bool,
    waiting: VecDeque<W>,
}

impl<W> KeyQueues<W> {
    /// How many bytes one work item takes here, if it is the only one of its key.
    pub(crate) const EACH: usize = size_of::<W>() + size_of::<(u64, KeyQueue<W>)>() + size_of::<u64>();

    /// Queues for this many instances, at least one.
    pub(crate) fn new(instances: usize) -> Self {
        let instance = |_| Instance { ready: VecDeque::new(), again: VecDeque::new() };
        Self { keys: HashMap::new(), instances: (0..instances.max(1)).map(instance).collect(), waiting: 0 }
    }

    /// Adds work at the end of the key's queue. Returns the key's instance, if that can take it now.
    pub(crate) fn push(&mut self, key: u64, work: W) -> Option<usize> {
        let queue =
            self.keys.entry(key).or_insert_with(|| KeyQueue { in_hand: false, waiting: VecDeque::with_capacity(1) });
        queue.waiting.push_back(work);
        self.waiting += 1;
        if queue.in_hand || queue.waiting.len() > 1 {
            return None;
        }
        self.make_ready(key)
    }

    /// Adds the next attempt at the work in hand of this key. Returns the key's instance.
    pub(crate) fn again(&mut self, key: u64, work: W) -> usize {
        let instance = self.instance(key);
        if let Some(its) = self.instances.get_mut(instance) {
            its.again.push_back((key, work));
            self.waiting += 1;
        }
        instance
    }

    /// Takes the next work item for this instance. Nothing else of its key is given out until [`done`](Self::done).
    pub(crate) fn take(&mut self, instance: usize) -> Option<(u64, W)> {
        let its = self.instances.get_mut(instance)?;
        if let Some(again) = its.again.pop_front() {
            self.waiting -= 1;
            return Some(again);
        }
        let key = its.ready.pop_front()?;
        let queue = self.keys.get_mut(&key)?;
        let work = queue.waiting.pop_front()?;
        queue.in_hand = true;
        self.waiting -= 1;
        Some((key, work))
    }

    /// The work in hand of this key is done. Returns the key's instance, if more of the key waits.
    pub(crate) fn done(&mut self, key: u64) -> Option<usize> {
        let queue = self.keys.get_mut(&key)?;
        queue.in_hand = false;
        if queue.waiting.is_empty() {
            self.keys.remove(&key);
            return None;
        }
        self.make_ready(key)
    }

    /// Removes and returns all waiting work for which `keep` is false.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&W) -> bool) -> Vec<W> {
        let mut taken = Vec::new();
        for queue in self.keys.values_mut() {
            for work in std::mem::take(&mut queue.waiting) {
                if keep(&work) { queue.waiting.push_back(work) } else { taken.push(work) }
            }
        }
        let keys = &mut self.keys;
        for its in &mut self.instances {
            its.ready.retain(|key| keys.get(key).is_some_and(|queue| !queue.waiting.is_empty()));
            for (key, work) in std::mem::take(&mut its.again) {
                if keep(&work) { its.again.push_back((key, work)) } else { taken.push(work) }
            }
        }
        self.waiting -= taken.len();
        keys.retain(|_, queue| queue.in_hand || !queue.waiting.is_empty());
        taken
    }

    /// How many work items wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    fn make_ready(&mut self, key: u64) -> Option<usize> {
        let instance = self.instance(key);
        self.instances.get_mut(instance)?.ready.push_back(key);
        Some(instance)
    }

    fn instance(&self, key: u64) -> usize {
        let instances = self.instances.len() as u64;
        usize::try_from(key % instances).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_of_a_key_is_in_hand_at_a_time_and_other_keys_go_on() {
        let mut queues = KeyQueues::new(1);
        for work in ["a1", "a2", "b1", "a3"] {
            queues.push(u64::from(work.as_bytes()[0]), work);
        }
        let (a, first) = queues.take(0).unwrap();
        assert_eq!(first, "a1");
        assert_eq!(queues.take(0).unwrap().1, "b1");
        assert!(queues.take(0).is_none(), "a2 waits for a1");
        assert_eq!(queues.done(a), Some(0));
        assert_eq!(queues.take(0).unwrap().1, "a2");
        assert_eq!(queues.waiting(), 1);
    }

    #[test]
    fn what_comes_back_is_given_before_what_waits_of_its_key() {
        let mut queues = KeyQueues::new(1);
        assert_eq!(queues.push(7, 1), Some(0));
        assert_eq!(queues.push(7, 2), None);
        assert_eq!(queues.take(0), Some((7, 1)));
        assert_eq!(queues.again(7, 1), 0);
        assert_eq!(queues.take(0), Some((7, 1)));
        assert!(queues.take(0).is_none());
        queues.done(7);
        assert_eq!(queues.take(0), Some((7, 2)));
    }

    #[test]
    fn keys_take_turns() {
        let mut queues = KeyQueues::new(1);
        for number in 0..6 {
            queues.push(number % 2, number);
        }
        let mut taken = Vec::new();
        while let Some((key, number)) = queues.take(0) {
            taken.push(number);
            queues.done(key);
        }
        assert_eq!(taken, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_key_in_hand_is_remembered_when_all_that_waited_is_taken_out() {
        let mut queues = KeyQueues::new(1);
        for number in 0..3 {
            queues.push(7, number);
        }
        let (key, _) = queues.take(0).unwrap();
        assert_eq!(queues.retain(|_| false), [1, 2]);
        queues.push(7, 3);
        assert!(queues.take(0).is_none());
        queues.done(key);
        assert_eq!(queues.take(0), Some((7, 3)));
        queues.done(7);
        assert!(queues.keys.is_empty() && queues.instances[0].ready.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u64),
        Take(usize),
        /// The work in hand at this index is done.
        Done(usize),
        /// The work in hand at this index comes back.
        Again(usize),
        /// Removes all waiting numbers that this divides.
        TakeOut(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6_u64).prop_map(Step::Push),
            3 => (0..3_usize).prop_map(Step::Take),
            2 => (0..4_usize).prop_map(Step::Done),
            1 => (0..4_usize).prop_map(Step::Again),
            1 => (2..5_usize).prop_map(Step::TakeOut),
        ]
    }

    proptest! {
        #[test]
        fn each_key_is_a_queue_of_one_instance_and_what_is_free_is_given_out(
            steps in prop::collection::vec(step(), 0..200)
        ) {
            const INSTANCES: usize = 3;
            let mut queues = KeyQueues::new(INSTANCES);
            let mut model: Vec<(u64, usize)> = Vec::new();
            // The keys in hand, and the work of these keys that has come back.
            let mut in_hand: Vec<u64> = Vec::new();
            let mut again: Vec<(u64, usize)> = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(key) => {
                        queues.push(key, number);
                        model.push((key, number));
                    }
                    Step::Take(instance) => {
                        let own = |key: &u64| *key % INSTANCES as u64 == instance as u64;
                        let free = |key: &u64| own(key) && !in_hand.contains(key);
                        let back = again.iter().position(|(key, _)| own(key));
                        match (queues.take(instance), back) {
                            (taken, Some(back)) => prop_assert_eq!(taken, Some(again.remove(back))),
                            (None, None) => prop_assert!(!model.iter().any(|(key, _)| free(key))),
                            (Some((key, work)), None) => {
                                prop_assert!(free(&key));
                                let first = model.iter().position(|(other, _)| *other == key).unwrap();
                                prop_assert_eq!(model.remove(first), (key, work));
                                in_hand.push(key);
                            }
                        }
                    }
                    Step::Done(place) | Step::Again(place) if place >= in_hand.len() => {}
                    Step::Done(place) | Step::Again(place) if again.iter().any(|(key, _)| *key == in_hand[place]) => {}
                    Step::Done(place) => {
                        queues.done(in_hand.remove(place));
                    }
                    Step::Again(place) => {
                        queues.again(in_hand[place], number);
                        again.push((in_hand[place], number));
                    }
                    Step::TakeOut(divisor) => {
                        let mut taken = queues.retain(|work| work % divisor != 0);
                        taken.sort_unstable();
                        let is_gone = |(_, work): &&(u64, usize)| work % divisor == 0;
                        let all = model.iter().chain(&again);
                        let mut gone: Vec<_> = all.filter(is_gone).map(|(_, work)| *work).collect();
                        gone.sort_unstable();
                        prop_assert_eq!(taken, gone);
                        model.retain(|(_, work)| work % divisor != 0);
                        again.retain(|(_, work)| work % divisor != 0);
                    }
                }
                prop_assert_eq!(queues.waiting(), model.len() + again.len());
            }
            for key in in_hand {
                if !again.iter().any(|(other, _)| *other == key) {
                    queues.done(key);
                }
            }
            for instance in 0..INSTANCES {
                while let Some((key, work)) = queues.take(instance) {
                    let waiting = if again.iter().any(|(other, _)| *other == key) { &mut again } else { &mut model };
                    let first = waiting.iter().position(|(other, _)| *other == key).unwrap();
                    prop_assert_eq!(waiting.remove(first), (key, work));
                    queues.done(key);
                }
            }
            prop_assert!(again.is_empty());
            prop_assert!(model.is_empty() && queues.keys.is_empty());
        }
    }
}
