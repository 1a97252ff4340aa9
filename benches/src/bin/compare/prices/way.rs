//! The ways to send and handle messages, each with what it guarantees.

use std::time::Duration;

use fluffle::prelude::{Confirms, Flush};

/// A database with the outbox, or with the ids of handled messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sql {
    Sqlite,
    Postgres,
}

/// How a message reaches the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sends {
    /// Published at once, with these confirms.
    With(Confirms),
    /// By a journal on the local disk.
    Journaled(Flush),
    /// Written in a transaction, and published by a relay.
    ByOutbox(Sql),
}

/// What handling a message guarantees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handles {
    AtMostOnce,
    AtLeastOnce,
    /// Effectively once, with the ids of handled messages in memory.
    OnceInMemory,
    /// The same, with the ids in a file.
    OnceOnDisk,
    /// With the id in the transaction of the effect.
    OnceInSql(Sql),
}

/// What watches the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telemetry {
    Off,
    Metrics,
    Traces,
}

/// How messages are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parcels {
    Singles,
    /// Batches of 64 KiB that linger for 5 ms.
    Batches,
    /// Batches that form by themselves.
    Adaptive,
}

/// One way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The name, for programs too.
    pub(crate) name: &'static str,
    /// What it guarantees, in five words.
    pub(crate) guarantee: &'static str,
    pub(crate) persistent: bool,
    pub(crate) quorum: bool,
    pub(crate) sends: Sends,
    pub(crate) handles: Handles,
    pub(crate) parcels: Parcels,
    pub(crate) ordered: bool,
    pub(crate) lanes: usize,
    pub(crate) gzip: bool,
    pub(crate) telemetry: Telemetry,
}

/// Most messages without a confirm, and most deliveries without an ack; with batches, those of batches.
pub(crate) const WINDOW: usize = 1000;
pub(crate) const WINDOW_OF_BATCHES: usize = 64;

/// The keys whose order is kept, and the handlers and lanes that share them.
pub(crate) const KEYS: u64 = 1000;
pub(crate) const SHARED: usize = 4;

const JOURNALED_WITHIN: Duration = Duration::from_millis(10);

/// What the other ways with single messages are compared with.
const PLAIN: Way = Way {
    name: "at_least_once",
    guarantee: "nothing lost, some come twice",
    persistent: true,
    quorum: false,
    sends: Sends::With(Confirms::Window(WINDOW)),
    handles: Handles::AtLeastOnce,
    parcels: Parcels::Singles,
    ordered: false,
    lanes: 1,
    gzip: false,
    telemetry: Telemetry::Off,
};

/// What the other ways with batches are compared with.
const BATCHES: Way = Way {
    name: "batches",
    guarantee: "a batch is confirmed together",
    sends: Sends::With(Confirms::Window(WINDOW_OF_BATCHES)),
    parcels: Parcels::Batches,
    ..PLAIN
};

/// All ways. The first one of each group is what its others are compared with.
pub(crate) const WAYS: [Way; 29] = [
    PLAIN,
    Way {
        name: "unconfirmed",
        guarantee: "any crash may lose messages",
        persistent: false,
        sends: Sends::With(Confirms::Off),
        handles: Handles::AtMostOnce,
        ..PLAIN
    },
    Way { name: "at_most_once", guarantee: "stored; a consumer's crash loses", handles: Handles::AtMostOnce, ..PLAIN },
    Way {
        name: "confirmed_each",
        guarantee: "each stored before the next",
        sends: Sends::With(Confirms::Each),
        ..PLAIN
    },
    Way {
        name: "journal_each",
        guarantee: "survives our crash, each synced",
        sends: Sends::Journaled(Flush::Each),
        ..PLAIN
    },
    Way {
        name: "journal_grouped",
        guarantee: "survives our crash, synced together",
        sends: Sends::Journaled(Flush::Grouped),
        ..PLAIN
    },
    Way {
        name: "journal_interval",
        guarantee: "machine crash loses 10 ms",
        sends: Sends::Journaled(Flush::Interval(JOURNALED_WITHIN)),
        ..PLAIN
    },
    Way {
        name: "outbox_sqlite",
        guarantee: "sent if its transaction commits",
        sends: Sends::ByOutbox(Sql::Sqlite),
        ..PLAIN
    },
    Way {
        name: "outbox_postgres",
        guarantee: "sent if its transaction commits",
        sends: Sends::ByOutbox(Sql::Postgres),
        ..PLAIN
    },
    Way { name: "once_in_memory", guarantee: "twice only after a restart", handles: Handles::OnceInMemory, ..PLAIN },
    Way { name: "once_on_disk", guarantee: "twice only after a crash", handles: Handles::OnceOnDisk, ..PLAIN },
    Way {
        name: "once_sqlite",
        guarantee: "its effect once, in SQL",
        handles: Handles::OnceInSql(Sql::Sqlite),
        ..PLAIN
    },
    Way {
        name: "once_postgres",
        guarantee: "its effect once, in SQL",
        handles: Handles::OnceInSql(Sql::Postgres),
        ..PLAIN
    },
    Way { name: "ordered_by_key", guarantee: "each key in its order", ordered: true, ..PLAIN },
    Way { name: "four_lanes", guarantee: "nothing lost, in no order", lanes: SHARED, ..PLAIN },
    Way { name: "quorum", guarantee: "replicated before it is confirmed", quorum: true, ..PLAIN },
    Way { name: "gzip", guarantee: "at least once, compressed bodies", gzip: true, ..PLAIN },
    Way { name: "metrics", guarantee: "at least once, with metrics", telemetry: Telemetry::Metrics, ..PLAIN },
    Way { name: "traces", guarantee: "at least once, some traced", telemetry: Telemetry::Traces, ..PLAIN },
    BATCHES,
    Way {
        name: "batches_unconfirmed",
        guarantee: "any crash may lose messages",
        persistent: false,
        sends: Sends::With(Confirms::Off),
        handles: Handles::AtMostOnce,
        ..BATCHES
    },
    Way { name: "batches_adaptive", guarantee: "no linger, batches under load", parcels: Parcels::Adaptive, ..BATCHES },
    Way {
        name: "batches_journaled",
        guarantee: "survives our crash, synced together",
        sends: Sends::Journaled(Flush::Grouped),
        ..BATCHES
    },
    Way {
        name: "batches_once_on_disk",
        guarantee: "twice only after a crash",
        handles: Handles::OnceOnDisk,
        ..BATCHES
    },
    Way { name: "batches_ordered_by_key", guarantee: "each key in its order", ordered: true, ..BATCHES },
    Way { name: "batches_quorum", guarantee: "a batch is replicated together", quorum: true, ..BATCHES },
    Way { name: "batches_gzip", guarantee: "a batch is compressed together", gzip: true, ..BATCHES },
    Way {
        name: "batches_metrics",
        guarantee: "as batches, and with metrics",
        telemetry: Telemetry::Metrics,
        ..BATCHES
    },
    Way { name: "batches_traces", guarantee: "as batches, and some traced", telemetry: Telemetry::Traces, ..BATCHES },
];

impl Way {
    pub(crate) fn is_batched(&self) -> bool {
        self.parcels != Parcels::Singles
    }

    /// The name of the way that this one is compared with.
    pub(crate) fn plain(&self) -> &'static str {
        if self.is_batched() { BATCHES.name } else { PLAIN.name }
    }

    pub(crate) fn window(&self) -> usize {
        if self.is_batched() { WINDOW_OF_BATCHES } else { WINDOW }
    }

    /// How many messages the uncounted round has, which finds out how fast this way is.
    pub(crate) fn first_messages(&self) -> u64 {
        match self.sends {
            _ if self.is_batched() => 200_000,
            Sends::With(Confirms::Each) | Sends::Journaled(Flush::Each) => 300,
            _ => 3000,
        }
    }

    /// Whether it needs a PostgreSQL server.
    pub(crate) fn needs_postgres(&self) -> bool {
        self.sends == Sends::ByOutbox(Sql::Postgres) || self.handles == Handles::OnceInSql(Sql::Postgres)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_guarantee_has_five_words() {
        for way in &WAYS {
            assert_eq!(way.guarantee.split_whitespace().count(), 5, "{}", way.guarantee);
        }
    }

    #[test]
    fn no_two_ways_are_the_same_and_each_is_compared_with_one_of_its_group() {
        let names: HashSet<_> = WAYS.iter().map(|way| way.name).collect();
        let settings: HashSet<_> =
            WAYS.iter().map(|way| format!("{:?}", Way { name: "", guarantee: "", ..*way })).collect();
        assert_eq!((names.len(), settings.len()), (WAYS.len(), WAYS.len()));
        for way in &WAYS {
            let plain = WAYS.iter().find(|other| other.name == way.plain()).unwrap();
            assert_eq!(plain.is_batched(), way.is_batched());
        }
    }
}
