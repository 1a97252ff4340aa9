//! Turns the broker's refusals of a declaration into typed errors. Only this file knows RabbitMQ's texts.
//!
//! The texts are those of RabbitMQ 3.10 to 4.x. They travel in at most 255 bytes, so they are cut if names are long,
//! and a newer broker may word them differently. A text that cannot be parsed is passed on as it is.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use crate::topology::{CONSISTENT_HASH, Difference, Entity, TopologyError, TopologyErrorKind as Kind};

/// The typed error for the entity that was being declared.
pub(crate) fn read(entity: Entity, error: lapin::Error) -> TopologyError {
    let kind = match error.kind() {
        lapin::ErrorKind::ProtocolError(refusal) => classify(entity, refusal.kind(), refusal.get_message().as_str()),
        _ => Kind::Connection { entity: Some(entity) },
    };
    TopologyError::with_source(kind, error)
}

/// Whether the broker answers a passive declaration with "there is no such exchange or queue". A queue whose home node
/// is down is answered with the same code, but exists.
#[cfg(feature = "bare")]
pub(crate) fn says_missing(error: &lapin::Error) -> bool {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(refusal) => {
            let text = refusal.get_message();
            *refusal.kind() == AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) && !is_down(text.as_str())
        }
        _ => false,
    }
}

fn classify(entity: Entity, code: &AMQPErrorKind, text: &str) -> Kind {
    use AMQPErrorKind::{Hard, Soft};
    match code {
        Soft(AMQPSoftError::PRECONDITIONFAILED) => precondition_failed(entity, text),
        Soft(AMQPSoftError::NOTFOUND) => not_found(entity, text),
        Soft(AMQPSoftError::ACCESSREFUSED) => Kind::AccessRefused { entity, text: text.to_owned() },
        Soft(AMQPSoftError::RESOURCELOCKED) => Kind::Locked { entity },
        // The plugin of an exchange type is missing, or the broker does not have a feature, or has deprecated it and
        // switched it off: a retry does not help.
        Hard(AMQPHardError::COMMANDINVALID | AMQPHardError::NOTIMPLEMENTED | AMQPHardError::NOTALLOWED) => {
            refused(entity, text)
        }
        Hard(AMQPHardError::INTERNALERROR) if text.contains("deprecated") => refused(entity, text),
        Soft(_) | Hard(_) => Kind::Connection { entity: Some(entity) },
    }
}

/// 406: the entity exists with other properties, or the broker never accepts this declaration.
fn precondition_failed(entity: Entity, text: &str) -> Kind {
    match text.contains("inequivalent arg") {
        true => Kind::Conflict { entity, difference: difference(text), text: text.to_owned() },
        false => refused(entity, text),
    }
}

fn refused(entity: Entity, text: &str) -> Kind {
    let what_to_do = if text.contains(&format!("exchange type '{CONSISTENT_HASH}'")) {
        "its type comes with a plugin of RabbitMQ: enable the plugin on every node, `rabbitmq-plugins enable \
         rabbitmq_consistent_hash_exchange`"
    } else {
        "change the declaration, or enable the feature on the broker"
    };
    let problem = format!("the broker refuses it: {text}; {what_to_do}");
    Kind::Invalid { entity, problem }
}

/// 404: a binding names a missing entity, or the node that holds the queue is down. For the declaration of an entity
/// the broker answers 404 for another reason that may pass.
fn not_found(entity: Entity, text: &str) -> Kind {
    if is_down(text) {
        return Kind::Unreachable { entity, node: home_node(text), text: text.to_owned() };
    }
    match entity {
        Entity::Binding { .. } => Kind::NotFound { missing: missing(text), referenced_by: entity },
        entity => Kind::Connection { entity: Some(entity) },
    }
}

/// Whether a text of the broker with code 404 is about a queue that exists, but whose node is down.
fn is_down(text: &str) -> bool {
    text.contains("is down")
}

/// Parses `NOT_FOUND - home node 'rabbit@b' of durable queue 'q' in vhost '/' is down or inaccessible`, and what
/// RabbitMQ 4 writes: `NOT_FOUND - queue 'q' in vhost '/' process is stopped by supervisor` names no node.
fn home_node(text: &str) -> Option<String> {
    let (_, text) = text.split_once("home node '")?;
    Some(text.split_once('\'')?.0.to_owned())
}

/// Parses `NOT_FOUND - no exchange 'orders' in vhost '/'`.
fn missing(text: &str) -> Option<Entity> {
    let (_, text) = text.split_once("no ")?;
    let (what, text) = text.split_once(" '")?;
    let (name, _) = text.rsplit_once("' in vhost")?;
    match what {
        "exchange" => Some(Entity::Exchange(name.into())),
        "queue" => Some(Entity::Queue(name.into())),
        _ => None,
    }
}

/// Parses `inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'`, where each
/// value may also be `none` or `the value '60000' of type 'long'`.
fn difference(text: &str) -> Option<Difference> {
    let (_, text) = text.split_once("inequivalent arg '")?;
    let (argument, text) = text.split_once("' for ")?;
    // If the name of the queue contains these words, the values that follow have no quotes: the result is then `None`,
    // never a wrong value.
    let (_, text) = text.split_once(": received ")?;
    let (declared, existing) = text.split_once(" but current is ")?;
    Some(Difference { argument: argument.to_owned(), declared: value(declared)?, existing: value(existing)? })
}

/// `Some(None)` if the argument is absent, `None` if the text cannot be parsed.
fn value(text: &str) -> Option<Option<String>> {
    if text == "none" {
        return Some(None);
    }
    let quoted = match text.strip_prefix("the value ") {
        Some(typed) => typed.rsplit_once(" of type ")?.0,
        None => text,
    };
    let value = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
    Some(Some(value.to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    fn queue() -> Entity {
        Entity::Queue("q".into())
    }

    fn soft(code: AMQPSoftError, entity: Entity, text: &str) -> Kind {
        classify(entity, &AMQPErrorKind::Soft(code), text)
    }

    fn conflict(text: &str) -> Option<Difference> {
        match soft(AMQPSoftError::PRECONDITIONFAILED, queue(), text) {
            Kind::Conflict { difference, text: kept, .. } => {
                assert_eq!(kept, text);
                difference
            }
            other => panic!("{other:?}"),
        }
    }

    fn expected(argument: &str, declared: Option<&str>, existing: Option<&str>) -> Option<Difference> {
        Some(Difference {
            argument: argument.into(),
            declared: declared.map(Into::into),
            existing: existing.map(Into::into),
        })
    }

    #[test]
    fn a_conflict_is_read_in_each_form_that_the_broker_writes() {
        let cases = [
            (
                "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': \
                 received 'false' but current is 'true'",
                expected("durable", Some("false"), Some("true")),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'px' in vhost '/': \
                 received 'direct' but current is 'topic'",
                expected("type", Some("direct"), Some("topic")),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': \
                 received the value '60000' of type 'signedint' but current is none",
                expected("x-message-ttl", Some("60000"), None),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': \
                 received none but current is the value 'quorum' of type 'longstr'",
                expected("x-queue-type", None, Some("quorum")),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in \
                 vhost '/': received 'it's 'b'' but current is 'a'",
                expected("x-dead-letter-exchange", Some("it's 'b'"), Some("a")),
            ),
            (
                "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'q' in \
                 vhost '/': received the value '' of type 'longstr' but current is none",
                expected("x-dead-letter-exchange", Some(""), None),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(conflict(text), expected, "{text}");
        }
    }

    #[test]
    fn a_conflict_that_cannot_be_read_keeps_the_brokers_text() {
        for text in [
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'a-very-long-na",
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received 'fal",
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'q' in vhost '/': received \
             'false' but current is 'tr",
            "PRECONDITION_FAILED - inequivalent arg durable",
        ] {
            assert_eq!(conflict(text), None, "{text}");
        }
    }

    #[test]
    fn a_conflict_says_both_values_and_what_to_do() {
        let text = "inequivalent arg 'durable' for queue 'orders' in vhost '/': received 'false' but \
                    current is 'true'";
        let orders = Entity::Queue("orders".into());
        assert_eq!(
            soft(AMQPSoftError::PRECONDITIONFAILED, orders, text).to_string(),
            "queue \"orders\" exists with durable = true, this application declares durable = false \
             (406): delete or rename it, or declare it as it is"
        );
        let text = "inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value \
                    '1' of type 'long' but current is none";
        assert_eq!(
            soft(AMQPSoftError::PRECONDITIONFAILED, queue(), text).to_string(),
            "queue \"q\" exists with no x-message-ttl, this application declares x-message-ttl = 1 \
             (406): delete or rename it, or declare it as it is"
        );
    }

    #[test]
    fn a_precondition_other_than_equality_is_no_conflict() {
        let text = "PRECONDITION_FAILED - invalid arg 'x-max-age' for queue 'q' in vhost '/': \
                    invalid_max_age";
        let kind = soft(AMQPSoftError::PRECONDITIONFAILED, queue(), text);
        assert!(matches!(&kind, Kind::Invalid { problem, .. } if problem.contains(text)), "{kind:?}");
    }

    #[test]
    fn a_missing_exchange_is_told_from_a_missing_queue() {
        let binding = || Entity::Binding { exchange: "x".into(), destination: Box::new(queue()), key: "k".into() };
        let cases = [
            ("NOT_FOUND - no exchange 'x' in vhost '/'", Some(Entity::Exchange("x".into()))),
            ("NOT_FOUND - no queue 'q' in vhost '/'", Some(queue())),
            ("NOT_FOUND - no exchange 'a-very-long-na", None),
        ];
        for (text, missing) in cases {
            let expected = Kind::NotFound { missing, referenced_by: binding() };
            assert_eq!(soft(AMQPSoftError::NOTFOUND, binding(), text), expected);
        }
    }

    #[test]
    fn a_queue_whose_node_is_down_is_named_with_its_node() {
        let text = "NOT_FOUND - home node 'rabbit@b' of durable queue 'q' in vhost '/' is down or \
                    inaccessible";
        let binding = Entity::Binding { exchange: "x".into(), destination: Box::new(queue()), key: "k".into() };
        for entity in [queue(), binding] {
            let kind = soft(AMQPSoftError::NOTFOUND, entity.clone(), text);
            let node = Some("rabbit@b".to_owned());
            assert_eq!(kind, Kind::Unreachable { entity, node, text: text.to_owned() });
        }
    }

    #[test]
    fn a_deprecated_feature_is_refused_and_any_other_internal_error_is_awaited() {
        let hard = |text| classify(queue(), &AMQPErrorKind::Hard(AMQPHardError::INTERNALERROR), text);
        let deprecated = hard("INTERNAL_ERROR - Feature `transient_nonexcl_queues` is deprecated.");
        assert!(matches!(deprecated, Kind::Invalid { .. }), "{deprecated:?}");
        assert_eq!(hard("INTERNAL_ERROR"), Kind::Connection { entity: Some(queue()) });
    }
}
