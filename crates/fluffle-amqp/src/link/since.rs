//! Arguments of queues that a broker has only since some version. An older broker refuses them without a word about
//! versions, or, worse, takes them and ignores them.

use crate::{
    link::sanitizer::Peer,
    topology::{Queue, QueueKind, TopologyError},
};

/// An argument, the kind of queue for which the version matters (`None`: any), and the first RabbitMQ that has it.
type Since = (&'static str, Option<QueueKind>, (u32, u32));

const SINCE: [Since; 5] = [
    ("x-consumer-timeout", None, (3, 12)),
    ("x-delayed-retry-max", None, (4, 3)),
    ("x-delayed-retry-min", None, (4, 3)),
    ("x-delayed-retry-type", None, (4, 3)),
    ("x-max-priority", Some(QueueKind::Quorum), (4, 3)),
];

/// Fails if the broker is a RabbitMQ that is too old for an argument of the queue. A broker of another product, or of
/// an unknown version, decides itself.
pub(crate) fn check(queue: &Queue, peer: Option<&Peer>) -> Result<(), TopologyError> {
    let Some(peer) = peer else { return Ok(()) };
    let arguments = queue.arguments();
    let too_new = |(name, kind, (major, minor)): &&Since| {
        arguments.contains_key(*name)
            && kind.is_none_or(|kind| kind == queue.kind())
            && peer.is_rabbitmq_before(*major, *minor)
    };
    match SINCE.iter().find(too_new) {
        None => Ok(()),
        Some((name, _, (major, minor))) => {
            let kind = queue.kind();
            let problem = format!(
                "a {kind} queue has {name} since RabbitMQ {major}.{minor}, and this is {peer}: upgrade the broker, or \
                 remove the argument"
            );
            Err(TopologyError::invalid(queue.entity(), problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rabbitmq(version: &str) -> Peer {
        Peer { product: Some("RabbitMQ".into()), version: Some(version.into()) }
    }

    fn said(queue: &Queue, version: &str) -> String {
        check(queue, Some(&rabbitmq(version))).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn a_broker_that_is_too_old_is_named_with_the_version_that_has_it() {
        let strict = Queue::quorum("q").max_priority(5);
        let error = said(&strict, "4.0.5");
        assert!(
            ["\"q\"", "x-max-priority", "4.3", "RabbitMQ 4.0.5"].iter().all(|word| error.contains(word)),
            "{error}"
        );
        let timed = Queue::quorum("q").consumer_timeout(Duration::from_secs(60));
        assert!(said(&timed, "3.10.8").contains("3.12"));
        assert!(said(&Queue::quorum("q").argument("x-delayed-retry-type", "all"), "4.2.0").contains("4.3"));
    }

    #[test]
    fn a_broker_that_has_it_or_is_unknown_or_another_product_decides_itself() {
        let strict = Queue::quorum("q").max_priority(5);
        assert_eq!(said(&strict, "4.3.0"), "");
        assert_eq!(said(&Queue::classic("q").max_priority(5), "3.10.8"), "", "classic queues always had it");
        assert!(check(&strict, None).is_ok());
        let other = Peer { product: Some("LavinMQ".into()), version: Some("2.0.0".into()) };
        assert!(check(&strict, Some(&other)).is_ok());
    }
}
