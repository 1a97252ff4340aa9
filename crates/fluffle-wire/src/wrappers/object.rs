//! JSON objects and arrays whose members are taken as slices of the body.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::text::redacted;
use crate::{DecodeError, Incoming, Label, json_text};

/// Why a part of a wrapper is not as it should be.
pub(crate) type Fault = String;

/// The longest attribute of a wrapper, in bytes.
pub(crate) const MOST: usize = 1_024;

/// The text of a body that should be JSON.
pub(crate) fn text<'a>(incoming: &Incoming<'a>) -> Result<&'a [u8], Fault> {
    Label::from(incoming).expect_utf8().map_err(|e: DecodeError| e.to_string())?;
    json_text::utf8(incoming.body).map_err(str::to_owned)
}

/// The members of a JSON object that have these names. Others are skipped.
pub(crate) struct Object<'a> {
    names: &'static [&'static str],
    members: Vec<Option<&'a RawValue>>,
}

impl<'a> Object<'a> {
    /// Reads an object. `any_case`: the case of names does not count.
    ///
    /// Fails if it is not an object, or if a name that is asked for stands twice.
    pub(crate) fn read(json: &'a [u8], names: &'static [&'static str], any_case: bool) -> Result<Self, Fault> {
        expect(json, b'{', "a JSON object")?;
        let mut parser = serde_json::Deserializer::from_slice(json);
        let members = Members { names, any_case }.deserialize(&mut parser);
        let members = members.and_then(|members| parser.end().map(|()| members));
        Ok(Self { names, members: members.map_err(said)? })
    }

    /// The value of a member; `null` counts as absent. `name` is one of the names that were asked for.
    pub(crate) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.raw(name).filter(|value| value.get() != "null")
    }

    /// The value of a member, which may be `null`.
    pub(crate) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.members.get(at).copied().flatten()
    }

    /// A text.
    pub(crate) fn text(&self, name: &str) -> Result<Option<Cow<'a, str>>, Fault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = string(value).ok_or_else(|| format!("its `{name}` is {}, expected text", kind(value)))?;
        if text.len() > MOST {
            return Err(format!("its `{name}` has {} bytes, at most {MOST} are read", text.len()));
        }
        Ok(Some(text))
    }

    /// A text that must be there, and must not be empty.
    pub(crate) fn required(&self, name: &str) -> Result<Cow<'a, str>, Fault> {
        self.text(name)?.filter(|text| !text.trim().is_empty()).ok_or_else(|| format!("it has no `{name}`"))
    }
}

/// The elements of a JSON array, at most `most`.
pub(crate) fn array(value: &RawValue, most: usize) -> Result<Vec<&RawValue>, Fault> {
    expect(value.get().as_bytes(), b'[', "an array")?;
    serde_json::Deserializer::from_str(value.get()).deserialize_seq(Elements { most }).map_err(said)
}

/// Fails if the value is of another kind. The parser would say so too, in an error that holds the whole value.
fn expect(json: &[u8], first: u8, expected: &str) -> Result<(), Fault> {
    match json.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(byte) if *byte == first => Ok(()),
        Some(byte) => Err(format!("it is {}, expected {expected}", kind_of(*byte))),
        None => Err(format!("it is empty, expected {expected}")),
    }
}

/// The text of a JSON string; `None` if it is another kind of value, or has escapes that are no text.
pub(crate) fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    struct Text;
    impl<'de> Visitor<'de> for Text {
        type Value = Cow<'de, str>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("text")
        }
        fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
            Ok(Cow::Borrowed(text))
        }
        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Cow::Owned(text.to_owned()))
        }
    }
    serde_json::Deserializer::from_str(value.get()).deserialize_str(Text).ok()
}

/// The part of the body that holds this value.
pub(crate) fn slice(body: &Bytes, part: &str) -> Bytes {
    body.slice_ref(part.as_bytes())
}

/// Whether a JSON array or object has no members, or the value is `null`.
pub(crate) fn is_empty(value: &RawValue) -> bool {
    let text = value.get();
    let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    text == "null" || (text.starts_with(['[', '{']) && inside.trim().is_empty())
}

/// What kind of value it is, for errors, which never quote the value itself.
pub(crate) fn kind(value: &RawValue) -> &'static str {
    match value.get().as_bytes().first() {
        Some(b'"') if string(value).is_none() => "text with an escape that stands for no character",
        first => kind_of(first.copied().unwrap_or_default()),
    }
}

fn kind_of(first: u8) -> &'static str {
    match first {
        b'{' => "an object",
        b'[' => "an array",
        b'"' => "text",
        b't' | b'f' => "a boolean",
        b'n' => "null",
        b'-' | b'0'..=b'9' => "a number",
        _ => "not JSON",
    }
}

fn said(error: serde_json::Error) -> Fault {
    redacted(&error.to_string(), 300)
}

struct Members {
    names: &'static [&'static str],
    any_case: bool,
}

impl<'de> DeserializeSeed<'de> for Members {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Self::Value, D::Error> {
        parser.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = vec![None; self.names.len()];
        while let Some(found) = map.next_key_seed(Name(&self))? {
            let Some((name, member)) = found.and_then(|at| Some((self.names.get(at)?, members.get_mut(at)?))) else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if member.replace(map.next_value()?).is_some() {
                return Err(A::Error::custom(format!("the field `{name}` stands twice")));
            }
        }
        Ok(members)
    }
}

/// Reads a name, as its place among those that are asked for.
struct Name<'a>(&'a Members);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Self::Value, D::Error> {
        parser.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, found: &str) -> Result<Self::Value, E> {
        let is = |name: &&str| if self.0.any_case { name.eq_ignore_ascii_case(found) } else { *name == found };
        Ok(self.0.names.iter().position(is))
    }
}

struct Elements {
    most: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut all = Vec::new();
        while let Some(element) = elements.next_element()? {
            if all.len() == self.most {
                return Err(A::Error::custom(format!("an array has more than {} elements", self.most)));
            }
            all.push(element);
        }
        Ok(all)
    }
}
