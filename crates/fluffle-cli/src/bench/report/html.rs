//! The report as one HTML page that loads no other file.

use crate::bench::summary::Summary;

const PAGE: &str = include_str!("page.html");

/// The placeholder for the data in the page.
const PLACE: &str = "/*DATA*/null";

pub(crate) fn render(summary: &Summary) -> Result<String, serde_json::Error> {
    // Inside a script element, only the beginning of a tag could end the element.
    let data = serde_json::to_string(summary)?.replace('<', "\\u003c");
    Ok(PAGE.replacen(PLACE, &data, 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No browser runs in this test, so it counts what is easily broken.
    #[test]
    fn the_page_has_a_place_for_its_data_and_every_bracket_is_closed() {
        assert_eq!(PAGE.matches(PLACE).count(), 1);
        let script = PAGE.split_once("<script>").unwrap().1.split_once("</script>").unwrap().0;
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            assert_eq!(script.matches(open).count(), script.matches(close).count(), "{open}{close}");
        }
    }
}
