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

/// The text of a parser's error, of at most `most` bytes. Parsers quote what they could not read, so that a body, which
/// may hold secrets, would be in the log: each quotation is cut to a few characters, enough to find the place.
#[cfg(feature = "json")]
pub(crate) fn redacted(text: &str, most: usize) -> String {
    const CUT: char = '…';
    let mut kept = String::new();
    let (mut quote, mut inside, mut escaped, mut before) = (None, 0, false, ' ');
    for c in text.chars() {
        if kept.len() + c.len_utf8() + CUT.len_utf8() > most {
            kept.push(CUT);
            break;
        }
        match quote {
            None => {
                kept.push(c);
                if matches!(c, '"' | '`') || (c == '\'' && before == ' ') {
                    (quote, inside, escaped) = (Some(c), 0, false);
                }
            }
            Some(end) if c == end && !escaped => {
                kept.push(c);
                quote = None;
            }
            Some(end) => {
                inside += 1;
                // In double quotes are values; the names of fields and of variants are in the others.
                let room = if end == '"' { 12 } else { 40 };
                if inside <= room {
                    kept.push(c);
                } else if inside == room + 1 {
                    kept.push(CUT);
                }
                escaped = c == '\\' && !escaped;
            }
        }
        before = c;
    }
    kept
}

/// A label from outside, short enough for an error message.
pub(crate) fn shown(label: &str) -> Cow<'_, str> {
    bounded(label, 100)
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_is_cut_and_the_rest_of_the_error_is_kept() {
        let said = r#"invalid type: string "my \"secret\" is long", expected u32 at line 1 column 30"#;
        assert_eq!(redacted(said, 300), r#"invalid type: string "my \"secret\…", expected u32 at line 1 column 30"#);
        assert_eq!(redacted("missing field `orderId` at line 1", 300), "missing field `orderId` at line 1");
        let unknown = format!("unrecognized field name '{}'", "x".repeat(50));
        assert_eq!(redacted(&unknown, 300), format!("unrecognized field name '{}…'", "x".repeat(40)));
        let plain = "this isn't quoted, though it has an apostrophe";
        assert_eq!(redacted(plain, 300), plain);
        assert_eq!(redacted(&"é".repeat(500), 101), format!("{}…", "é".repeat(49)));
    }
}
