use std::borrow::Cow;

/// The longest prefix of `text` of at most `most` bytes that ends at a character boundary.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `text`, cut to at most `most` bytes (3 or more), with an ellipsis at the end if it was cut.
pub(crate) fn bounded(text: &str, most: usize) -> Cow<'_, str> {
    const CUT: &str = "…";
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("{}{CUT}", cut(text, most.saturating_sub(CUT.len()))))
}

/// A label from outside, short enough for an error message.
pub(crate) fn shown(label: &str) -> Cow<'_, str> {
    bounded(label, 100)
}
