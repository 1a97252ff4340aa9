//! The largest frame of a connection, and how many bytes the properties of a message take in it.

use std::io::{self, Write};

use amq_protocol::frame::{BackToTheBuffer, GenError, GenResult, WriteContext};
use lapin::{BasicProperties, protocol::basic::gen_properties};

/// The frame size that every AMQP peer must accept, in bytes (AMQP 0-9-1, 4.2.3 "frame-min-size").
pub(crate) const LEAST_FRAME_MAX: u32 = 4096;

/// The frame size that a connection asks for unless the URI names another, in bytes: RabbitMQ's own default.
///
/// Every connection asks for a size. Without one lapin 4.12.3 takes the broker's value, and a broker without a limit
/// makes lapin allocate buffers for frames of 4 GiB.
pub(crate) const DEFAULT_FRAME_MAX: u32 = 128 * 1024;

/// The largest frame size that a URI may ask for, in bytes. lapin 4.12.3 gives each connection two buffers of 32
/// frames: with this size they take 64 MiB.
pub(crate) const MOST_FRAME_MAX: u32 = 1024 * 1024;

/// Bytes of a content header frame that are not properties: type, channel, size and end (8 bytes), class, weight and
/// body size (12 bytes); AMQP 0-9-1, 2.3.5 and 2.3.5.2.
const HEADER_FRAME_OVERHEAD: usize = 8 + 12;

/// The largest frame of one connection, as negotiated with the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameMax(u32);

impl FrameMax {
    /// From the size in lapin's configuration after the handshake, in bytes.
    pub(crate) fn new(bytes: u32) -> Self {
        Self(bytes.max(LEAST_FRAME_MAX))
    }

    /// The most bytes that the properties of a message may take, headers included; compare it with [`header_bytes`].
    /// AMQP does not split them over several frames, and a broker closes the whole connection over a larger frame.
    pub(crate) fn most_header_bytes(self) -> usize {
        self.0 as usize - HEADER_FRAME_OVERHEAD
    }
}

impl Default for FrameMax {
    fn default() -> Self {
        Self(DEFAULT_FRAME_MAX)
    }
}

/// The bytes that these properties take on the wire, flags and header table included. Nothing is allocated.
pub(crate) fn header_bytes(properties: &BasicProperties) -> usize {
    let counted: Result<_, GenError> = gen_properties(properties)(WriteContext::from(Count(0)));
    // Counting never fails. If it did, writing the message would fail too, so it must not fit.
    counted.map_or(usize::MAX, |written| written.into_inner().0.0)
}

/// A writer that counts bytes instead of writing them.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BackToTheBuffer for Count {
    /// Counts the length field in front of a table: its size does not depend on the length.
    fn reserve_write_use<
        Tmp,
        Gen: Fn(WriteContext<Self>) -> Result<(WriteContext<Self>, Tmp), GenError>,
        Before: Fn(WriteContext<Self>, Tmp) -> GenResult<Self>,
    >(
        mut s: WriteContext<Self>,
        reserved: usize,
        generator: &Gen,
        _: &Before,
    ) -> Result<WriteContext<Self>, GenError> {
        s.write.0 += reserved;
        generator(s).map(|(s, _)| s)
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::{AMQPValue, FieldArray, FieldTable};
    use proptest::prelude::*;

    use super::*;

    fn written(properties: &BasicProperties) -> usize {
        let written: Result<_, GenError> = gen_properties(properties)(WriteContext::from(Vec::new()));
        written.unwrap().into_inner().0.len()
    }

    fn value() -> impl Strategy<Value = AMQPValue> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(AMQPValue::Boolean),
            any::<i64>().prop_map(AMQPValue::LongLongInt),
            ".{0,40}".prop_map(|text| AMQPValue::LongString(text.into())),
            Just(AMQPValue::Void),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|all| AMQPValue::FieldArray(FieldArray::from(all))),
                table(inner).prop_map(AMQPValue::FieldTable),
            ]
        })
    }

    fn table(value: impl Strategy<Value = AMQPValue>) -> impl Strategy<Value = FieldTable> {
        prop::collection::vec(("[a-z]{0,20}", value), 0..4).prop_map(|entries| {
            let mut table = FieldTable::default();
            for (name, value) in entries {
                table.insert(name.as_str().into(), value);
            }
            table
        })
    }

    proptest! {
        #[test]
        fn what_properties_take_is_what_is_written_of_them(
            headers in prop::option::of(table(value())),
            id in prop::option::of("[a-z]{0,255}"),
            priority in prop::option::of(0_u8..10),
        ) {
            let mut properties = BasicProperties::default();
            if let Some(headers) = headers {
                properties = properties.with_headers(headers);
            }
            if let Some(id) = id {
                properties = properties.with_message_id(id.as_str().into()).with_timestamp(7);
            }
            if let Some(priority) = priority {
                properties = properties.with_priority(priority);
            }
            prop_assert_eq!(header_bytes(&properties), written(&properties));
        }
    }

    #[test]
    fn the_smallest_frame_has_room_for_4076_bytes_and_nothing_negotiated_is_smaller() {
        assert_eq!(FrameMax::new(4096).most_header_bytes(), 4076);
        assert_eq!(FrameMax::new(0), FrameMax::new(4096));
        assert_eq!(FrameMax::default().most_header_bytes(), 131_052);
    }
}
