//! Method arguments, properties and field tables as bytes (AMQP 0-9-1, sections 4.2.5 and 4.2.6). Nothing here looks at
//! what it writes: names and strings are any bytes.

/// The flags of the content properties, as they stand before a property list (AMQP 0-9-1, section 1.8.3). Properties
/// follow one another in the order of this module, which is that of falling flags.
pub mod flags {
    /// `content-type`, a short string.
    pub const CONTENT_TYPE: u16 = 1 << 15;
    /// `content-encoding`, a short string.
    pub const CONTENT_ENCODING: u16 = 1 << 14;
    /// `headers`, a field table.
    pub const HEADERS: u16 = 1 << 13;
    /// `delivery-mode`, one octet.
    pub const DELIVERY_MODE: u16 = 1 << 12;
    /// `priority`, one octet.
    pub const PRIORITY: u16 = 1 << 11;
    /// `correlation-id`, a short string.
    pub const CORRELATION_ID: u16 = 1 << 10;
    /// `reply-to`, a short string.
    pub const REPLY_TO: u16 = 1 << 9;
    /// `expiration`, a short string.
    pub const EXPIRATION: u16 = 1 << 8;
    /// `message-id`, a short string.
    pub const MESSAGE_ID: u16 = 1 << 7;
    /// `timestamp`, eight octets.
    pub const TIMESTAMP: u16 = 1 << 6;
    /// `type`, a short string.
    pub const TYPE: u16 = 1 << 5;
    /// `user-id`, a short string.
    pub const USER_ID: u16 = 1 << 4;
    /// `app-id`, a short string.
    pub const APP_ID: u16 = 1 << 3;
    /// The reserved short string once called `cluster-id`.
    pub const CLUSTER_ID: u16 = 1 << 2;
}

/// Bytes written field by field: the arguments of a method, or a property list.
///
/// ```
/// use conformance::raw::Fields;
///
/// let properties = Fields::new().short(b"text/plain").octet(2).into_bytes();
/// assert_eq!(properties, b"\x0atext/plain\x02");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<u8>);

impl Fields {
    /// No bytes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The class and number of a method, for instance `(50, 10)` for `queue.declare`.
    pub fn method(class: u16, method: u16) -> Self {
        Self::new().word(class).word(method)
    }

    /// One octet; also up to eight bits, the first as 1.
    #[must_use]
    pub fn octet(self, value: u8) -> Self {
        self.bytes(&[value])
    }

    /// Two octets.
    #[must_use]
    pub fn word(self, value: u16) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Four octets.
    #[must_use]
    pub fn long(self, value: u32) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Eight octets.
    #[must_use]
    pub fn long_long(self, value: u64) -> Self {
        self.bytes(&value.to_be_bytes())
    }

    /// A short string of any bytes.
    ///
    /// # Panics
    ///
    /// If it has more than 255 bytes.
    #[must_use]
    pub fn short(self, text: &[u8]) -> Self {
        self.octet(u8::try_from(text.len()).expect("a short string has at most 255 bytes")).bytes(text)
    }

    /// Bytes unchanged, for example a [`table`].
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The bytes written so far.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// A field of a table: its name, and its value with the type octet in front.
pub fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    Fields::new().short(name).bytes(value).into_bytes()
}

/// A field table of [`field`]s, with its length in front.
///
/// ```
/// use conformance::raw::{field, long_string, table};
///
/// let headers = table(&[field(b"k", &long_string(b"v"))]);
/// assert_eq!(headers, b"\0\0\0\x08\x01kS\0\0\0\x01v");
/// ```
pub fn table(fields: &[Vec<u8>]) -> Vec<u8> {
    measured(&fields.concat())
}

/// A value of type `S`.
pub fn long_string(text: &[u8]) -> Vec<u8> {
    [b"S", &measured(text)[..]].concat()
}

/// A value of type `l`: a signed integer of eight octets.
pub fn integer(value: i64) -> Vec<u8> {
    [b"l", &value.to_be_bytes()[..]].concat()
}

/// A value of type `A` that holds these values.
pub fn array(values: &[Vec<u8>]) -> Vec<u8> {
    [b"A", &measured(&values.concat())[..]].concat()
}

/// A value of `levels` nested arrays (at least one). Each inner array is the only value of the array around it.
pub fn nested_arrays(levels: usize) -> Vec<u8> {
    nested(levels, b"A")
}

/// A value of `levels` nested tables (at least one). Each inner table is the only value of the table around it, with
/// the name `k`.
pub fn nested_tables(levels: usize) -> Vec<u8> {
    nested(levels, b"\x01kF")
}

/// Written from the outermost level inwards, in linear time.
fn nested(levels: usize, opening: &[u8]) -> Vec<u8> {
    assert!(levels > 0, "a nested value has at least one level");
    let step = opening.len() + 4;
    let mut bytes = Vec::with_capacity(levels * step);
    for below in (0..levels).rev() {
        bytes.extend_from_slice(opening);
        bytes.extend_from_slice(&length(below * step));
    }
    // The outermost value gets its name when it is put into a table.
    bytes.split_off(opening.len() - 1)
}

fn measured(bytes: &[u8]) -> Vec<u8> {
    [&length(bytes.len())[..], bytes].concat()
}

fn length(of: usize) -> [u8; 4] {
    u32::try_from(of).expect("less than 4 GiB").to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_lie_in_one_another() {
        assert_eq!(nested_arrays(2), array(&[array(&[])]));
        let inner = [b"F", &table(&[])[..]].concat();
        assert_eq!(nested_tables(2), [b"F", &table(&[field(b"k", &inner)])[..]].concat());
    }
}
