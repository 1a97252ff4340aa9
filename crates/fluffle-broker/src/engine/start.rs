//! Where a consumer of a stream starts (`x-stream-offset`), and the notation of ages (`x-max-age`).

use super::{
    expiration,
    refusal::Refusal,
    table::{Plain, Table, TableValue},
};

/// Where a consumer of a stream starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    First,
    /// The last message.
    Last,
    /// The next message that is published.
    Next,
    Offset(u64),
    /// The first message that is not older: milliseconds since 1970.
    Time(u64),
    /// A value over which RabbitMQ crashes when the consumer begins.
    Broken,
}

impl Start {
    /// Reads `x-stream-offset`. `now` is in milliseconds since 1970.
    pub(crate) fn read(arguments: &Table, now: u64, entity: &str) -> Result<Self, Refusal> {
        let Some(value) = arguments.get("x-stream-offset") else { return Ok(Self::Next) };
        Ok(match value.plain() {
            Plain::Text(b"first") => Self::First,
            Plain::Text(b"last") => Self::Last,
            Plain::Text(b"next") => Self::Next,
            Plain::Integer(seconds) if value.kind() == b'T' => {
                Self::Time(u64::try_from(seconds).unwrap_or(u64::MAX).saturating_mul(1000))
            }
            // A number below zero is below every offset.
            Plain::Integer(offset) => Self::Offset(u64::try_from(offset).unwrap_or(0)),
            Plain::Text(text) if value.kind() == b'S' => match age(text)? {
                Some(age) => Self::Time(now.saturating_sub(age)),
                None => {
                    let problem = [b"{invalid_stream_offset_arg,{longstr,", &binary(text)[..], b"}}"].concat();
                    let before = format!("invalid arg 'x-stream-offset' for {entity}: ").into_bytes();
                    return Err(Refusal::precondition([before, problem].concat()));
                }
            },
            _ => Self::Broken,
        })
    }
}

/// `x-max-age`, in milliseconds.
pub(crate) fn max_age(arguments: &Table, entity: &str) -> Result<Option<u64>, Refusal> {
    let wrong = |problem: &str| Refusal::precondition(format!("invalid arg 'x-max-age' for {entity}: {problem}"));
    let Some(value) = arguments.get("x-max-age") else { return Ok(None) };
    let Some(text) = value.text() else {
        return Err(wrong(&format!("{{unacceptable_type,{}}}", super::arguments::type_name(value))));
    };
    age(text)?.map(Some).ok_or_else(|| wrong("invalid_max_age"))
}

/// Reads a number and a unit, such as `7D`, as milliseconds; `None` if it is invalid. Over a text without a number,
/// RabbitMQ crashes.
fn age(text: &[u8]) -> Result<Option<u64>, Refusal> {
    let end = text.iter().position(|octet| !octet.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Err(Refusal::internal());
    }
    let unit = rest.split(|octet| *octet == b'\n').next().unwrap_or_default();
    const SECOND: u64 = 1000;
    const DAY: u64 = 24 * 3600 * SECOND;
    let unit = match unit {
        b"Y" => 365 * DAY,
        b"M" => 30 * DAY,
        b"D" => DAY,
        b"h" => 3600 * SECOND,
        b"m" => 60 * SECOND,
        b"s" => SECOND,
        _ => return Ok(None),
    };
    let digit = |number: u64, octet: &u8| number.saturating_mul(10).saturating_add(u64::from(octet - b'0'));
    let number = digits.iter().fold(0, digit);
    Ok((number > 0).then(|| number.saturating_mul(unit)))
}

/// Octets as Erlang writes a binary.
fn binary(octets: &[u8]) -> Vec<u8> {
    let list = expiration::string(octets);
    let inside = match list.strip_prefix(b"[").and_then(|list| list.strip_suffix(b"]")) {
        Some(numbers) => numbers,
        None => &list,
    };
    [b"<<", inside, b">>"].concat()
}

/// Checks an argument that names where the leader of a replicated queue lives.
pub(crate) fn check_locator(arguments: &Table, entity: &str) -> Result<(), Refusal> {
    let name = "x-queue-leader-locator";
    let problem = match arguments.get(name).map(|value| (value, TableValue::text(value))) {
        None | Some((_, Some(b"client-local" | b"balanced" | b"random" | b"least-leaders"))) => return Ok(()),
        Some((_, Some(_))) => "invalid_queue_locator_arg".to_owned(),
        Some((value, None)) => format!("{{unacceptable_type,{}}}", super::arguments::type_name(value)),
    };
    Err(Refusal::precondition(format!("invalid arg '{name}' for {entity}: {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("1s", Some(1000)),
            ("007m", Some(420_000)),
            ("2h\nand more", Some(7_200_000)),
            ("1D", Some(86_400_000)),
            ("1M", Some(2_592_000_000)),
            ("1Y", Some(31_536_000_000)),
            ("99999999999999999999Y", Some(u64::MAX)),
            ("0s", None),
            ("5", None),
            ("5 s", None),
            ("5sec", None),
        ] {
            assert_eq!(age(text.as_bytes()).unwrap(), expected, "{text}");
        }
        for text in ["", "s", "-5s"] {
            assert!(age(text.as_bytes()).unwrap_err().is_internal(), "{text}");
        }
    }

    #[test]
    fn a_binary_is_written_as_erlang_writes_it() {
        assert_eq!(binary(b"5 \"m\""), b"<<\"5 \\\"m\\\"\">>");
        assert_eq!(binary(&[5, 0]), b"<<5,0>>");
    }
}
