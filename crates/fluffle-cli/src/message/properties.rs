//! The properties of a message as JSON, and back.

use lapin::{
    BasicProperties,
    types::{FieldTable, ShortString},
};
use serde::{Deserialize, Serialize};

/// AMQP's properties except the headers, under AMQP's names. Absent ones are left out.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub(crate) type_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reply_to: Option<String>,
    /// Milliseconds, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expiration: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<u8>,
    /// 2 is persistent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivery_mode: Option<u8>,
    /// Seconds since 1970-01-01 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cluster_id: Option<String>,
}

impl Properties {
    /// Those of a received message.
    pub(crate) fn of(amqp: &BasicProperties) -> Self {
        let text = |text: &Option<ShortString>| text.as_ref().map(|text| text.as_str().to_owned());
        Self {
            content_type: text(amqp.content_type()),
            content_encoding: text(amqp.content_encoding()),
            type_name: text(amqp.kind()),
            message_id: text(amqp.message_id()),
            correlation_id: text(amqp.correlation_id()),
            reply_to: text(amqp.reply_to()),
            expiration: text(amqp.expiration()),
            priority: *amqp.priority(),
            delivery_mode: *amqp.delivery_mode(),
            timestamp: *amqp.timestamp(),
            user_id: text(amqp.user_id()),
            app_id: text(amqp.app_id()),
            cluster_id: text(amqp.cluster_id()),
        }
    }

    /// As AMQP's properties, with these headers.
    ///
    /// # Errors
    ///
    /// If a text is longer than 255 bytes.
    pub(crate) fn to_amqp(&self, headers: FieldTable) -> Result<BasicProperties, String> {
        type Set = fn(BasicProperties, ShortString) -> BasicProperties;
        let texts: [(&str, &Option<String>, Set); 10] = [
            ("content_type", &self.content_type, BasicProperties::with_content_type),
            ("content_encoding", &self.content_encoding, BasicProperties::with_content_encoding),
            ("type", &self.type_name, BasicProperties::with_type),
            ("message_id", &self.message_id, BasicProperties::with_message_id),
            ("correlation_id", &self.correlation_id, BasicProperties::with_correlation_id),
            ("reply_to", &self.reply_to, BasicProperties::with_reply_to),
            ("expiration", &self.expiration, BasicProperties::with_expiration),
            ("user_id", &self.user_id, BasicProperties::with_user_id),
            ("app_id", &self.app_id, BasicProperties::with_app_id),
            ("cluster_id", &self.cluster_id, BasicProperties::with_cluster_id),
        ];
        let mut amqp = BasicProperties::default();
        for (name, value, set) in texts {
            if let Some(value) = value {
                let short = ShortString::try_new(value.as_str());
                amqp = set(amqp, short.map_err(|_| format!("the property {name} is longer than 255 bytes"))?);
            }
        }
        if let Some(priority) = self.priority {
            amqp = amqp.with_priority(priority);
        }
        if let Some(mode) = self.delivery_mode {
            amqp = amqp.with_delivery_mode(mode);
        }
        if let Some(timestamp) = self.timestamp {
            amqp = amqp.with_timestamp(timestamp);
        }
        Ok(if headers.inner().is_empty() { amqp } else { amqp.with_headers(headers) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_back_as_they_went() {
        let text = r#"{"content_type":"a","content_encoding":"b","type":"c","message_id":"d","correlation_id":"e",
            "reply_to":"f","expiration":"100","priority":3,"delivery_mode":2,"timestamp":7,"user_id":"g","app_id":"h",
            "cluster_id":"i"}"#;
        let properties: Properties = serde_json::from_str(text).unwrap();
        assert_eq!(Properties::of(&properties.to_amqp(FieldTable::default()).unwrap()), properties);
    }

    #[test]
    fn a_property_that_is_too_long_is_named() {
        let properties = Properties { app_id: Some("x".repeat(256)), ..Properties::default() };
        assert!(properties.to_amqp(FieldTable::default()).unwrap_err().contains("app_id"));
    }
}
