//! Compares what a file asks for with what the management API tells, as RabbitMQ itself compares declarations.

use fluffle::amqp::ArgumentValue;

use crate::topology::{
    item::Difference,
    model::{Arguments, Exchange, Queue},
};

/// The arguments of queues that RabbitMQ 3.10 to 4.x compares when a queue is declared again. It takes no notice of a
/// difference in others.
const COMPARED: &[&str] = &[
    "x-consumer-disconnected-timeout",
    "x-consumer-timeout",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-delivery-limit",
    "x-expires",
    "x-initial-cluster-size",
    "x-max-age",
    "x-max-in-memory-bytes",
    "x-max-in-memory-length",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-message-ttl",
    "x-overflow",
    "x-queue-leader-locator",
    "x-queue-mode",
    "x-quorum-initial-group-size",
    "x-quorum-target-group-size",
    "x-single-active-consumer",
    "x-stream-filter-size-bytes",
    "x-stream-max-segment-size-bytes",
];

/// Arguments that a policy sets as well, by its key. See <https://www.rabbitmq.com/docs/policies>.
const BY_POLICY: &[(&str, &str)] = &[
    ("alternate-exchange", "alternate-exchange"),
    ("x-dead-letter-exchange", "dead-letter-exchange"),
    ("x-dead-letter-routing-key", "dead-letter-routing-key"),
    ("x-dead-letter-strategy", "dead-letter-strategy"),
    ("x-delivery-limit", "delivery-limit"),
    ("x-expires", "expires"),
    ("x-max-age", "max-age"),
    ("x-max-length", "max-length"),
    ("x-max-length-bytes", "max-length-bytes"),
    ("x-message-ttl", "message-ttl"),
    ("x-overflow", "overflow"),
    ("x-queue-mode", "queue-mode"),
];

/// Numbers of which RabbitMQ takes the lower one, if both the queue and a policy have one.
const LOWER_WINS: &[&str] = &["x-delivery-limit", "x-expires", "x-max-length", "x-max-length-bytes", "x-message-ttl"];

pub(crate) fn exchanges(wanted: &Exchange, existing: &Exchange) -> Vec<Difference> {
    let mut differences = Vec::new();
    differ(&mut differences, "type", &wanted.kind, &existing.kind);
    differ(&mut differences, "durable", &wanted.durable, &existing.durable);
    differ(&mut differences, "auto_delete", &wanted.auto_delete, &existing.auto_delete);
    differ(&mut differences, "internal", &wanted.internal, &existing.internal);
    // RabbitMQ compares no other argument of an exchange.
    arguments(&mut differences, &wanted.arguments, &existing.arguments, |name| name == "alternate-exchange");
    differences
}

pub(crate) fn queues(wanted: &Queue, existing: &Queue) -> Vec<Difference> {
    let mut differences = Vec::new();
    differ(&mut differences, "durable", &wanted.durable, &existing.durable);
    differ(&mut differences, "auto_delete", &wanted.auto_delete, &existing.auto_delete);
    // A queue that was declared without a type is a classic one.
    differ(&mut differences, "x-queue-type", &wanted.kind(), &existing.kind());
    arguments(&mut differences, &wanted.arguments, &existing.arguments, |name| COMPARED.contains(&name));
    differences
}

fn differ<T: PartialEq + ToString>(differences: &mut Vec<Difference>, argument: &str, wanted: &T, existing: &T) {
    if wanted != existing {
        let (wanted, existing) = (Some(wanted.to_string()), Some(existing.to_string()));
        differences.push(Difference { argument: argument.to_owned(), wanted, existing });
    }
}

fn arguments(
    differences: &mut Vec<Difference>,
    wanted: &Arguments,
    existing: &Arguments,
    is_compared: impl Fn(&str) -> bool,
) {
    let only_there = existing.keys().filter(|name| !wanted.contains_key(*name));
    for name in wanted.keys().chain(only_there).filter(|name| is_compared(name)) {
        let (wanted, existing) = (wanted.get(name), existing.get(name));
        if wanted != existing {
            let (wanted, existing) = (wanted.map(plain), existing.map(plain));
            differences.push(Difference { argument: name.clone(), wanted, existing });
        }
    }
}

/// As RabbitMQ writes values in its refusals: text without quotes.
fn plain(value: &ArgumentValue) -> String {
    match value {
        ArgumentValue::Text(text) => text.clone(),
        value => value.to_string(),
    }
}

/// The policy's keys and values that give what the file asks for; `None` if no policy can.
pub(crate) fn policy<'a>(
    differences: &'a [Difference],
    wanted: &'a Arguments,
) -> Option<Vec<(&'static str, &'a ArgumentValue)>> {
    let settled = differences.iter().map(|difference| {
        let (_, key) = BY_POLICY.iter().find(|(argument, _)| *argument == difference.argument)?;
        let value = wanted.get(&difference.argument)?;
        let wins = match &difference.existing {
            None => true,
            Some(existing) => match value {
                ArgumentValue::Int(wanted) if LOWER_WINS.contains(&difference.argument.as_str()) => {
                    existing.parse::<i64>().is_ok_and(|existing| *wanted < existing)
                }
                // The queue's own argument has precedence over a policy.
                _ => false,
            },
        };
        wins.then_some((*key, value))
    });
    settled.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(argument: &str, existing: Option<&str>) -> Difference {
        Difference { argument: argument.into(), wanted: None, existing: existing.map(Into::into) }
    }

    #[test]
    fn a_policy_is_offered_only_where_rabbitmq_would_obey_it() {
        let wanted = Arguments::from([
            ("x-message-ttl".into(), ArgumentValue::Int(100)),
            ("x-overflow".into(), ArgumentValue::from("reject-publish")),
            ("x-max-priority".into(), ArgumentValue::Int(5)),
        ]);
        let by_policy = |differences: &[Difference]| policy(differences, &wanted).is_some();
        assert!(by_policy(&[difference("x-message-ttl", None)]));
        assert!(by_policy(&[difference("x-message-ttl", Some("200"))]), "the lower number wins");
        assert!(!by_policy(&[difference("x-message-ttl", Some("50"))]), "the lower number wins");
        assert!(by_policy(&[difference("x-overflow", None)]));
        assert!(!by_policy(&[difference("x-overflow", Some("drop-head"))]), "the queue's own argument wins");
        assert!(!by_policy(&[difference("x-max-priority", None)]), "no policy has that key");
        assert!(!by_policy(&[difference("x-max-length", Some("5"))]), "a policy takes nothing away");
        assert!(!by_policy(&[difference("x-message-ttl", None), difference("durable", Some("false"))]), "all or none");
    }
}
