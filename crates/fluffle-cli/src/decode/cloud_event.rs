//! The attributes of a CloudEvent, which are beside its data or around it. `fluffle_wire` takes the data out.

use fluffle::wire::ContentType;
use serde_json::{Map, Value};

use crate::message::properties::Properties;

/// What stands before the names of attributes in headers: the names in use, since there is no specification for AMQP
/// 0-9-1.
const PREFIXES: [&str; 4] = ["cloudEvents:", "cloudEvents_", "ce-", ""];

/// Attributes of the specification, for events whose headers have no prefix.
const KNOWN: [&str; 8] = ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"];

/// The attributes of the event; `None` if the message is none. Those of an event that is compressed as a whole are left
/// out, and its map is empty.
pub(crate) fn attributes(
    properties: &Properties,
    headers: &Map<String, Value>,
    body: &[u8],
) -> Option<Map<String, Value>> {
    let media_type = properties.content_type.as_deref().map(|text| ContentType::parse(text).media_type().to_owned());
    if media_type.is_some_and(|media_type| media_type.eq_ignore_ascii_case("application/cloudevents+json")) {
        let mut event: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
        event.remove("data");
        event.remove("data_base64");
        return Some(event);
    }
    let prefix = PREFIXES.iter().find(|prefix| headers.contains_key(&format!("{prefix}specversion")))?;
    let attribute = |(name, value): (&String, &Value)| {
        let name = name.strip_prefix(prefix)?;
        (!prefix.is_empty() || KNOWN.contains(&name)).then(|| (name.to_owned(), value.clone()))
    };
    Some(headers.iter().filter_map(attribute).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(content_type: &str, headers: &Value, body: &str) -> Option<Value> {
        let properties = Properties { content_type: Some(content_type.to_owned()), ..Properties::default() };
        attributes(&properties, headers.as_object().unwrap(), body.as_bytes()).map(Value::Object)
    }

    #[test]
    fn a_structured_event_shows_all_but_its_data() {
        let event = r#"{"specversion":"1.0","id":"e1","source":"/shop","type":"t","tenant":"eu","data":{"a":1}}"#;
        let attributes = json!({"specversion": "1.0", "id": "e1", "source": "/shop", "type": "t", "tenant": "eu"});
        let labelled = |label| of(label, &json!({}), event);
        assert_eq!(labelled("application/cloudevents+json; charset=utf-8"), Some(attributes));
        assert_eq!(labelled("application/json"), None);
    }

    #[test]
    fn a_binary_event_shows_its_headers_under_each_naming() {
        for prefix in PREFIXES {
            let headers = json!({
                format!("{prefix}specversion"): "1.0", format!("{prefix}id"): "e1", "x-mine": "no",
            });
            let attributes = json!({"specversion": "1.0", "id": "e1"});
            assert_eq!(of("application/json", &headers, "{}"), Some(attributes), "{prefix}");
        }
        assert_eq!(of("application/json", &json!({"id": "e1", "type": "t"}), "{}"), None);
    }
}
