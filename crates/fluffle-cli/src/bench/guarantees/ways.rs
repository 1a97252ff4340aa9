//! The ways to send and handle messages that are compared, from the plainest to the safest.

use fluffle::prelude::Confirms;

use crate::bench::args::{Ack, Batch, BenchArgs, Confirm, QueueType};

/// One way.
pub(crate) struct Way {
    /// The stable name, for programs.
    pub(crate) key: &'static str,
    /// The name for people.
    pub(crate) name: &'static str,
    /// What it guarantees, in five words.
    pub(crate) guarantee: &'static str,
    settings: Settings,
}

/// How a way differs from the defaults of `fluffle bench`: one producer, one queue, classic and durable, confirms in a
/// window, one handler, acked when handled.
#[derive(Clone, Copy)]
struct Settings {
    transient: bool,
    quorum: bool,
    confirm: Confirms,
    ack: Ack,
    batch: bool,
    whole_batches: bool,
    keys: Option<u32>,
    lanes: u32,
    handlers: Option<u32>,
}

const DEFAULT: Settings = Settings {
    transient: false,
    quorum: false,
    confirm: Confirms::Window(1024),
    ack: Ack::AtLeastOnce,
    batch: false,
    whole_batches: false,
    keys: None,
    lanes: 1,
    handlers: None,
};

const QUORUM: Settings = Settings { quorum: true, ..DEFAULT };

const BATCHES: Settings = Settings { batch: true, confirm: Confirms::Window(64), ..DEFAULT };

/// The keys whose order is kept, and the handlers and lanes that share a queue.
const KEYS: u32 = 1000;
const SHARED: u32 = 4;

/// Most messages of a way that are published and not handled. More than a window and a prefetch together, so that
/// neither side waits for the other while both work; few enough to be handled within seconds at the end.
const IN_FLIGHT: u64 = 4096;
/// The same with batches, of which the window holds 64.
const IN_FLIGHT_IN_BATCHES: u64 = 40_000;

/// All ways. The first one is what the others are compared with.
pub(crate) const WAYS: [Way; 13] = [
    Way {
        key: "unconfirmed",
        name: "unconfirmed",
        guarantee: "any crash may lose messages",
        settings: Settings { transient: true, confirm: Confirms::Off, ack: Ack::AtMostOnce, ..DEFAULT },
    },
    Way {
        key: "at_most_once",
        name: "at most once",
        guarantee: "stored; a consumer's crash loses",
        settings: Settings { ack: Ack::AtMostOnce, ..DEFAULT },
    },
    Way { key: "at_least_once", name: "at least once", guarantee: "nothing lost, some come twice", settings: DEFAULT },
    Way {
        key: "confirmed_each",
        name: "confirmed one by one",
        guarantee: "each stored before the next",
        settings: Settings { confirm: Confirms::Each, ..DEFAULT },
    },
    Way {
        key: "effectively_once",
        name: "effectively once",
        guarantee: "twice only after a crash",
        settings: Settings { ack: Ack::EffectivelyOnce, ..DEFAULT },
    },
    Way {
        key: "ordered_by_key",
        name: "ordered by key",
        guarantee: "each key in its order",
        settings: Settings { keys: Some(KEYS), handlers: Some(SHARED), ..DEFAULT },
    },
    Way {
        key: "lanes",
        name: "four lanes",
        guarantee: "nothing lost, in no order",
        settings: Settings { lanes: SHARED, ..DEFAULT },
    },
    Way { key: "batches", name: "batches", guarantee: "a batch is confirmed together", settings: BATCHES },
    Way {
        key: "whole_batches",
        name: "batches, whole",
        guarantee: "a batch is handled together",
        settings: Settings { whole_batches: true, ..BATCHES },
    },
    Way { key: "quorum", name: "quorum", guarantee: "replicated before it is confirmed", settings: QUORUM },
    Way {
        key: "quorum_confirmed_each",
        name: "quorum, one by one",
        guarantee: "each replicated before the next",
        settings: Settings { confirm: Confirms::Each, ..QUORUM },
    },
    Way {
        key: "quorum_batches",
        name: "quorum, batches",
        guarantee: "a batch is replicated together",
        settings: Settings { quorum: true, ..BATCHES },
    },
    Way {
        key: "quorum_effectively_once",
        name: "quorum, once, by key",
        guarantee: "replicated, ordered, ids on disk",
        settings: Settings { ack: Ack::EffectivelyOnce, keys: Some(KEYS), handlers: Some(SHARED), ..QUORUM },
    },
];

impl Way {
    /// Sets this way's settings. What the command line may set beside `--guarantees` is left as it is.
    pub(crate) fn set(&self, args: &mut BenchArgs) {
        let Settings { transient, quorum, confirm, ack, batch, whole_batches, keys, lanes, handlers } = self.settings;
        args.transient = transient;
        args.queue_type = if quorum { QueueType::Quorum } else { QueueType::Classic };
        args.confirm = Some(Confirm(confirm));
        args.ack = ack;
        args.batch = batch.then(Batch::default);
        args.whole_batches = whole_batches;
        args.ordered_by = keys;
        args.lanes = lanes;
        args.consumers = Some(handlers.unwrap_or(lanes));
        args.in_flight = Some(if batch { IN_FLIGHT_IN_BATCHES } else { IN_FLIGHT });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clap::Parser;

    use super::*;
    use crate::{
        args::{Cli, Command},
        bench::plan::Plan,
    };

    #[test]
    fn each_way_is_one_that_can_be_run_and_no_two_are_the_same() {
        let Command::Bench(args) = Cli::parse_from(["fluffle", "bench", "--guarantees"]).command else {
            unreachable!("the subcommand is bench");
        };
        let mut plans = HashSet::new();
        for way in &WAYS {
            let mut args = (*args).clone();
            way.set(&mut args);
            let plan = Plan::new(&args, 7).unwrap();
            plan.topology().validate().unwrap();
            let workload = serde_json::to_string(&plan.workload(String::new(), None)).unwrap();
            assert!(plans.insert(workload), "{} is there twice", way.key);
        }
        let keys: HashSet<_> = WAYS.iter().map(|way| way.key).collect();
        assert_eq!(keys.len(), WAYS.len());
    }

    #[test]
    fn a_guarantee_has_five_words() {
        for way in &WAYS {
            assert_eq!(way.guarantee.split_whitespace().count(), 5, "{}", way.guarantee);
        }
    }
}
