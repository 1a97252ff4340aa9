//! What a middleware sees of a message before a handler gets it.

use std::{cell::OnceCell, fmt};

use fluffle_wire::headers::{ItemTraces, TraceContext};

use crate::consume::message::{accessors::accessors, item::item_id, received::Received};

/// The labels and headers of what a handler is about to be given: a message by itself, an item of a batch, or a whole
/// batch. See [`Middleware`](crate::Middleware).
pub struct DeliveryInfo<'a> {
    attempt: &'a Received,
    content_type: Option<&'a str>,
    batch: Option<Batch<'a>>,
}

/// The batch that the message is, or is in.
struct Batch<'a> {
    len: usize,
    item: Option<Item>,
    traces: Option<&'a ItemTraces>,
}

/// One item of the batch.
struct Item {
    index: usize,
    /// Made when asked for.
    id: OnceCell<String>,
}

impl<'a> DeliveryInfo<'a> {
    /// For a handler that is given the whole delivery: a batch of `batch` items, or a message by itself.
    pub(crate) fn whole(attempt: &'a Received, batch: Option<(usize, Option<&'a ItemTraces>)>) -> Self {
        let batch = batch.map(|(len, traces)| Batch { len, item: None, traces });
        Self { attempt, content_type: attempt.wire().content_type, batch }
    }

    /// For a handler that is given item `index` of a batch of `len` items. `content_type` is that of an item by itself.
    pub(crate) fn item(
        attempt: &'a Received,
        index: usize,
        len: usize,
        content_type: &'a str,
        traces: Option<&'a ItemTraces>,
    ) -> Self {
        let item = Some(Item { index, id: OnceCell::new() });
        Self { attempt, content_type: Some(content_type), batch: Some(Batch { len, item, traces }) }
    }

    /// The message's id, as [`Delivery::message_id`](crate::Delivery::message_id) has it: `<id>/<i>` for item *i* of
    /// the batch `<id>`. For a whole batch, the batch's own id.
    pub fn message_id(&self) -> Option<&str> {
        let id = self.attempt.message_id()?;
        let item = self.batch.as_ref().and_then(|batch| batch.item.as_ref());
        Some(item.map_or(id, |item| item.id.get_or_init(|| item_id(id, item.index))))
    }

    /// The content type. For an item of a batch, that of the item by itself.
    pub fn content_type(&self) -> Option<&str> {
        self.content_type
    }

    /// The name of the message's type (AMQP `type`), for example `shop.v1.Order`.
    pub fn type_name(&self) -> Option<&str> {
        self.attempt.wire().type_name
    }

    /// How many items the batch has that this message is, or is an item of. `None` for a message that came by itself.
    ///
    /// With [`effectively_once`](crate::Consume::effectively_once), items that have been handled before count here,
    /// although no handler is given them.
    pub fn batch_len(&self) -> Option<usize> {
        self.batch.as_ref().map(|batch| batch.len)
    }

    /// The message's place in its batch, from 0, if the handler is given the items of the batch one by one. `None` for
    /// a message that came by itself, and for a whole batch ([`DeliveryBatch`](crate::DeliveryBatch)).
    pub fn batch_index(&self) -> Option<usize> {
        self.batch.as_ref()?.item.as_ref().map(|item| item.index)
    }

    /// The span that sent the message (W3C Trace Context); for an item of a batch, the one that sent the item.
    pub fn trace(&self) -> Option<TraceContext> {
        let of_item = self.batch.as_ref().and_then(|batch| Some((batch.traces?, batch.item.as_ref()?.index)));
        match of_item {
            Some((traces, index)) if traces.is_told(index) => traces.get(index).cloned(),
            _ => self.attempt.trace(),
        }
    }

    /// The different spans that sent the items of a whole batch, beside [`trace`](Self::trace), which sent the batch.
    /// Empty if the handler is not given a whole batch, or if one span has sent all of it.
    pub fn item_traces(&self) -> impl Iterator<Item = &TraceContext> {
        let whole = self.batch.as_ref().filter(|batch| batch.item.is_none());
        whole.and_then(|batch| batch.traces).into_iter().flat_map(ItemTraces::iter)
    }

    /// The span of the attempt before, if this is not the first attempt and the one before had a span
    /// ([`Handling::trace`](crate::Handling::trace)). A dead letter that is replayed has it too.
    pub fn last_attempt_trace(&self) -> Option<&TraceContext> {
        self.attempt.attempt_before.as_deref()
    }

    /// AMQP's delivery tag: the number of the delivery on its channel.
    pub fn delivery_tag(&self) -> u64 {
        self.attempt.tag
    }

    accessors!();
}

impl fmt::Debug for DeliveryInfo<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeliveryInfo")
            .field("message_id", &self.message_id())
            .field("attempt", &self.attempt())
            .field("queue", &self.queue())
            .field("type_name", &self.type_name())
            .field("batch_len", &self.batch_len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use lapin::BasicProperties;

    use super::*;
    use crate::consume::message::received::tests::received_with;

    #[test]
    fn an_item_has_the_id_and_the_content_type_of_an_item_and_the_other_labels_of_its_batch() {
        let labels = BasicProperties::default()
            .with_message_id("b".into())
            .with_content_type("text/batch".into())
            .with_type("Line".into());
        let batch = received_with(2, labels);
        let item = DeliveryInfo::item(&batch, 1, 3, "text/plain", None);
        assert_eq!((item.message_id(), item.content_type()), (Some("b/1"), Some("text/plain")));
        assert_eq!((item.batch_len(), item.batch_index()), (Some(3), Some(1)));
        assert_eq!((item.type_name(), item.attempt(), item.queue()), (Some("Line"), 2, "q"));

        let whole = DeliveryInfo::whole(&batch, Some((3, None)));
        assert_eq!((whole.message_id(), whole.content_type()), (Some("b"), Some("text/batch")));
        assert_eq!((whole.batch_len(), whole.batch_index()), (Some(3), None));

        let alone = DeliveryInfo::whole(&batch, None);
        assert_eq!((alone.batch_len(), alone.batch_index()), (None, None));
    }
}
