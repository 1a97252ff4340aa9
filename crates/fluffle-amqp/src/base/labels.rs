//! Properties that are present but empty count as absent.

use lapin::{BasicProperties, types::ShortString};

/// The properties without those that are an empty string. Some clients send an empty string instead of leaving the
/// property out (Spring AMQP, amqplib), and an empty id, address or type names nothing. Only this function decides so:
/// every delivery and every answer passes through it before a property is read.
pub(crate) fn without_empty(properties: BasicProperties) -> BasicProperties {
    let texts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.user_id(),
        properties.app_id(),
        properties.cluster_id(),
    ];
    let is_empty = |text: &&Option<ShortString>| text.as_ref().is_some_and(|text| text.as_str().is_empty());
    if texts.iter().any(is_empty) { rebuilt(&properties) } else { properties }
}

/// Copies the other properties, because a property cannot be removed from a [`BasicProperties`].
fn rebuilt(from: &BasicProperties) -> BasicProperties {
    fn text(
        to: BasicProperties,
        value: &Option<ShortString>,
        set: fn(BasicProperties, ShortString) -> BasicProperties,
    ) -> BasicProperties {
        match value {
            Some(value) if !value.as_str().is_empty() => set(to, value.clone()),
            _ => to,
        }
    }
    let mut to = BasicProperties::default();
    to = text(to, from.content_type(), BasicProperties::with_content_type);
    to = text(to, from.content_encoding(), BasicProperties::with_content_encoding);
    to = text(to, from.correlation_id(), BasicProperties::with_correlation_id);
    to = text(to, from.reply_to(), BasicProperties::with_reply_to);
    to = text(to, from.expiration(), BasicProperties::with_expiration);
    to = text(to, from.message_id(), BasicProperties::with_message_id);
    to = text(to, from.kind(), BasicProperties::with_type);
    to = text(to, from.user_id(), BasicProperties::with_user_id);
    to = text(to, from.app_id(), BasicProperties::with_app_id);
    to = text(to, from.cluster_id(), BasicProperties::with_cluster_id);
    if let Some(headers) = from.headers() {
        to = to.with_headers(headers.clone());
    }
    if let Some(mode) = from.delivery_mode() {
        to = to.with_delivery_mode(*mode);
    }
    if let Some(priority) = from.priority() {
        to = to.with_priority(*priority);
    }
    if let Some(timestamp) = from.timestamp() {
        to = to.with_timestamp(*timestamp);
    }
    to
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::FieldTable;

    fn full(text: &str) -> BasicProperties {
        BasicProperties::default()
            .with_content_type(text.into())
            .with_content_encoding(text.into())
            .with_headers(FieldTable::default())
            .with_delivery_mode(2)
            .with_priority(0)
            .with_correlation_id(text.into())
            .with_reply_to(text.into())
            .with_expiration(text.into())
            .with_message_id(text.into())
            .with_timestamp(0)
            .with_type(text.into())
            .with_user_id(text.into())
            .with_app_id(text.into())
            .with_cluster_id(text.into())
    }

    #[test]
    fn an_empty_text_is_absent_and_everything_else_stays() {
        let rest = BasicProperties::default()
            .with_headers(FieldTable::default())
            .with_delivery_mode(2)
            .with_priority(0)
            .with_timestamp(0);
        assert_eq!(without_empty(full("")), rest);
        assert_eq!(without_empty(full("x")), full("x"));
        let one = full("x").with_message_id("".into());
        let without = without_empty(one);
        assert!(without.message_id().is_none());
        assert_eq!(without.with_message_id("x".into()), full("x"));
    }
}
