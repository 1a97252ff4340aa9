//! Field tables stay encoded: they are checked once, and read field by field (AMQP 0-9-1 section 4.2.5, with RabbitMQ's
//! types: <https://www.rabbitmq.com/amqp-0-9-1-errata.html#section_3>).
//!
//! No code here recurses. A frame may hold tens of thousands of nested arrays, and a recursive decoder would overflow
//! the stack of the broker's thread. Names and texts may be any bytes, because RabbitMQ does not check them.

use std::fmt;

use bytes::{BufMut, Bytes};

/// Reads big-endian AMQP primitives from a slice. Returns `None` if bytes are missing or malformed.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(crate) fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// A short string, which may be any bytes.
    pub(crate) fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// A long string, or the content of a table; both have their length in front.
    pub(crate) fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length.try_into().ok()?)
    }
}

/// Walks over the fields of a table, however deep, and calls `each` with the position of every value's type octet.
/// Returns `None` if the fields are malformed, or contain a value that RabbitMQ cannot hold (its floats are finite).
fn walk(fields: &[u8], mut each: impl FnMut(usize, u8)) -> Option<()> {
    let mut reader = Reader::new(fields);
    // The arrays and tables around the current one: how many octets follow after each, and whether it is a table.
    let mut around: Vec<(usize, bool)> = Vec::new();
    let (mut after, mut is_table) = (0, true);
    loop {
        while reader.left() == after {
            match around.pop() {
                Some(outer) => (after, is_table) = outer,
                None => return Some(()),
            }
        }
        if reader.left() < after {
            return None;
        }
        if is_table {
            reader.short()?;
        }
        let place = fields.len() - reader.left();
        let kind = reader.u8()?;
        each(place, kind);
        match kind {
            b't' | b'b' | b'B' => reader.skip(1)?,
            b's' | b'u' => reader.skip(2)?,
            b'I' | b'i' => reader.skip(4)?,
            b'L' | b'l' | b'T' => reader.skip(8)?,
            b'f' => reader.array().map(f32::from_be_bytes).filter(|number| number.is_finite()).map(|_| ())?,
            b'd' => reader.array().map(f64::from_be_bytes).filter(|number| number.is_finite()).map(|_| ())?,
            b'D' => reader.skip(5)?,
            b'V' => {}
            b'S' | b'x' => reader.long().map(|_| ())?,
            b'A' | b'F' => {
                let length: usize = reader.u32()?.try_into().ok()?;
                // If this value ends behind the end of the surrounding one, that is detected when the outer end is
                // passed.
                let end = reader.left().checked_sub(length)?;
                around.push((after, is_table));
                (after, is_table) = (end, kind == b'F');
            }
            _ => return None,
        }
    }
}

/// Whether RabbitMQ could read these fields of a table.
pub(crate) fn is_sound(fields: &[u8]) -> bool {
    walk(fields, |_, _| {}).is_some()
}

/// The fields of a table, without its length. They are known to be sound.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Table(Bytes);

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} bytes)", self.0.len())
    }
}

impl Table {
    /// Checks the fields of a table, without its length, and converts them to the form in which RabbitMQ writes them,
    /// so that equal tables are equal bytes.
    pub(crate) fn read(fields: &[u8]) -> Option<Self> {
        let mut rewritten: Vec<usize> = Vec::new();
        walk(fields, |place, kind| {
            if kind == b'L' || kind == b't' && fields.get(place + 1).is_some_and(|value| *value > 1) {
                rewritten.push(place);
            }
        })?;
        let mut fields = fields.to_vec();
        for place in rewritten {
            match fields.get_mut(place..) {
                Some([kind @ b'L', ..]) => *kind = b'l',
                Some([b't', value, ..]) => *value = 1,
                _ => {}
            }
        }
        Some(Self(fields.into()))
    }

    /// Fields already known to be sound.
    pub(super) fn sound(fields: Bytes) -> Self {
        Self(fields)
    }

    /// A table of fields, each a name and an encoded value.
    pub(crate) fn of<'a>(fields: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Self {
        let mut bytes = Vec::new();
        fields.into_iter().for_each(|(name, value)| put_field(&mut bytes, name.as_bytes(), &value));
        Self(bytes.into())
    }

    /// The fields in their order.
    pub(crate) fn fields(&self) -> Fields<'_> {
        Fields(Reader::new(&self.0))
    }

    /// The value of a name; if several fields have it, the first.
    pub(crate) fn get(&self, name: &str) -> Option<TableValue<'_>> {
        self.fields().find_map(|(found, value)| (found == name.as_bytes()).then_some(value))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The form in which RabbitMQ writes it.
    pub(crate) fn canonical(&self) -> Self {
        Self::read(&self.0).unwrap_or_default()
    }

    /// The same fields sorted by name. Fields of the same name keep their order.
    pub(crate) fn sorted(&self) -> Self {
        let mut fields: Vec<_> = self.fields().collect();
        fields.sort_by_key(|(name, _)| *name);
        Self::join(fields)
    }

    /// This table, sorted, with a value for a name in place of the first of that name: RabbitMQ's
    /// `rabbit_misc:set_table_value`.
    pub(crate) fn with(&self, name: &str, value: &[u8]) -> Self {
        let (name, value) = (name.as_bytes(), TableValue(value));
        let mut fields: Vec<_> = self.fields().collect();
        match fields.iter_mut().find(|(found, _)| *found == name) {
            Some(field) => field.1 = value,
            None => fields.push((name, value)),
        }
        fields.sort_by_key(|(name, _)| *name);
        Self::join(fields)
    }

    /// This table without the first field of a name.
    pub(crate) fn without(&self, name: &str) -> Self {
        let mut fields: Vec<_> = self.fields().collect();
        if let Some(at) = fields.iter().position(|(found, _)| *found == name.as_bytes()) {
            fields.remove(at);
        }
        Self::join(fields)
    }

    /// This table with those fields whose value is to be kept.
    pub(crate) fn retaining(&self, keep: impl Fn(TableValue<'_>) -> bool) -> Self {
        Self::join(self.fields().filter(|(_, value)| keep(*value)).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn join(fields: Vec<(&[u8], TableValue<'_>)>) -> Self {
        let mut bytes = Vec::new();
        fields.iter().for_each(|(name, value)| put_field(&mut bytes, name, value.0));
        Self(bytes.into())
    }

    /// The table with its length in front.
    pub(crate) fn encode(&self) -> Vec<u8> {
        measured(&self.0)
    }

    /// The table as the value of a field or an item of an array.
    pub(crate) fn value(&self) -> Vec<u8> {
        [b"F", &measured(&self.0)[..]].concat()
    }
}

/// Iterates over names and values. Ends at the end, or at a malformed field, which a sound table does not have.
#[derive(Clone)]
pub(crate) struct Fields<'a>(Reader<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], TableValue<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        Some((self.0.short()?, TableValue::take(&mut self.0)?))
    }
}

/// The values of an array.
pub(crate) struct Items<'a>(Reader<'a>);

impl<'a> Iterator for Items<'a> {
    type Item = TableValue<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() { None } else { TableValue::take(&mut self.0) }
    }
}

/// One value: its type octet and its content.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableValue<'a>(&'a [u8]);

/// A value without its type, as RabbitMQ compares values in a headers exchange.
#[derive(Debug, PartialEq)]
pub(crate) enum Plain<'a> {
    Bool(bool),
    Integer(i128),
    Float(f64),
    Decimal(&'a [u8]),
    /// Text, or bytes.
    Text(&'a [u8]),
    /// The content of an array or a table.
    Inside(&'a [u8]),
    Void,
}

impl<'a> TableValue<'a> {
    fn take(reader: &mut Reader<'a>) -> Option<Self> {
        let whole = reader.rest;
        match reader.u8()? {
            b't' | b'b' | b'B' => reader.skip(1)?,
            b's' | b'u' => reader.skip(2)?,
            b'I' | b'i' | b'f' => reader.skip(4)?,
            b'L' | b'l' | b'T' | b'd' => reader.skip(8)?,
            b'D' => reader.skip(5)?,
            b'V' => {}
            _ => reader.long().map(|_| ())?,
        }
        whole.get(..whole.len() - reader.left()).map(Self)
    }

    pub(crate) fn kind(self) -> u8 {
        self.0.first().copied().unwrap_or(b'V')
    }

    /// Type octet, length if it has one, and content.
    pub(crate) fn encoded(self) -> &'a [u8] {
        self.0
    }

    fn content(self) -> &'a [u8] {
        let from = if matches!(self.kind(), b'S' | b'x' | b'A' | b'F') { 5 } else { 1 };
        self.0.get(from..).unwrap_or_default()
    }

    /// The bytes of a text (`S`).
    pub(crate) fn text(self) -> Option<&'a [u8]> {
        (self.kind() == b'S').then(|| self.content())
    }

    /// A number of any integer type.
    pub(crate) fn integer(self) -> Option<i64> {
        let content = self.content();
        Some(match self.kind() {
            b'b' => i8::from_be_bytes(content.try_into().ok()?).into(),
            b'B' => u8::from_be_bytes(content.try_into().ok()?).into(),
            b's' => i16::from_be_bytes(content.try_into().ok()?).into(),
            b'u' => u16::from_be_bytes(content.try_into().ok()?).into(),
            b'I' => i32::from_be_bytes(content.try_into().ok()?).into(),
            b'i' => u32::from_be_bytes(content.try_into().ok()?).into(),
            b'l' | b'L' => i64::from_be_bytes(content.try_into().ok()?),
            _ => return None,
        })
    }

    /// The values of an array.
    pub(crate) fn items(self) -> Option<Items<'a>> {
        (self.kind() == b'A').then(|| Items(Reader::new(self.content())))
    }

    /// The fields of a table.
    pub(crate) fn fields(self) -> Option<Fields<'a>> {
        (self.kind() == b'F').then(|| Fields(Reader::new(self.content())))
    }

    /// A copy of this value, if it is a table.
    pub(crate) fn table(self) -> Option<Table> {
        (self.kind() == b'F').then(|| Table(Bytes::copy_from_slice(self.content())))
    }

    /// Its value, whatever its type.
    pub(crate) fn plain(self) -> Plain<'a> {
        let content = self.content();
        let eight = || content.try_into().unwrap_or_default();
        match self.kind() {
            b't' => Plain::Bool(content != [0]),
            b'f' => Plain::Float(f32::from_be_bytes(content.try_into().unwrap_or_default()).into()),
            b'd' => Plain::Float(f64::from_be_bytes(eight())),
            b'D' => Plain::Decimal(content),
            b'S' | b'x' => Plain::Text(content),
            b'A' | b'F' => Plain::Inside(content),
            b'T' => Plain::Integer(u64::from_be_bytes(eight()).into()),
            _ => self.integer().map_or(Plain::Void, |number| Plain::Integer(number.into())),
        }
    }
}

fn put_field(to: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    // A name comes from a short string or a literal, so it has at most 255 bytes.
    to.put_u8(name.len() as u8);
    to.put_slice(name);
    to.put_slice(value);
}

fn measured(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// An encoded `S`.
pub(crate) fn text(text: &[u8]) -> Vec<u8> {
    [b"S", &measured(text)[..]].concat()
}

/// An encoded `l`.
pub(crate) fn long(number: i64) -> Vec<u8> {
    [b"l", &number.to_be_bytes()[..]].concat()
}

/// An encoded `T`, in seconds since 1970.
pub(crate) fn timestamp(seconds: u64) -> Vec<u8> {
    [b"T", &seconds.to_be_bytes()[..]].concat()
}

/// An encoded `A` of encoded values.
pub(crate) fn array(values: &[Vec<u8>]) -> Vec<u8> {
    [b"A", &measured(&values.concat())[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize) -> Vec<u8> {
        let mut table = b"\x01k".to_vec();
        for below in (0..levels).rev() {
            table.push(b'A');
            table.extend((below as u32 * 5 + 1).to_be_bytes());
        }
        table.push(b'V');
        table
    }

    #[test]
    fn a_table_may_be_as_deep_as_its_frame_is_long() {
        let deep = nested(1_000_000);
        assert!(is_sound(&deep));
        let table = Table::read(&deep).unwrap();
        assert_eq!(table.with("l", &long(1)).get("k").unwrap().encoded(), &deep[2..]);
        assert_eq!(table, table.clone());
    }

    #[test]
    fn a_table_cut_short_is_malformed() {
        let whole = nested(3);
        for end in 1..whole.len() {
            assert!(!is_sound(&whole[..end]), "{end}");
        }
    }

    #[test]
    fn an_array_that_ends_within_a_value_is_malformed() {
        assert!(!is_sound(b"\x01kA\0\0\0\x02VI"));
        assert!(!is_sound(b"\x01kA\0\0\0\x01I\0\0\0\0"));
        assert!(!is_sound(b"\x01kA\0\0\0\x01A\0\0\0\0"));
    }

    #[test]
    fn what_rabbitmq_writes_otherwise_is_read_as_it_writes_it() {
        let table = Table::read(b"\x01aL\0\0\0\0\0\0\0\x01\x01bA\0\0\0\x02t\x07").unwrap();
        assert_eq!(table, Table::read(b"\x01al\0\0\0\0\0\0\0\x01\x01bA\0\0\0\x02t\x01").unwrap());
    }

    #[test]
    fn a_value_takes_the_place_of_the_first_of_its_name_and_fields_are_sorted() {
        let table = Table::read(b"\x01zV\x01at\0\x01at\x01").unwrap();
        assert_eq!(table.with("a", b"V"), Table::read(b"\x01aV\x01at\x01\x01zV").unwrap());
        assert_eq!(table.without("a"), Table::read(b"\x01zV\x01at\x01").unwrap());
    }
}
