use std::borrow::Cow;

/// The longest beginning of `text` that has at most `most` bytes.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// At most `most` bytes of `text` (at least 3); what was cut shows as an ellipsis.
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
