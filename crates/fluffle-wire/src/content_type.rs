/// A parsed content type, such as `application/vnd.google.protobuf; proto=usgs.v1.Quake; encoding=delimited`.
///
/// Parsing never fails: a malformed content type just does not match the expected one. Names are compared without
/// regard to case; spaces around `;` and `=` and quotes around values are allowed (RFC 9110, section 8.3).
///
/// ```
/// use fluffle_wire::ContentType;
///
/// let found = ContentType::parse("Application/JSON ; proto = \"usgs.v1.Quake\"");
/// assert!(found.is("application/json"));
/// assert_eq!(found.parameter("proto"), Some("usgs.v1.Quake"));
/// assert_eq!(found.parameter("encoding"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentType<'a> {
    media_type: &'a str,
    parameters: &'a str,
}

impl<'a> ContentType<'a> {
    /// Splits the media type from its parameters.
    pub fn parse(text: &'a str) -> Self {
        let (media_type, parameters) = text.split_once(';').unwrap_or((text, ""));
        Self { media_type: media_type.trim(), parameters }
    }

    /// The media type without parameters, as it was written.
    pub fn media_type(&self) -> &'a str {
        self.media_type
    }

    /// Whether this is the given media type.
    pub fn is(&self, media_type: &str) -> bool {
        self.media_type.eq_ignore_ascii_case(media_type)
    }

    /// The value of the first parameter of this name.
    pub fn parameter(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.parameters;
        while !rest.is_empty() {
            let (parameter, after) = split_unquoted(rest);
            rest = after;
            if let Some((key, value)) = parameter.split_once('=')
                && key.trim().eq_ignore_ascii_case(name)
            {
                return Some(unquote(value.trim()));
            }
        }
        None
    }
}

impl ContentType<'_> {
    /// The content type without the parameters of this name.
    #[must_use]
    pub fn without(&self, name: &str) -> String {
        let mut kept = self.media_type.to_owned();
        let mut rest = self.parameters;
        while !rest.is_empty() {
            let (parameter, after) = split_unquoted(rest);
            rest = after;
            let key = parameter.split_once('=').map_or(parameter, |(key, _)| key);
            if !key.trim().eq_ignore_ascii_case(name) {
                kept.push_str("; ");
                kept.push_str(parameter.trim());
            }
        }
        kept
    }
}

/// Splits at the first `;` that is not within quotes.
fn split_unquoted(text: &str) -> (&str, &str) {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b';' if !quoted => return (&text[..at], &text[at + 1..]),
            _ => {}
        }
    }
    (text, "")
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value)
}
