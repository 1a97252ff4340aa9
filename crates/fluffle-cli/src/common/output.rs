//! Output for people and for programs.

use std::{
    fmt::Write,
    io::{self, IsTerminal, stdout},
};

use clap::{Args, ColorChoice};
use comfy_table::{ContentArrangement, Table, TableComponent, presets};
use serde::Serialize;

use crate::common::failure::Failure;

/// How a subcommand prints what it found.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print JSON, with stable keys, instead of text for people
    #[arg(long)]
    pub(crate) json: bool,
    /// Colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) color: ColorChoice,
}

impl OutputArgs {
    /// Whether to colour the text: on a terminal, unless `NO_COLOR` is set (<https://no-color.org>) or --color says
    /// otherwise.
    pub(crate) fn has_colour(&self) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
            }
        }
    }

    /// Text in this colour, if there are colours.
    pub(crate) fn paint(&self, colour: Colour, text: &str) -> String {
        if self.has_colour() { format!("\x1b[{}m{text}\x1b[0m", colour as u8) } else { text.to_owned() }
    }
}

/// A colour of text, by its number among the terminal's (ECMA-48, SGR).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    Bold = 1,
    Dim = 2,
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
}

/// Prints one JSON value on a line of its own.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    Ok(json_line(&mut stdout().lock(), value)?)
}

/// Writes one JSON value on a line of its own. What [`safe`] escapes in text is escaped as JSON escapes it, so that
/// JSON on a terminal is as harmless.
pub(crate) fn json_line(out: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    let json = serde_json::to_string(value)?;
    let mut line = String::with_capacity(json.len() + 1);
    for character in json.chars() {
        // Only within JSON's strings: between them, JSON is ASCII without control characters, but for the white space
        // of JSON that is passed on as it came.
        if matches!(character, '\n' | '\r' | '\t') {
            line.push(' ');
        } else if character.is_control() || turns_text(character) {
            // Writing to a string does not fail.
            let _ = write!(line, "\\u{:04x}", u32::from(character));
        } else {
            line.push(character);
        }
    }
    line.push('\n');
    out.write_all(line.as_bytes())
}

/// Whether a character turns the direction of the text behind it.
fn turns_text(character: char) -> bool {
    matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// A table with these heads, as wide as the terminal at most; 80 columns, if the output is none.
pub(crate) fn table(heads: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
    for between_rows in [TableComponent::HorizontalLines, TableComponent::MiddleIntersections] {
        table.remove_style(between_rows);
    }
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if !stdout().is_terminal() {
        table.set_width(80);
    }
    table.set_header(heads.to_vec());
    table
}

/// Text from outside, safe for a terminal: control characters, and characters that turn the direction of text, are
/// written as escapes. Everything that comes from a broker or a message goes through here before it is printed.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            character if turns_text(character) => {
                // Writing to a string does not fail.
                let _ = write!(safe, "{}", character.escape_unicode());
            }
            character if character.is_control() => safe.extend(character.escape_default()),
            character => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_moves_no_cursor_and_turns_no_text() {
        assert_eq!(safe("plain, grün, 兎"), "plain, grün, 兎");
        assert_eq!(safe("\x1b[2J\r\n\x07\u{9b}"), "\\u{1b}[2J\\r\\n\\u{7}\\u{9b}");
        assert_eq!(safe("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn json_on_a_terminal_is_as_harmless_and_says_the_same() {
        let evil = "\x1b[2J\u{9b}\u{7f}\u{202e}\n ü";
        let mut line = Vec::new();
        json_line(&mut line, &evil).unwrap();
        let line = String::from_utf8(line).unwrap();
        let line = line.strip_suffix('\n').unwrap();
        assert!(line.chars().all(|character| !character.is_control() && !turns_text(character)), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(line).unwrap(), evil);
    }
}
