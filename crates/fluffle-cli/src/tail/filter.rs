//! Which messages are shown.

use std::{borrow::Cow, str::FromStr};

use serde_json::Value;

use crate::tail::message::Message;

/// A condition on one field of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    field: String,
    contains: bool,
    text: String,
}

/// The fields that are neither properties nor headers.
const OWN: [&str; 5] = ["key", "exchange", "type", "id", "body"];
const PROPERTIES: [&str; 10] = [
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "expiration",
    "priority",
    "delivery_mode",
    "timestamp",
    "user_id",
    "app_id",
];

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(['=', '~']).ok_or("write FIELD=VALUE, or FIELD~TEXT for `contains`")?;
        let (field, rest) = text.split_at(at);
        let contains = rest.starts_with('~');
        let is_header = field.strip_prefix("header.").is_some_and(|name| !name.is_empty());
        if !is_header && !OWN.contains(&field) && !PROPERTIES.contains(&field) {
            let (own, properties) = (OWN.join(", "), PROPERTIES.join(", "));
            return Err(format!("there is no field `{field}`: write header.NAME, {own}, {properties}"));
        }
        Ok(Self { field: field.to_owned(), contains, text: rest[1..].to_owned() })
    }
}

impl Filter {
    /// Whether the condition holds for the message; for `body`, `type` and `id`, for one of its items.
    pub(crate) fn holds(&self, message: &Message<'_>) -> bool {
        match self.field.as_str() {
            "key" => self.fits(&message.key),
            "exchange" => self.fits(&message.exchange),
            "type" => {
                let items = message.contents.items.iter().filter_map(|item| item.type_name.as_deref());
                items.chain(message.properties.type_name.as_deref()).any(|name| self.fits(name))
            }
            "id" => {
                let items = message.contents.items.iter().filter_map(|item| item.id.as_deref());
                items.chain(message.properties.message_id.as_deref()).any(|id| self.fits(id))
            }
            "body" => message.contents.items.iter().any(|item| self.fits(&unquoted(item.value.get()))),
            field => match field.strip_prefix("header.") {
                Some(name) => message.headers.get(name).is_some_and(|value| self.fits(&plain(value))),
                None => {
                    let properties = serde_json::to_value(&message.properties).unwrap_or_default();
                    properties.get(field).is_some_and(|value| self.fits(&plain(value)))
                }
            },
        }
    }

    fn fits(&self, found: &str) -> bool {
        if self.contains { found.contains(&self.text) } else { found == self.text }
    }
}

/// Text without its quotes; other values as JSON.
fn plain(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// A body that is text, without the quotes and escapes of JSON.
fn unquoted(json: &str) -> Cow<'_, str> {
    match serde_json::from_str::<String>(json) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Borrowed(json),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use lapin::{
        BasicProperties,
        types::{AMQPValue, FieldTable},
    };

    use super::*;
    use crate::decode::{Reader, descriptors::DescriptorArgs};

    #[test]
    fn a_filter_looks_at_the_field_that_it_names_alone() {
        let mut headers = FieldTable::default();
        headers.insert("tenant".into(), AMQPValue::LongString("eu".into()));
        headers.insert("n".into(), AMQPValue::LongInt(7));
        let properties = BasicProperties::default()
            .with_message_id("m1".into())
            .with_type("shop.Order".into())
            .with_priority(3)
            .with_headers(headers);
        let reader = Reader::new(&DescriptorArgs::default(), None).unwrap();
        let body = Bytes::from_static(b"say \"hello\"");
        let message = Message::new(&reader, "shop", "order.placed", false, &properties, &body);
        let holds = |text: &str| text.parse::<Filter>().unwrap().holds(&message);
        for yes in [
            "key=order.placed",
            "key~placed",
            "exchange=shop",
            "type=shop.Order",
            "id=m1",
            "body~\"hello\"",
            "header.tenant=eu",
            "header.n=7",
            "priority=3",
        ] {
            assert!(holds(yes), "{yes}");
        }
        for no in ["key=placed", "exchange~order", "body=hello", "header.tenant=us", "header.absent~", "app_id~"] {
            assert!(!holds(no), "{no}");
        }
    }

    #[test]
    fn a_field_that_does_not_exist_is_refused() {
        for wrong in ["", "hello", "header.=x", "colour=red", "=x"] {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong}");
        }
    }
}
