//! Reads the broker's refusals: one place knows RabbitMQ's texts.
//!
//! The texts are those of RabbitMQ 3.10 to 4.x. They travel in 255 bytes and are cut when names are
//! long, and a newer broker may word them otherwise: what cannot be read is passed on as it is.

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use super::error::{Difference, Entity, TopologyError, TopologyErrorKind as Kind};

/// What the broker's error means for the entity that was being declared.
pub(super) fn read(entity: Entity, error: lapin::Error) -> TopologyError {
    let kind = match error.kind() {
        lapin::ErrorKind::ProtocolError(refusal) => classify(entity, refusal.kind(), refusal.get_message().as_str()),
        _ => Kind::Connection { entity: Some(entity) },
    };
    TopologyError::with_source(kind, error)
}

fn classify(entity: Entity, code: &AMQPErrorKind, text: &str) -> Kind {
    use AMQPErrorKind::{Hard, Soft};
    match code {
        Soft(AMQPSoftError::PRECONDITIONFAILED) => precondition_failed(entity, text),
        Soft(AMQPSoftError::NOTFOUND) => not_found(entity, text),
        Soft(AMQPSoftError::ACCESSREFUSED) => Kind::AccessRefused { entity, text: text.to_owned() },
        Soft(AMQPSoftError::RESOURCELOCKED) => Kind::Locked { entity },
        // An exchange type whose plugin is missing, a feature that the broker does not have, and one
        // that it has deprecated and switched off: no retry brings them back.
        Hard(AMQPHardError::COMMANDINVALID | AMQPHardError::NOTIMPLEMENTED | AMQPHardError::NOTALLOWED) => {
            refused(entity, text)
        }
        Hard(AMQPHardError::INTERNALERROR) if text.contains("deprecated") => refused(entity, text),
        Soft(_) | Hard(_) => Kind::Connection { entity: Some(entity) },
    }
}

/// 406: it exists otherwise, or the broker would never accept it.
fn precondition_failed(entity: Entity, text: &str) -> Kind {
    match text.contains("inequivalent arg") {
        true => Kind::Conflict { entity, difference: difference(text), text: text.to_owned() },
        false => refused(entity, text),
    }
}

fn refused(entity: Entity, text: &str) -> Kind {
    let problem = format!("the broker refuses it: {text}; change the declaration, or what the broker offers");
    Kind::Invalid { entity, problem }
}

/// 404: a binding names something missing. Anything else exists by being declared: there the broker
/// answers 404 for a queue whose home node is down, which passes.
fn not_found(entity: Entity, text: &str) -> Kind {
    match entity {
        Entity::Binding { .. } => {
            let missing = missing(text).unwrap_or_else(|| entity.clone());
            Kind::NotFound { entity: missing, referenced_by: entity }
        }
        Entity::Exchange(_) | Entity::Queue(_) => Kind::Connection { entity: Some(entity) },
    }
}

/// From `NOT_FOUND - no exchange 'orders' in vhost '/'`.
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

/// From `inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is
/// 'true'`, where each value may also read `none` or `the value '60000' of type 'long'`.
fn difference(text: &str) -> Option<Difference> {
    let (_, text) = text.split_once("inequivalent arg '")?;
    let (argument, text) = text.split_once("' for ")?;
    // Names and values may hold quotes and these very words: `received` is searched behind the
    // virtual host, the values' border from the front.
    let (_, text) = text.split_once(": received ")?;
    let (declared, existing) = text.split_once(" but current is ")?;
    Some(Difference { argument: argument.to_owned(), declared: value(declared)?, existing: value(existing)? })
}

/// `Some(None)` when the argument is absent, `None` when the text is not understood.
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
    use super::*;
}
