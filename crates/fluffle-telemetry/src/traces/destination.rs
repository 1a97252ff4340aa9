//! Where a message goes or came from, in the words of the convention.
//!
//! A span's name must have few values, or backends that group by it have a group for each message. So a routing key is
//! in a name only if its route has one key for all messages. A key that varies is replaced by the route's template, or
//! left out. A consumer does not know whether the keys of its messages vary, so its spans have the queue's name.

use std::borrow::Cow;

use fluffle_amqp::PublishInfo;

use super::names::DEFAULT_EXCHANGE;

/// The parts that are not empty, with colons. A part that repeats the one before is left out, because the default
/// exchange has each queue's name as a routing key.
pub(super) fn joined(parts: &[&str]) -> String {
    let mut joined = String::new();
    let mut last = "";
    for part in parts.iter().filter(|part| !part.is_empty()) {
        if *part == last {
            continue;
        }
        if !joined.is_empty() {
            joined.push(':');
        }
        joined.push_str(part);
        last = part;
    }
    if joined.is_empty() { DEFAULT_EXCHANGE.to_owned() } else { joined }
}

/// `exchange:template`, if the route has a template for keys that vary.
pub(super) fn template(message: &PublishInfo<'_>) -> Option<String> {
    let template = message.key_template.filter(|_| message.key_varies)?;
    Some(joined(&[message.exchange, template]))
}

/// The destination for the span's name.
pub(super) fn in_a_name<'a>(message: &PublishInfo<'_>, template: Option<&'a str>) -> Cow<'a, str> {
    match template {
        Some(template) => Cow::Borrowed(template),
        None if message.key_varies => Cow::Owned(joined(&[message.exchange])),
        None => Cow::Owned(joined(&[message.exchange, message.routing_key])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parts_and_repetitions_are_left_out() {
        assert_eq!(joined(&["orders", "order.placed"]), "orders:order.placed");
        assert_eq!(joined(&["", "q"]), "q");
        assert_eq!(joined(&["orders", ""]), "orders");
        assert_eq!(joined(&["", ""]), "amq.default");
        assert_eq!(joined(&["orders", "order.placed", "q"]), "orders:order.placed:q");
        assert_eq!(joined(&["", "q", "q"]), "q");
    }
}
