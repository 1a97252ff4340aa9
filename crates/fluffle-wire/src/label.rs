use crate::incoming::present;
use crate::text::shown;
use crate::{ContentType, DecodeError, DecodeErrorKind, Incoming};

/// What the labels of a message say its body is: a content type and the name of a type. Either may be absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label<'a> {
    /// The content type, parsed.
    pub content_type: Option<ContentType<'a>>,
    /// The full name of the type, after aliases were replaced.
    pub type_name: Option<&'a str>,
}

impl<'a> Label<'a> {
    /// Of a body with these labels. Empty labels count as absent.
    pub fn new(content_type: Option<&'a str>, type_name: Option<&'a str>) -> Self {
        Self { content_type: present(content_type).map(ContentType::parse), type_name: present(type_name) }
    }

    /// The media type, without parameters.
    pub fn media_type(&self) -> Option<&'a str> {
        self.content_type.as_ref().map(ContentType::media_type)
    }

    /// Fails if the content type has a `charset` other than UTF-8 or ASCII. For codecs of text.
    ///
    /// # Errors
    ///
    /// [`DecodeErrorKind::ContentType`], with the charset that was found.
    pub fn expect_utf8(&self) -> Result<(), DecodeError> {
        match self.content_type.and_then(|label| label.parameter("charset")) {
            Some(charset) if !UTF_8.iter().any(|known| charset.eq_ignore_ascii_case(known)) => Err(DecodeError::new(
                DecodeErrorKind::ContentType,
                format!("the charset of the content type is {:?}; only UTF-8 is read", shown(charset)),
            )),
            _ => Ok(()),
        }
    }
}

impl<'a> From<&Incoming<'a>> for Label<'a> {
    /// The type is that of [`Incoming::declared_type`].
    fn from(incoming: &Incoming<'a>) -> Self {
        Self::new(incoming.content_type, incoming.declared_type())
    }
}

/// Charsets whose bytes are UTF-8.
const UTF_8: [&str; 4] = ["utf-8", "utf8", "us-ascii", "ascii"];
