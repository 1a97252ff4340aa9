//! The report as one JSON object: the fields of [`Summary`]. The crate's README describes it.

use crate::bench::summary::Summary;

pub(crate) fn render(summary: &Summary) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(summary)
}
