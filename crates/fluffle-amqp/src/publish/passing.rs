//! Which refusals of a message pass by themselves, so that the publisher publishes it again. Only this file decides it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    link::topology_store::TopologyStore,
    publish::{message::Prepared, outcome::SendOutcome},
    topology::Destination,
};

/// How long a refusal by queues that the application does not declare counts as one that may pass. RabbitMQ elects a
/// leader within that time if a majority of the nodes is up.
const ELECTION: Duration = Duration::from_secs(5);

/// Which messages a publisher publishes again by itself when a queue has refused them, under the same id, with waits of
/// 20 ms to 1 s, until the route's [`deadline`](crate::Route::deadline).
///
/// While a message waits for that, later messages of the same routing key wait behind it, so their order holds.
/// Messages of other keys go on, as long as the window has room: what waits has its place in it. Messages of the key
/// that were on the wire beside the refused one may have overtaken it; [`Confirms::Each`](crate::Confirms::Each) rules
/// that out.
///
/// ```
/// use fluffle_amqp::{Republish, Route};
///
/// let patient = Route::<String>::queue("jobs").republish(Republish::Full);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Republish {
    /// None: the sender is told of each refusal at once.
    Never,
    /// Those that a change in the cluster explains (the default): the leader of a quorum queue is being elected or
    /// moves, or the node of a classic queue is down. A queue of the topology that was deleted is declared again.
    ///
    /// That is every `basic.nack`, unless the topology of the application says that the queue refuses messages when it
    /// is full ([`Overflow::RejectPublish`](crate::Overflow::RejectPublish)), and every `basic.return`, if the topology
    /// has a queue for that routing key. A nack by queues that are not in the topology, which may be full, counts for
    /// 5 s.
    #[default]
    Elections,
    /// Those too that a full queue refuses.
    Full,
}

/// What a publisher knows about the queues that its messages go to.
pub(crate) struct Passing {
    pub(crate) republish: Republish,
    pub(crate) topology: Arc<TopologyStore>,
}

impl Passing {
    /// Until when a message that ended as `outcome` is published again, if this may pass. `since`: when messages of
    /// its routing key began to be refused.
    pub(crate) fn until(
        &self,
        message: &Prepared,
        outcome: &SendOutcome,
        since: Instant,
        deadline: Instant,
    ) -> Option<Instant> {
        if self.republish == Republish::Never {
            return None;
        }
        let goes_to = || self.topology.destination(&message.exchange, &message.routing_key);
        match outcome {
            SendOutcome::Nacked if self.republish == Republish::Full => Some(deadline),
            SendOutcome::Nacked => match goes_to() {
                Destination::Queues { refuse_when_full: true } => None,
                Destination::Queues { refuse_when_full: false } => Some(deadline),
                Destination::Unknown => Some(deadline.min(since + ELECTION)),
            },
            SendOutcome::Returned(_) => match goes_to() {
                Destination::Queues { .. } => {
                    // Or somebody has deleted the queue, or its binding.
                    self.topology.want();
                    Some(deadline)
                }
                Destination::Unknown => None,
            },
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;
    use crate::{
        publish::confirm::Returned,
        topology::{Exchange, Overflow, Queue, Topology},
    };

    #[test]
    fn a_refusal_passes_if_the_cluster_explains_it_and_a_full_queue_does_not() {
        let topology = Topology::new()
            .exchange(Exchange::topic("events"))
            .queue(Queue::quorum("jobs").bind("events", "job.*"))
            .queue(Queue::quorum("small").max_length(1).overflow(Overflow::RejectPublish));
        let topology = TopologyStore::new(topology);
        let now = Instant::now();
        let deadline = now + Duration::from_secs(30);
        let returned = || SendOutcome::Returned(Returned { code: 312, text: "NO_ROUTE".to_owned() });
        let nacked = || SendOutcome::Nacked;
        let until = |republish, exchange: &str, key: &str, outcome| {
            let message = Prepared::new("id", exchange, key, BasicProperties::default(), bytes::Bytes::new());
            Passing { republish, topology: Arc::clone(&topology) }.until(&message, &outcome, now, deadline)
        };
        use Republish::{Elections, Full, Never};
        for (republish, exchange, key, outcome, expected) in [
            (Elections, "", "jobs", nacked(), Some(deadline)),
            (Elections, "", "jobs", returned(), Some(deadline)),
            (Elections, "events", "job.new", returned(), Some(deadline)),
            (Elections, "events", "jobs", returned(), None),
            (Elections, "", "elsewhere", returned(), None),
            (Elections, "", "elsewhere", nacked(), Some(now + ELECTION)),
            (Elections, "", "small", nacked(), None),
            (Full, "", "small", nacked(), Some(deadline)),
            (Full, "", "elsewhere", nacked(), Some(deadline)),
            (Never, "", "jobs", nacked(), None),
            (Never, "", "jobs", returned(), None),
            (Full, "", "jobs", SendOutcome::Refused { code: 404, text: String::new() }, None),
        ] {
            let what = format!("{republish:?} {exchange} {key} {outcome:?}");
            assert_eq!(until(republish, exchange, key, outcome), expected, "{what}");
        }
    }
}
