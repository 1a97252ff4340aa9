//! Checks the short strings of the methods that a broker sends.

use crate::link::sanitizer::{
    fault::{Faults, What, question_marks},
    table::is_text,
};

/// An argument before or among the short strings of a method.
enum Argument {
    /// So many bytes that hold no short string.
    Skip(usize),
    /// A short string, with its name in AMQP 0-9-1.
    Text(&'static str),
}

use Argument::{Skip, Text};

const BASIC: u16 = 60;
const DELIVER: u16 = 60;

/// The arguments of a method up to its last short string. The list is empty for a method that has no short string, or
/// that a broker does not send. Tables occur only in `connection.start`, which no sender of a message can influence.
fn arguments(class: u16, method: u16) -> &'static [Argument] {
    match (class, method) {
        // connection.open-ok, connection.blocked
        (10, 41) | (10, 60) => &[Text("reason")],
        // connection.close, channel.close
        (10, 50) | (20, 40) => &[Skip(2), Text("reply_text")],
        // queue.declare-ok
        (50, 11) => &[Text("queue")],
        // basic.consume-ok, basic.cancel, basic.cancel-ok
        (BASIC, 21) | (BASIC, 30) | (BASIC, 31) => &[Text("consumer_tag")],
        // basic.return
        (BASIC, 50) => &[Skip(2), Text("reply_text"), Text("exchange"), Text("routing_key")],
        (BASIC, DELIVER) => &[Text("consumer_tag"), Skip(9), Text("exchange"), Text("routing_key")],
        // basic.get-ok
        (BASIC, 71) => &[Skip(9), Text("exchange"), Text("routing_key")],
        // basic.get-empty
        (BASIC, 72) => &[Text("cluster_id")],
        _ => &[],
    }
}

/// Whether a content header follows this method's frame.
pub(super) fn has_content(payload: &[u8]) -> bool {
    matches!(ids(payload), Some((BASIC, 50 | DELIVER | 71)))
}

/// Replaces the bytes of a short string that are not UTF-8 by question marks, which keeps its length, and returns the
/// original bytes as faults. `None` if all strings are sound.
pub(super) fn mend(payload: &mut [u8]) -> Option<Faults> {
    let (class, method) = ids(payload)?;
    if (class, method) == (BASIC, DELIVER) && is_sound_deliver(payload) {
        return None;
    }
    let mut faults = Faults::default();
    let mut at = 4;
    for argument in arguments(class, method) {
        match argument {
            Skip(bytes) => at += bytes,
            Text(name) => {
                let end = at + 1 + usize::from(*payload.get(at)?);
                // A method that is cut short does not come from a message; lapin ends the connection over it.
                let text = payload.get_mut(at + 1..end)?;
                if !is_text(text) {
                    faults.add(*name, What::NotUtf8, text);
                    question_marks(text);
                }
                at = end;
            }
        }
    }
    (!faults.is_empty()).then_some(faults)
}

/// A fast check for `basic.deliver`, the most frequent method, most of which are sound. It checks what [`arguments`]
/// describes.
fn is_sound_deliver(payload: &[u8]) -> bool {
    fn text(bytes: &[u8]) -> Option<&[u8]> {
        let (&length, rest) = bytes.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(length))?;
        is_text(text).then_some(rest)
    }
    let after_tag = payload.get(4..).and_then(text).and_then(|rest| rest.get(9..));
    after_tag.and_then(text).and_then(text).is_some()
}

#[inline]
fn ids(payload: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *payload.get(..4)? else { return None };
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    fn short(text: &[u8]) -> Vec<u8> {
        [&[text.len() as u8], text].concat()
    }

    /// `basic.deliver` with this routing key.
    pub(in crate::link::sanitizer) fn deliver(routing_key: &[u8]) -> Vec<u8> {
        [&[0, 60, 0, 60][..], &short(b"tag"), &[0; 9], &short(b"x"), &short(routing_key)].concat()
    }

    #[test]
    fn a_routing_key_that_is_no_text_keeps_its_length() {
        let mut sound = deliver("ключ".as_bytes());
        assert!(mend(&mut sound).is_none());
        let mut bad = deliver(b"k\xe9y");
        let faults = mend(&mut bad).unwrap();
        assert_eq!(faults.to_string(), "routing_key: not UTF-8");
        assert_eq!(bad, deliver(b"k?y"));
        assert_eq!(faults.parts().next(), Some(("routing_key", &b"k\xe9y"[..])));
    }

    #[test]
    fn each_short_string_that_a_broker_sends_is_looked_at() {
        let bad = short(b"\xff");
        let methods: [(&[u8], &[u8]); 7] = [
            (&[0, 10, 0, 60], &[]),
            (&[0, 10, 0, 50], &[1, 64]),
            (&[0, 20, 0, 40], &[1, 148]),
            (&[0, 50, 0, 11], &[]),
            (&[0, 60, 0, 30], &[]),
            (&[0, 60, 0, 50], &[1, 56]),
            (&[0, 60, 0, 71], &[0; 9]),
        ];
        for (ids, before) in methods {
            // Three strings are the most that a method has; bytes behind them do not matter here.
            let mut payload = [ids, before, &bad.repeat(3)].concat();
            assert!(mend(&mut payload).is_some(), "{ids:?}");
            assert_eq!(payload[4 + before.len() + 1], b'?', "{ids:?}");
        }
    }

    #[test]
    fn a_method_that_is_cut_short_is_nobodys_message() {
        let whole = deliver(b"k\xe9y");
        for length in 0..whole.len() {
            assert!(mend(&mut whole[..length].to_vec()).is_none_or(|faults| !faults.is_empty()));
        }
    }
}
