//! A message as text for people.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    common::output::{Colour, OutputArgs, safe},
    decode::{Format, Item},
    tail::message::Message,
    units,
};

/// JSON of more characters than this is spread over lines.
const ONE_LINE: usize = 76;

/// How a message is shown.
pub(crate) struct Style<'a> {
    pub(crate) output: &'a OutputArgs,
    /// Most bytes of one value.
    pub(crate) most: usize,
    /// Whether the body is shown as it came, too.
    pub(crate) raw: bool,
}

impl Style<'_> {
    /// The message, in lines that end with a line break. `number` counts what was shown, `time` is when it came.
    pub(crate) fn text(&self, number: u64, time: &str, message: &Message<'_>) -> String {
        let mut text = String::new();
        let exchange = if message.exchange.is_empty() { "(default exchange)" } else { &message.exchange };
        let place = format!("{} {}", safe(exchange), safe(&message.key));
        let mut facts = vec![units::Bytes(message.body.len()).to_string()];
        facts.extend(message.properties.content_encoding.as_deref().map(safe));
        if message.contents.batch {
            facts.push(format!("batch of {}", message.contents.items.len()));
        }
        if message.cloud_event.is_some() {
            facts.push("CloudEvent".to_owned());
        }
        if message.redelivered {
            facts.push("redelivered".to_owned());
        }
        let facts = facts.join(", ");
        let number = format!("#{number}");
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{} {time} {} {}",
            self.paint(Colour::Dim, &number),
            self.paint(Colour::Bold, &place),
            self.paint(Colour::Dim, &facts)
        );
        for (name, value) in self.labels(message) {
            let _ = writeln!(text, "  {} {}", self.paint(Colour::Dim, &format!("{}:", safe(&name))), safe(&value));
        }
        for (name, value) in message.cloud_event.iter().flatten() {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let name = format!("event {}:", safe(name));
            let _ = writeln!(text, "  {} {}", self.paint(Colour::Dim, &name), safe(&value));
        }
        for item in &message.contents.items {
            self.item(&mut text, item, message.contents.batch);
        }
        if self.raw {
            let shown = &message.body[..message.body.len().min(self.most)];
            let hex: String = shown.iter().map(|byte| format!("{byte:02x}")).collect();
            let rest = message.body.len() - shown.len();
            let more = if rest > 0 { format!("… {} more", units::Bytes(rest)) } else { String::new() };
            let _ = writeln!(text, "  {} {hex}{more}", self.paint(Colour::Dim, "body:"));
        }
        text
    }

    /// The properties and headers that are worth a line.
    fn labels(&self, message: &Message<'_>) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        let properties = &message.properties;
        let own = [
            ("id", &properties.message_id),
            ("type", &properties.type_name),
            ("correlation id", &properties.correlation_id),
            ("reply to", &properties.reply_to),
            ("expires after ms", &properties.expiration),
            ("app id", &properties.app_id),
        ];
        for (name, value) in own {
            if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
                lines.push((name.to_owned(), value.to_owned()));
            }
        }
        for (name, value) in &message.headers {
            let value = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            lines.push((name.clone(), cut(&value, self.most)));
        }
        lines
    }

    fn item(&self, text: &mut String, item: &Item, is_part: bool) {
        if is_part {
            let id = item.id.as_deref().unwrap_or("no id");
            let name = item.type_name.as_deref().unwrap_or("no type");
            let _ = writeln!(text, "  {} {}", self.paint(Colour::Cyan, &safe(id)), safe(name));
        }
        if let Some(error) = &item.error {
            let _ = writeln!(text, "  {} {}", self.paint(Colour::Red, "unreadable:"), safe(error));
        }
        let note = match item.format {
            Format::ProtobufFields => "fields by number, because the type is not known: ",
            Format::Bytes => "base64: ",
            Format::Protobuf | Format::Json | Format::Text => "",
        };
        let value = cut(&value(item), self.most);
        for (index, line) in value.lines().enumerate() {
            let note = if index == 0 { self.paint(Colour::Dim, note) } else { String::new() };
            let _ = writeln!(text, "  {}{}", if note.is_empty() || index > 0 { "" } else { &note }, safe(line));
        }
    }

    fn paint(&self, colour: Colour, text: &str) -> String {
        if text.is_empty() { String::new() } else { self.output.paint(colour, text) }
    }
}

/// The value in lines: JSON on one line if it fits, text without quotes.
fn value(item: &Item) -> String {
    let json = item.value.get();
    if matches!(item.format, Format::Text | Format::Bytes) {
        return serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned());
    }
    if json.len() <= ONE_LINE && !json.contains('\n') {
        return json.to_owned();
    }
    let pretty = serde_json::from_str::<Value>(json).and_then(|value| serde_json::to_string_pretty(&value));
    pretty.unwrap_or_else(|_| json.to_owned())
}

/// The beginning of the text, and how much is left out.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most);
    format!("{}… {} more (--most)", &text[..end], units::Bytes(text.len() - end))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clap::ColorChoice;
    use lapin::{
        BasicProperties,
        types::{AMQPValue, FieldTable},
    };

    use super::*;
    use crate::decode::{Reader, descriptors::DescriptorArgs};

    fn shown(message: &Message<'_>) -> String {
        let output = OutputArgs { json: false, color: ColorChoice::Never };
        Style { output: &output, most: 200, raw: false }.text(1, "12:00:00", message)
    }

    #[test]
    fn a_hostile_message_moves_no_cursor_whichever_part_of_it_tries() {
        let evil = "a\x1b[2J\u{9b}31m\u{202e}\r\nb";
        let mut headers = FieldTable::default();
        headers.insert(evil.into(), AMQPValue::LongString(evil.into()));
        let mut nested = FieldTable::default();
        nested.insert(evil.into(), AMQPValue::LongString(evil.into()));
        headers.insert("nested".into(), AMQPValue::FieldTable(nested));
        let reader = Reader::new(&DescriptorArgs::default(), None).unwrap();
        for body in [evil.to_owned(), format!("{{\"k\":\"{}\"}}", "\u{9b}\u{202e}\u{7f}".repeat(40))] {
            let properties = BasicProperties::default()
                .with_message_id(evil.into())
                .with_type(evil.into())
                .with_content_encoding(evil.into())
                .with_content_type(evil.into())
                .with_headers(headers.clone());
            let body = Bytes::from(body);
            for batch in [false, true] {
                let kind = if batch { "x; encoding=delimited" } else { evil };
                let properties = properties.clone().with_content_type(kind.into());
                let message = Message::new(&reader, evil, evil, false, &properties, &body);
                let text = shown(&message);
                let raw =
                    text.chars().find(|c| (c.is_control() && *c != '\n') || ('\u{202a}'..='\u{202e}').contains(c));
                assert_eq!(raw, None, "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_left_out_is_told() {
        let reader = Reader::new(&DescriptorArgs::default(), None).unwrap();
        let body = Bytes::from("ü".repeat(150));
        let text = shown(&Message::new(&reader, "", "orders", true, &BasicProperties::default(), &body));
        assert!(text.contains("… 100 B more (--most)"), "{text}");
        assert!(text.contains("(default exchange) orders") && text.contains("redelivered"), "{text}");
    }
}
