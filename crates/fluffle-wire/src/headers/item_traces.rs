use std::fmt::Write;

use super::TraceContext;

/// The traces of the messages of a batch, which share the headers of their envelope: see
/// [`ITEM_TRACES`](super::ITEM_TRACES). Neighbours with the same trace are kept once.
///
/// ```
/// use fluffle_wire::headers::{ItemTraces, TraceContext};
///
/// let trace: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// let mut traces = ItemTraces::default();
/// traces.push(0, Some(&trace));
/// traces.push(1, Some(&trace));
/// traces.push(2, None);
/// let header = traces.header(1024);
/// assert_eq!(header, "2*00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 1*-");
/// assert_eq!(ItemTraces::parse(&header).get(1), Some(&trace));
/// assert!(ItemTraces::parse(&header).is_told(2) && !ItemTraces::parse(&header).is_told(3));
/// # Ok::<(), fluffle_wire::headers::InvalidTrace>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemTraces {
    /// The index behind the last item of each run, and the run's trace. The indexes rise.
    runs: Vec<(usize, Option<TraceContext>)>,
}

impl ItemTraces {
    /// Sets the trace of item `index`, and says that the items between the last one and this one have none. An index
    /// that is not behind the last one is ignored.
    pub fn push(&mut self, index: usize, trace: Option<&TraceContext>) {
        let len = self.len();
        if index < len {
            return;
        }
        if index > len {
            self.extend_to(index, None);
        }
        self.extend_to(index.saturating_add(1), trace);
    }

    fn extend_to(&mut self, end: usize, trace: Option<&TraceContext>) {
        match self.runs.last_mut() {
            Some((last, same)) if same.as_ref() == trace => *last = end,
            _ => self.runs.push((end, trace.cloned())),
        }
    }

    /// Says that the items up to `items` that have not been given have no trace.
    pub fn tell_all(&mut self, items: usize) {
        if items > self.len() {
            self.extend_to(items, None);
        }
    }

    /// Whether it is known which trace item `index` has, or that it has none. An item that is not told of has the trace
    /// of its batch.
    pub fn is_told(&self, index: usize) -> bool {
        index < self.len()
    }

    /// How many items have been given.
    pub fn len(&self) -> usize {
        self.runs.last().map_or(0, |(end, _)| *end)
    }

    /// Whether no item has been given.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The trace of item `index`. `None` if it has none or is not told of.
    pub fn get(&self, index: usize) -> Option<&TraceContext> {
        let place = self.runs.partition_point(|(end, _)| *end <= index);
        self.runs.get(place)?.1.as_ref()
    }

    /// The different neighbours, in order: each trace once for each of its runs.
    pub fn iter(&self) -> impl Iterator<Item = &TraceContext> {
        self.runs.iter().filter_map(|(_, trace)| trace.as_ref())
    }

    /// The trace that the first `items` items share; `None` if they have different ones or none.
    pub fn common(&self, items: usize) -> Option<&TraceContext> {
        match &self.runs[..] {
            [(end, trace)] if *end >= items => trace.as_ref(),
            _ => None,
        }
    }

    /// The header's text, of at most `most` bytes. Runs for which there is no room are left out, from the end. Nothing
    /// is said of the `tracestate`, for which an envelope has one header for all its items.
    pub fn header(&self, most: usize) -> String {
        let (mut text, mut begin) = (String::new(), 0);
        for (end, trace) in &self.runs {
            let (kept, space) = (text.len(), if text.is_empty() { "" } else { " " });
            let trace = trace.as_ref().map_or_else(|| "-".to_owned(), TraceContext::traceparent);
            // Writing to a string does not fail.
            let _ = write!(text, "{space}{}*{trace}", end - begin);
            if text.len() > most {
                text.truncate(kept);
                break;
            }
            begin = *end;
        }
        text
    }

    /// Reads the header. It ends at the first part that is invalid: the items from there on are not told of.
    pub fn parse(text: &str) -> Self {
        let mut traces = Self::default();
        for part in text.split_ascii_whitespace() {
            let Some((count, trace)) = part.split_once('*') else { break };
            let Some(end) =
                count.parse().ok().filter(|count| *count > 0).and_then(|count| traces.len().checked_add(count))
            else {
                break;
            };
            match trace {
                "-" => traces.extend_to(end, None),
                trace => match trace.parse() {
                    Ok(trace) => traces.extend_to(end, Some(&trace)),
                    Err(_) => break,
                },
            }
        }
        traces
    }
}
