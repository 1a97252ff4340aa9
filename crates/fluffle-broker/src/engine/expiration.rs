//! A message's `expiration`: a number as text. Refusals use RabbitMQ's words.

use super::refusal::Refusal;

/// RabbitMQ's bound: ten years, in milliseconds (`?MAX_EXPIRY_TIMER`).
const LONGEST: u64 = 10 * 365 * 24 * 60 * 60 * 1000;

/// Erlang breaks the line of a term after this column.
const WIDTH: usize = 78;

/// Reads an expiration as RabbitMQ does: `string:to_integer`, then `rabbit_misc:check_expiry`.
pub(super) fn milliseconds(text: &[u8]) -> Result<u64, Refusal> {
    let unsigned = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    let digits = unsigned.iter().take_while(|octet| octet.is_ascii_digit()).count();
    let (digits, rest) = unsigned.split_at(digits);
    let number = std::str::from_utf8(digits).unwrap_or_default().trim_start_matches('0');
    let negative = text.starts_with(b"-") && !number.is_empty();
    let before = [b"invalid expiration '", text, b"': "].concat();
    let problem = if digits.is_empty() {
        b"no_integer".to_vec()
    } else if !rest.is_empty() {
        [b"{leftover_string,", &string(rest)[..], b"}"].concat()
    } else if negative {
        tuple("value_negative", &format!("-{number}"), before.len())
    } else {
        match if number.is_empty() { Ok(0) } else { number.parse::<u64>() } {
            Ok(number) if number <= LONGEST => return Ok(number),
            _ => tuple("value_too_large", number, before.len()),
        }
    };
    Err(Refusal::precondition([before, problem].concat()))
}

/// `{word,number}` as Erlang writes it from a column on: on two lines if one line is too narrow.
fn tuple(word: &str, number: &str, column: usize) -> Vec<u8> {
    let whole = format!("{{{word},{number}}}");
    if column + whole.len() <= WIDTH {
        return whole.into_bytes();
    }
    let indent = " ".repeat(column + 1);
    format!("{{{word},\n{indent}{number}}}").into_bytes()
}

/// A list of octets as Erlang writes it: quoted, if all of them are printable Latin-1.
pub(super) fn string(octets: &[u8]) -> Vec<u8> {
    let readable = |octet: &u8| matches!(octet, 8..=13 | 27 | 32..=126 | 160..);
    if !octets.iter().all(readable) {
        let octets: Vec<String> = octets.iter().map(u8::to_string).collect();
        return format!("[{}]", octets.join(",")).into_bytes();
    }
    let escaped = octets.iter().flat_map(|octet| match octet {
        8 => b"\\b".to_vec(),
        b'\t' => b"\\t".to_vec(),
        b'\n' => b"\\n".to_vec(),
        11 => b"\\v".to_vec(),
        12 => b"\\f".to_vec(),
        b'\r' => b"\\r".to_vec(),
        27 => b"\\e".to_vec(),
        b'"' => b"\\\"".to_vec(),
        b'\\' => b"\\\\".to_vec(),
        other => vec![*other],
    });
    std::iter::once(b'"').chain(escaped).chain([b'"']).collect()
}
