use std::fmt::Write;
use std::sync::Arc;

/// The types of the items of a batch that has several: see [`ITEM_TYPES`](super::ITEM_TYPES). Neighbours of the same
/// type are kept once.
///
/// ```
/// use fluffle_wire::headers::ItemTypes;
///
/// let mut types = ItemTypes::default();
/// for name in ["shop.Order", "shop.Order", "shop.Payment"] {
///     types.push(&name.into());
/// }
/// assert_eq!(types.header(), "2*shop.Order 1*shop.Payment");
/// assert_eq!(ItemTypes::parse("2*shop.Order 1*shop.Payment").get(2), Some("shop.Payment"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemTypes {
    /// The index behind the last item of each run, and the run's type. The indexes rise.
    runs: Vec<(usize, Arc<str>)>,
    /// Bytes that the header takes at most.
    bytes: usize,
}

/// What a run takes in the header beside its type: the longest number, `*` and a space.
const RUN: usize = 22;

impl ItemTypes {
    /// Most bytes of the header that a batch is given. A batch whose types take more is full.
    pub const MOST: usize = 8 * 1024;

    /// The next item is of this type.
    pub fn push(&mut self, type_name: &Arc<str>) {
        self.extend(1, type_name);
    }

    /// Whether an item of this type has room in the header.
    pub fn has_room_for(&self, type_name: &str) -> bool {
        self.runs.last().is_some_and(|(_, last)| **last == *type_name)
            || self.bytes + RUN + type_name.len() <= Self::MOST
    }

    fn extend(&mut self, count: usize, type_name: &Arc<str>) {
        let end = self.len().saturating_add(count);
        match self.runs.last_mut() {
            Some((last, same)) if same == type_name => *last = end,
            _ => {
                self.bytes += RUN + type_name.len();
                self.runs.push((end, Arc::clone(type_name)));
            }
        }
    }

    /// How many items have a type.
    pub fn len(&self) -> usize {
        self.runs.last().map_or(0, |(end, _)| *end)
    }

    /// Whether no item has a type of its own.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The type of item `index`. `None` if nothing is said of it.
    pub fn get(&self, index: usize) -> Option<&str> {
        let place = self.runs.partition_point(|(end, _)| *end <= index);
        self.runs.get(place).map(|(_, name)| &**name)
    }

    /// The type that all items share; `None` if they have different ones.
    pub fn common(&self) -> Option<&Arc<str>> {
        match &self.runs[..] {
            [(_, name)] => Some(name),
            _ => None,
        }
    }

    /// The types of the items from `index` on, the first of which is item 0 of the result.
    #[must_use]
    pub fn from(&self, index: usize) -> Self {
        let mut rest = Self::default();
        let mut begin = 0;
        for (end, name) in &self.runs {
            let count = end.saturating_sub(begin.max(index));
            if count > 0 {
                rest.extend(count, name);
            }
            begin = *end;
        }
        rest
    }

    /// The header's text.
    pub fn header(&self) -> String {
        let (mut text, mut begin) = (String::new(), 0);
        for (end, name) in &self.runs {
            let space = if text.is_empty() { "" } else { " " };
            // Writing to a string does not fail.
            let _ = write!(text, "{space}{}*{name}", end - begin);
            begin = *end;
        }
        text
    }

    /// Reads the header. It ends at the first part that is invalid: nothing is said of the items from there on.
    pub fn parse(text: &str) -> Self {
        let mut types = Self::default();
        for part in text.split_ascii_whitespace() {
            let Some((count, name)) = part.split_once('*') else { break };
            let count = count.parse().ok().filter(|count| *count > 0 && types.len().checked_add(*count).is_some());
            match count {
                Some(count) if !name.is_empty() => types.extend(count, &name.into()),
                _ => break,
            }
        }
        types
    }
}
