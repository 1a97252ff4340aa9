//! The shape of an error: its text without numbers and ids, which is the same for errors of one cause.

/// Most characters of a shape.
const LONGEST: usize = 200;

/// A number with so many digits or more is an id.
const LONGEST_NUMBER: usize = 16;

/// The text with each run of digits as `#`, and each word that looks like an id (a UUID, a hexadecimal number of 8
/// digits or more, a word with three digits or more between its letters) as `<id>`.
pub(crate) fn shape(error: &str) -> String {
    let mut shape = String::new();
    let mut rest = error;
    while let Some(first) = rest.chars().next() {
        if shape.chars().count() >= LONGEST {
            shape.push('…');
            break;
        }
        let (word, after) = if let Some(uuid) = uuid(rest) {
            shape.push_str("<id>");
            (uuid, &rest[uuid.len()..])
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            shape.push_str(&without_numbers(word));
            (word, after)
        } else {
            shape.push(first);
            rest.split_at(first.len_utf8())
        };
        debug_assert!(!word.is_empty());
        rest = after;
    }
    shape
}

/// The UUID at the beginning of the text.
fn uuid(text: &str) -> Option<&str> {
    let candidate = text.get(..36)?;
    let is_uuid = candidate.bytes().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    let ends = !text[36..].starts_with(|c: char| c.is_alphanumeric());
    (is_uuid && ends).then_some(candidate)
}

fn without_numbers(word: &str) -> String {
    let digits = word.chars().filter(char::is_ascii_digit).count();
    if digits == 0 {
        return word.to_owned();
    }
    if digits == word.len() {
        return if digits < LONGEST_NUMBER { "#" } else { "<id>" }.to_owned();
    }
    let is_hexadecimal = word.len() >= 8 && word.chars().all(|c| c.is_ascii_hexdigit());
    if is_hexadecimal || digits >= 3 {
        return "<id>".to_owned();
    }
    let mut out = String::new();
    let mut in_number = false;
    for character in word.chars() {
        match character.is_ascii_digit() {
            true if in_number => {}
            true => out.push('#'),
            false => out.push(character),
        }
        in_number = character.is_ascii_digit();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_one_cause_have_one_shape() {
        for (error, expected) in [
            ("order 17 is late by 3 days", "order # is late by # days"),
            ("order 0198a2f0-7d5c-7e6e-a1a3-3f4f5c6d7e8f is gone", "order <id> is gone"),
            ("quake ci37868143: connect to 10.0.0.7:5432", "quake <id>: connect to #.#.#.#:#"),
            ("http2 stream deadbeef closed", "http# stream deadbeef closed"),
            ("hash 00deadbeef", "hash <id>"),
            ("customer 00000000000000000000000000031676", "customer <id>"),
            ("", ""),
            ("grün 兎 ٣", "grün 兎 ٣"),
        ] {
            assert_eq!(shape(error), expected, "{error}");
        }
        assert_eq!(shape(&"word ".repeat(100)).chars().count(), LONGEST + 1);
    }
}
