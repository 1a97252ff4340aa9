//! The items of a batch as messages of their own: their ids and their properties.

use lapin::BasicProperties;

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
/// reply address). An item never asks for an answer.
pub(crate) fn properties_of_item(batch: &BasicProperties, index: usize, content_type: Option<&str>) -> BasicProperties {
    let mut item = BasicProperties::default();
    if let Some(id) = batch.message_id() {
        item = item.with_message_id(item_id(id.as_str(), index).into());
    }
    if let Some(label) = content_type.or(batch.content_type().as_ref().map(|label| label.as_str())) {
        item = item.with_content_type(label.into());
    }
    if let Some(headers) = batch.headers() {
        item = item.with_headers(headers.clone());
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
