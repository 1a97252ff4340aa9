//! Which of the two text formats a scraper wants, by its `Accept` header (RFC 9110, section 12.5.1).

/// Whether the header prefers OpenMetrics 1.0 to the plain Prometheus format. An empty one does not.
pub(crate) fn wants_openmetrics(accept: &str) -> bool {
    let open = weight(accept, "application/openmetrics-text");
    let plain = weight(accept, "text/plain");
    // A tie goes to the plain format unless OpenMetrics is named: `*/*` names neither.
    open.1 && open.0 > 0.0 && open.0 >= plain.0
}

/// The weight of a media type, and whether the header names it rather than a wildcard.
fn weight(accept: &str, wanted: &str) -> (f32, bool) {
    let group = wanted.split('/').next().unwrap_or_default();
    // How well a range fits: the closest fit decides, whatever its weight.
    let mut best = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let fit = match media.as_str() {
            media if media == wanted => 3,
            media if media.strip_suffix("/*") == Some(group) => 2,
            "*/*" => 1,
            _ => continue,
        };
        let (mut quality, mut readable) = (1.0, true);
        for parameter in parts {
            let Some((name, value)) = parameter.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = value.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0),
                "version" if wanted == "application/openmetrics-text" => readable = value == "1.0.0",
                _ => {}
            }
        }
        if readable && (fit > best.0 || fit == best.0 && quality > best.1) {
            best = (fit, quality);
        }
    }
    (best.1, best.0 == 3)
}

#[cfg(test)]
mod tests {
    use super::wants_openmetrics;

    #[test]
    fn a_scraper_gets_the_format_that_it_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;\
                          q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        assert!(wants_openmetrics(prometheus));
        let plain_first = "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5";
        assert!(!wants_openmetrics(plain_first));
        assert!(wants_openmetrics("application/openmetrics-text"));
        assert!(!wants_openmetrics("application/openmetrics-text;version=0.0.1"));
        assert!(!wants_openmetrics("application/openmetrics-text;q=0"));
        assert!(!wants_openmetrics("application/openmetrics-text;q=nonsense, text/plain;q=0.1"));
        assert!(!wants_openmetrics("*/*"));
        assert!(!wants_openmetrics(""));
    }
}
