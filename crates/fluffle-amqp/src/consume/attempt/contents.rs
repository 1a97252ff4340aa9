//! What is in a batch.

use std::{
    ops::RangeBounds,
    sync::{Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use fluffle_wire::{
    DecodeError, Incoming, RawItems,
    headers::{ItemTraces, ItemTypes, TraceContext},
};

use crate::consume::message::{received::Received, settled::Settled};

/// The items of a batch that go to handlers one by one.
pub(crate) trait HandedOut: Send + Sync + std::fmt::Debug {
    /// Fails items that a handler has had for longer than `limit`.
    fn expire(&self, limit: Duration);
}

/// What an opened batch holds.
#[derive(Debug)]
pub(crate) struct Contents {
    /// All items, from the first one on.
    pub(crate) items: RawItems,
    /// The content type of one item by itself.
    pub(crate) single: Box<str>,
    /// With effectively once: which items have been handled before. Empty or not set: none.
    pub(crate) known: OnceLock<Vec<bool>>,
    /// What became of the items that were not handled, by index.
    pub(crate) not_acked: OnceLock<Vec<(usize, Settled)>>,
    /// If a handler is given the whole batch: the items that could not be decoded.
    unreadable: Mutex<Vec<usize>>,
    /// If the items go to handlers one by one: those items.
    pub(crate) handed_out: OnceLock<Weak<dyn HandedOut>>,
    /// The spans that sent the items, if they are told by themselves. Read when first asked for.
    traces: OnceLock<Option<ItemTraces>>,
    /// The types of the items, if they are told one by one.
    types: ItemTypes,
    /// The spans of the attempts at items that go to handlers one by one, by index.
    spans: Mutex<Vec<(usize, TraceContext)>>,
}

impl Contents {
    pub(crate) fn new(items: RawItems, types: ItemTypes, single: &str) -> Self {
        let (known, not_acked, unreadable) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        let (handed_out, traces, spans) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        Self { items, single: single.into(), known, not_acked, unreadable, handed_out, traces, types, spans }
    }

    /// The spans that sent the items, if `batch`, which these are the contents of, tells them by themselves.
    pub(crate) fn traces(&self, batch: &Received) -> Option<&ItemTraces> {
        batch.headers()?;
        self.traces.get_or_init(|| batch.item_traces()).as_ref()
    }

    /// The span that sent item `index`; the one that sent the batch, if nothing is told of the item.
    pub(crate) fn trace(&self, batch: &Received, index: usize) -> Option<TraceContext> {
        match self.traces(batch) {
            Some(traces) if traces.is_told(index) => traces.get(index).cloned(),
            _ => batch.trace(),
        }
    }

    /// The labels of item `index` of `batch`, which these are the contents of.
    pub(crate) fn label<'a>(&'a self, batch: &'a Received, index: usize) -> Incoming<'a> {
        let incoming = batch.wire();
        Incoming { type_name: self.types.get(index).or(incoming.type_name), ..incoming }
    }

    /// Notes the span of the attempt at item `index`.
    pub(crate) fn note_span(&self, index: usize, span: &TraceContext) {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push((index, span.clone()));
    }

    /// The span of the attempt at item `index`, if it has one.
    pub(crate) fn span(&self, index: usize) -> Option<TraceContext> {
        let spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.iter().find(|(of, _)| *of == index).map(|(_, span)| span.clone())
    }

    /// Notes which items have been handled before.
    pub(crate) fn note_known(&self, known: Vec<bool>) {
        if known.contains(&true) {
            let _ = self.known.set(known);
        }
    }

    pub(crate) fn is_known(&self, index: usize) -> bool {
        self.known.get().is_some_and(|known| known.get(index).copied().unwrap_or(false))
    }

    /// The items in this range that have not been handled before.
    pub(crate) fn new_items(&self, range: impl RangeBounds<usize>) -> impl Iterator<Item = usize> {
        (0..self.items.len()).filter(move |index| range.contains(index) && !self.is_known(*index))
    }

    pub(crate) fn note_unreadable(&self, index: usize) {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).push(index);
    }

    /// The items that cannot be read, and why. An item that could not be decoded has the error of `decode`. Items
    /// behind a damaged length have the error of the batch.
    pub(crate) fn unreadable(
        &self,
        decode: impl Fn(usize, &Bytes) -> Option<DecodeError>,
    ) -> Vec<(usize, DecodeError)> {
        let noted = std::mem::take(&mut *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner));
        let why = |(index, raw): (usize, Result<Bytes, DecodeError>)| match raw {
            Ok(raw) if noted.contains(&index) => decode(index, &raw),
            Ok(_) => None,
            Err(error) => Some(error),
        };
        self.items.clone().enumerate().filter_map(|item| Some((item.0, why(item)?))).collect()
    }

    /// The items that `each` names, in order, each as a message of its own. Everything from a damaged item on is one
    /// message.
    pub(crate) fn by_themselves<'a, T: 'a>(
        &'a self,
        received: &'a Received,
        each: Vec<(usize, T)>,
    ) -> impl Iterator<Item = (usize, Received, T)> + 'a {
        let mut items = self.items.clone();
        each.into_iter().filter_map(move |(index, about)| {
            let traces = self.traces(received);
            let item = match items.nth(index.checked_sub(items.index())?)? {
                Ok(raw) => {
                    let item = received.item(index, raw, Some(&self.single), traces);
                    item.of_type(self.types.get(index))
                }
                Err(_) => received.item(index, items.rest(), None, traces).with_item_types(&self.types.from(index)),
            };
            Some((index, item, about))
        })
    }

    /// What became of item `index`, if its batch was settled as `batch`.
    pub(crate) fn settled(&self, index: usize, batch: Settled) -> Settled {
        let others = self.not_acked.get().map(Vec::as_slice).unwrap_or_default();
        let own = others.binary_search_by_key(&index, |(index, _)| *index).ok().and_then(|place| others.get(place));
        match (batch, own) {
            (Settled::Acked, Some((_, settled))) => *settled,
            _ => batch,
        }
    }
}
