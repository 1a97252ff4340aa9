//! The id of a message, and of the batch that it may have travelled in.

use std::time::{Duration, SystemTime};

use uuid::Uuid;

/// The id of a message.
#[derive(Clone, Debug)]
pub(crate) struct Id {
    pub(crate) text: String,
    /// The batch and the index in it, if the id has the form of an item's.
    pub(crate) item: Option<(String, u64)>,
}

impl Id {
    pub(crate) fn new(text: &str) -> Self {
        let item = text.rsplit_once('/').and_then(|(batch, index)| Some((batch.to_owned(), index.parse().ok()?)));
        Self { text: text.to_owned(), item }
    }

    /// Whether a message with this id is the message, holds it, or is a part of it.
    pub(crate) fn is(&self, other: &str) -> bool {
        other == self.text
            || self.item.as_ref().is_some_and(|(batch, _)| batch == other)
            || other.strip_prefix(&self.text).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The ids under which the message may have been published: its own, and that of its batch.
    pub(crate) fn published_as(&self) -> Vec<&str> {
        let batch = self.item.as_ref().map(|(batch, _)| batch.as_str());
        std::iter::once(self.text.as_str()).chain(batch).collect()
    }

    /// When the id was made, if it tells: a UUIDv7 does, to the millisecond, by the clock of its publisher.
    pub(crate) fn made_at(&self) -> Option<SystemTime> {
        let whole = self.item.as_ref().map_or(self.text.as_str(), |(batch, _)| batch);
        let (seconds, nanos) = Uuid::parse_str(whole).ok()?.get_timestamp()?.to_unix();
        SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_found_in_its_batch_and_a_batch_by_its_items() {
        let item = Id::new("b/3");
        assert!(item.is("b/3") && item.is("b") && !item.is("b/4") && !item.is("b/31"));
        let batch = Id::new("b");
        assert!(batch.is("b") && batch.is("b/3") && !batch.is("bc") && !batch.is("a"));
        assert_eq!(Id::new("b/3").published_as(), ["b/3", "b"]);
        assert_eq!(Id::new("order/x").published_as(), ["order/x"]);
    }

    #[test]
    fn a_uuid_of_version_7_tells_when_it_was_made() {
        let id = Uuid::now_v7().to_string();
        let made = Id::new(&format!("{id}/7")).made_at().unwrap();
        assert!(SystemTime::now().duration_since(made).unwrap() < Duration::from_secs(60));
        assert_eq!(Id::new("order-7").made_at(), None);
    }
}
