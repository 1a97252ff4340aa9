//! A message's `expiration`: which texts are valid numbers, the maximum, and the refusals of other texts.

use conformance::{Target, raw::flags};

use crate::foreign::{comes_as_it_was, refused};

/// Ten years, in milliseconds.
const LONGEST: &str = "315360000000";

fn property(text: &[u8]) -> Vec<u8> {
    [&[text.len() as u8], text].concat()
}

/// The broker's refusal of an expiration.
fn said_of(broker: &Target, text: &[u8]) -> String {
    let (connection, code, said) = refused(broker, flags::EXPIRATION, &property(text));
    assert_eq!((connection, code), (false, 406), "{text:?}");
    said
}

/// Checks the broker's refusal of an expiration, without its introductory words.
fn says(broker: &Target, text: &str, problem: &str) {
    let expected = format!("PRECONDITION_FAILED - invalid expiration '{text}': {problem}");
    assert_eq!(said_of(broker, text.as_bytes()), expected);
}

pub(crate) async fn numbers_up_to_ten_years_are_taken_however_they_are_written(broker: &Target) {
    for text in ["60000", "+60000", "00060000", "4294967295", "4294967296", LONGEST, "000315360000000"] {
        comes_as_it_was(broker, flags::EXPIRATION, &property(text.as_bytes()));
    }
}

pub(crate) async fn larger_ones_are_406(broker: &Target) {
    says(broker, "315360000001", "{value_too_large,315360000001}");
    says(broker, "0315360000001", "{value_too_large,315360000001}");
    let widest = "9".repeat(18);
    says(broker, &widest, &format!("{{value_too_large,{widest}}}"));
    // Erlang breaks the line if the number does not fit.
    let wider = "9".repeat(19);
    says(broker, &wider, &format!("{{value_too_large,\n{}{wider}}}", " ".repeat(43)));
    let text = said_of(broker, "9".repeat(200).as_bytes());
    assert!(text.len() == 255 && text.ends_with("99': {value_..."), "{text}");
}

pub(crate) async fn negative_ones_are_406(broker: &Target) {
    says(broker, "-1", "{value_negative,-1}");
    says(broker, "-0003", "{value_negative,-3}");
    let wide = format!("-{}", "9".repeat(19));
    says(broker, &wide, &format!("{{value_negative,\n{}{wide}}}", " ".repeat(44)));
}

pub(crate) async fn what_does_not_begin_with_a_number_is_406(broker: &Target) {
    for text in ["", "x", " 5", "-", "+", "--5", "\u{e9}"] {
        says(broker, text, "no_integer");
    }
    let text = "PRECONDITION_FAILED - invalid expiration '\u{fffd}5': no_integer";
    assert_eq!(said_of(broker, b"\xff5"), text);
}

pub(crate) async fn what_comes_after_a_number_is_406_and_shown_as_erlang_shows_it(broker: &Target) {
    let cases = [
        ("5x", "\"x\""),
        ("5 ", "\" \""),
        ("1.5", "\".5\""),
        ("1e3", "\"e3\""),
        ("5\n", r#""\n""#),
        ("5\"q", r#""\"q""#),
        ("5\\", r#""\\""#),
        ("5\u{1b}", r#""\e""#),
        // Erlang shows printable Latin-1 as characters, and other octets as numbers.
        ("5\u{e9}", "\"\u{e9}\""),
        ("5\u{20ac}", "[226,130,172]"),
        ("5\0", "[0]"),
        ("5\u{7f}", "[127]"),
    ];
    for (text, rest) in cases {
        says(broker, text, &format!("{{leftover_string,{rest}}}"));
    }
}
