//! The items of a batch as messages of their own: their ids and their properties.

use fluffle_wire::headers::{ITEM_TRACES, ITEM_TYPES, ItemTraces, TRACEPARENT, TRACESTATE};
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};

/// The id of item `index` of the batch `id`.
pub(crate) fn item_id(id: &str, index: usize) -> String {
    format!("{id}/{index}")
}

/// Whether each of `items` items can have an id: `<id>/<index>` must fit into a short string (AMQP 0-9-1, section
/// 4.2.5.3).
pub(crate) fn has_room_for_items(id: &str, items: usize) -> bool {
    item_id(id, items.saturating_sub(1)).len() <= usize::from(u8::MAX)
}

/// The properties of item `index`: those of its batch, except what concerns the batch alone (its encoding, lifetime and
/// reply address). An item never asks for an answer. `traces` are those of the items, if they are told by themselves.
pub(crate) fn properties_of_item(
    batch: &BasicProperties,
    index: usize,
    content_type: Option<&str>,
    traces: Option<&ItemTraces>,
) -> BasicProperties {
    let mut item = BasicProperties::default();
    if let Some(id) = batch.message_id() {
        item = item.with_message_id(item_id(id.as_str(), index).into());
    }
    if let Some(label) = content_type.or(batch.content_type().as_ref().map(|label| label.as_str())) {
        item = item.with_content_type(label.into());
    }
    if let Some(headers) = batch.headers() {
        item = item.with_headers(headers_of_item(headers, traces.filter(|traces| traces.is_told(index)), index));
    }
    if let Some(value) = batch.kind() {
        item = item.with_type(value.clone());
    }
    if let Some(value) = batch.correlation_id() {
        item = item.with_correlation_id(value.clone());
    }
    if let Some(value) = batch.priority() {
        item = item.with_priority(*value);
    }
    if let Some(value) = batch.timestamp() {
        item = item.with_timestamp(*value);
    }
    if let Some(value) = batch.app_id() {
        item = item.with_app_id(value.clone());
    }
    item
}

/// The headers of an item: those of its batch, with the trace of the item alone, and without the types of all items.
/// `told` are the traces of the items, if something is told of this one.
fn headers_of_item(batch: &FieldTable, told: Option<&ItemTraces>, index: usize) -> FieldTable {
    if !batch.contains_key(ITEM_TRACES) && !batch.contains_key(ITEM_TYPES) {
        return batch.clone();
    }
    // The batch's `traceparent` and `tracestate` belong to the batch's span.
    let of_batch: &[&str] = match told {
        Some(_) => &[ITEM_TRACES, ITEM_TYPES, TRACEPARENT, TRACESTATE],
        None => &[ITEM_TRACES, ITEM_TYPES],
    };
    let is_kept = |name: &str| !of_batch.contains(&name);
    let mut headers = FieldTable::default();
    for (name, value) in batch.inner().iter().filter(|(name, _)| is_kept(name.as_str())) {
        headers.insert(name.clone(), value.clone());
    }
    if let Some(trace) = told.and_then(|told| told.get(index)) {
        headers.insert(TRACEPARENT.into(), AMQPValue::LongString(trace.traceparent().into()));
    }
    headers
}
