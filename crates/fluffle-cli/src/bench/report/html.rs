//! The report as one page, which needs nothing but itself.

use crate::bench::summary::Summary;

const PAGE: &str = include_str!("page.html");

/// Where the page wants its data.
const PLACE: &str = "/*DATA*/null";

pub(crate) fn render(summary: &Summary) -> Result<String, serde_json::Error> {
    // Inside a script element the only way out is a tag's beginning.
    let data = serde_json::to_string(summary)?.replace('<', "\\u003c");
    Ok(PAGE.replacen(PLACE, &data, 1))
}
