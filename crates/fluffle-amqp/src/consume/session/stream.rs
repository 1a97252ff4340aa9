//! What a delivery of a stream says of itself, and the task that keeps offsets.

use std::sync::Arc;

use lapin::{message::Delivery, types::AMQPValue};
use tokio::task::JoinHandle;

use crate::consume::{message::progress::StreamPosition, settle::reader::Reader};

/// In this header the broker says where a message is in its stream.
const OFFSET: &str = "x-stream-offset";

/// The header that a stream's filter looks at.
const FILTER_VALUE: &str = "x-stream-filter-value";

/// The task that keeps offsets while a session lives. Dropped, it ends; a write that is under way may still happen.
pub(super) struct Keeping(JoinHandle<()>);

impl Keeping {
    pub(super) fn start(reader: &Arc<Reader>) -> Self {
        let reader = Arc::clone(reader);
        Self(actix::spawn(async move { reader.keep_on().await }))
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What an offset says of a delivery.
pub(super) enum Placed {
    /// It is new, or from a queue.
    Here(Option<Box<StreamPosition>>),
    /// It is done already, or the reader's filter leaves it out.
    Done,
}

/// The offset of a delivery; `None` if it is not from a stream.
pub(super) fn offset(delivery: &Delivery) -> Option<u64> {
    match delivery.properties.headers().as_ref()?.inner().get(OFFSET)? {
        AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
        _ => None,
    }
}

/// Whether the reader's filter lets the delivery pass. The broker filters chunks, and delivers more than that.
pub(super) fn passes(reader: &Reader, delivery: &Delivery) -> bool {
    let Some(filter) = &reader.spec.filter else { return true };
    let value = delivery.properties.headers().as_ref().and_then(|headers| headers.inner().get(FILTER_VALUE));
    match value {
        Some(AMQPValue::LongString(value)) => filter.values.iter().any(|one| one.as_bytes() == value.as_bytes()),
        Some(_) => false,
        None => filter.also_without,
    }
}

#[cfg(test)]
mod tests {
    use lapin::{BasicProperties, types::FieldTable};

    use super::*;
    use crate::{Offsets, StreamReader};

    fn delivery(headers: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> Delivery {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.into(), value);
        }
        let mut delivery = Delivery::mock(1, "".into(), "q".into(), false, Vec::new());
        delivery.properties = BasicProperties::default().with_headers(table);
        delivery
    }

    #[test]
    fn an_offset_is_what_the_broker_writes_and_nothing_else() {
        assert_eq!(offset(&delivery([(OFFSET, AMQPValue::LongLongInt(7))])), Some(7));
        for nonsense in [AMQPValue::LongLongInt(-1), AMQPValue::LongUInt(7), AMQPValue::LongString("7".into())] {
            assert_eq!(offset(&delivery([(OFFSET, nonsense)])), None);
        }
        assert_eq!(offset(&delivery([])), None);
    }

    #[tokio::test]
    async fn what_the_broker_delivers_beside_the_filter_is_left_out() {
        let valued = |value: &str| delivery([(FILTER_VALUE, AMQPValue::LongString(value.into()))]);
        let reader = |spec: fn(StreamReader) -> StreamReader| {
            Reader::new(&spec(StreamReader::new("r", Offsets::in_memory().expect("a store"))))
        };
        let filtered = reader(|spec| spec.filter(["berlin", "paris"]));
        assert!(passes(&filtered, &valued("paris")) && !passes(&filtered, &valued("rome")));
        assert!(!passes(&filtered, &delivery([])));
        assert!(!passes(&filtered, &delivery([(FILTER_VALUE, AMQPValue::LongLongInt(1))])));
        let also = reader(|spec| spec.filter(["berlin"]).also_unfiltered());
        assert!(passes(&also, &delivery([])) && !passes(&also, &valued("rome")));
        assert!(passes(&reader(|spec| spec), &valued("rome")));
    }
}
