//! ARCHITECTURE.md is short, and what it names exists.
//!
//! The rule reads what stands between backticks, outside the blocks of three backticks (these are drawings):
//!
//! - **A file or folder** ends in one of [`ENDINGS`] or in `/`. With a folder in its name it exists relative to the
//!   workspace, to `crates/`, to `crates/fluffle-amqp/src/` or to its `consume/`. A bare name (`acks.rs`, `engine/`)
//!   exists at least once in the workspace. A `*` stands for a part of a file's name.
//! - **`Type::member` and `module::function`** are defined somewhere in the workspace. Members are functions, constants
//!   and variants.
//! - **A name that stands with a file** is defined in this very file, or for a folder in one of its files: "`file`,
//!   `name`, `Type` and `Type::function`" or "`name` (`file`)". Only `,`, `and`, `or`, `:` and `(` may stand between
//!   them. In a chain "`a` → `b` (`file`)" plain functions belong to the file too.
//! - Any other name (a type of another crate, a header, a glossary's noun) is not looked up.

use std::fs;

use crate::{
    definitions::Definitions,
    sources::{files, place, root, workspace_sources},
};

/// The document's longest size in bytes: it is read in one sitting, before the first change.
const LONGEST_MAP: usize = 12 * 1024;

/// A span with such an ending names a file.
const ENDINGS: [&str; 7] = [".rs", ".md", ".toml", ".proto", ".yml", ".lock", ".sh"];

/// What a path in the document may be relative to.
const BASES: [&str; 4] = ["", "crates/", "crates/fluffle-amqp/src/", "crates/fluffle-amqp/src/consume/"];

/// What ARCHITECTURE.md names with `::` and the workspace does not define: the owner, and where it comes from.
const FOREIGN: [(&str, &str); 1] = [("Handler", "actix")];

#[test]
fn the_map_is_short() {
    let bytes = fs::metadata(root().join("ARCHITECTURE.md")).unwrap().len();
    assert!(
        bytes <= LONGEST_MAP as u64,
        "ARCHITECTURE.md has {bytes} bytes, {} more than a map may have: move decisions and their reasons to \
         docs/DECISIONS.md, and details to the module they are about",
        bytes - LONGEST_MAP as u64
    );
}

#[test]
fn the_map_is_true() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut house = House::default();
    for file in files(&root()) {
        house.files.push(place(&file));
    }
    for file in workspace_sources() {
        house.definitions.add(&place(&file), &fs::read_to_string(&file).unwrap());
    }
    let wrong = offences(&text, &house);
    assert!(wrong.is_empty(), "{} names in ARCHITECTURE.md are not true:\n{}", wrong.len(), wrong.join("\n"));
}

/// What a document's names are looked up in.
#[derive(Default)]
struct House {
    files: Vec<String>,
    definitions: Definitions,
}

/// What stands between two backticks.
struct Span<'a> {
    line: usize,
    text: &'a str,
    /// What stands between the span before and this one, in the same paragraph.
    before: &'a str,
}

fn offences(document: &str, house: &House) -> Vec<String> {
    let mut wrong = Vec::new();
    for group in groups(document) {
        let homes = homes(&group);
        for (span, home) in group.iter().zip(homes) {
            let place = format!("ARCHITECTURE.md:{}", span.line);
            if is_file(span.text) {
                if house.places(span.text).is_empty() {
                    wrong.push(format!(
                        "{place}: there is no `{}` in {BASES:?}: name the file as it is called now, or take the \
                         sentence out",
                        span.text
                    ));
                }
                continue;
            }
            let name = span.text.trim_end_matches("()");
            let owner = owner_and_name(name);
            if owner.is_some_and(|(owner, _)| FOREIGN.iter().any(|(foreign, _)| *foreign == owner)) {
                continue;
            }
            let is_elsewhere = || owner.is_some_and(|(owner, name)| house.definitions.has(owner, name));
            if let Some(home) = home {
                let places = house.places(home);
                let (short, is_here) = match owner {
                    // `verdict::decide` with `verdict.rs`: the file holds `decide`.
                    Some((owner, short)) if is_function(owner) => (short, house.definitions.is_in(&places, short)),
                    _ => (name, house.definitions.is_in(&places, name)),
                };
                if !is_here && !places.is_empty() {
                    let advice =
                        if is_elsewhere() { "it is in another file; name that" } else { "it has another name now" };
                    wrong.push(format!("{place}: `{home}` does not define `{short}`: {advice}"));
                }
            } else if owner.is_some() && !is_elsewhere() {
                wrong.push(format!(
                    "{place}: nothing in the workspace defines `{name}`: name it as it is called now; if another crate \
                     does, give it a row in FOREIGN of xtask/tests/house_rules/architecture.rs"
                ));
            }
        }
    }
    wrong
}

impl House {
    /// The files, and folders with a `/` at their end, that a span may mean.
    fn places(&self, span: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for file in &self.files {
            // A folder exists when a file is in it.
            let ends = file.match_indices('/').map(|(at, _)| at + 1);
            let ends = if span.ends_with('/') { ends.collect() } else { vec![file.len()] };
            for candidate in ends.into_iter().map(|end| &file[..end]) {
                let in_a_base =
                    || BASES.iter().any(|base| candidate.strip_prefix(base).is_some_and(|rest| matches(span, rest)));
                let as_a_bare_name = || {
                    let name = candidate.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
                    matches(span.trim_end_matches('/'), name)
                };
                if (in_a_base() || as_a_bare_name()) && !found.iter().any(|known| known == candidate) {
                    found.push(candidate.to_owned());
                }
            }
        }
        found
    }
}

/// Whether a name is what a pattern with at most one `*` says.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => {
            name.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).is_some_and(|middle| !middle.contains('/'))
        }
    }
}

/// The spans of a document in groups: only separators stand between the spans of one group.
fn groups(document: &str) -> Vec<Vec<Span<'_>>> {
    let mut groups: Vec<Vec<Span<'_>>> = Vec::new();
    for span in spans(document) {
        match groups.last_mut() {
            Some(group) if is_separator(span.before) => group.push(span),
            _ => groups.push(vec![span]),
        }
    }
    groups
}

fn spans(document: &str) -> Vec<Span<'_>> {
    let mut spans = Vec::new();
    let mut in_a_drawing = false;
    let mut start = 0;
    // Where the paragraph's last span ended; a span may not reach across paragraphs.
    let mut last_end = 0;
    let mut opened = None;
    for (line, text) in (1..).zip(document.split_inclusive('\n')) {
        let is_fence = text.trim_start().starts_with("```");
        let is_break = text.trim().is_empty() || text.starts_with(['|', '#']) || is_fence;
        if is_break {
            opened = None;
            last_end = start;
        }
        in_a_drawing ^= is_fence;
        if !in_a_drawing && !is_fence {
            for (at, _) in text.match_indices('`') {
                let at = start + at;
                match opened.take() {
                    None => opened = Some(at),
                    Some(open) => {
                        spans.push(Span { line, text: &document[open + 1..at], before: &document[last_end..open] });
                        last_end = at + 1;
                    }
                }
            }
        }
        start += text.len();
    }
    spans
}

/// Whether nothing but `,`, `and`, `or`, `:`, `;`, `(`, `)` and arrows stands between two spans. The start of a
/// paragraph is no separator.
fn is_separator(between: &str) -> bool {
    let words = between.replace([',', ':', ';', '(', ')', '→'], " ");
    !between.is_empty() && words.split_whitespace().all(|word| ["and", "or"].contains(&word))
}

/// For each span of a group the file it stands with.
fn homes<'a>(group: &[Span<'a>]) -> Vec<Option<&'a str>> {
    let mut homes: Vec<Option<&str>> = vec![None; group.len()];
    // The file before: "`file`, `name` and `name`".
    let mut file = None;
    for (at, span) in group.iter().enumerate() {
        if is_file(span.text) {
            file = Some(span.text);
        } else if span.before.contains([';', '(', ')', '→']) {
            file = None;
        }
        homes[at] = if is_file(span.text) { None } else { file };
    }
    // The file after, in brackets: "`name` → `name` (`file`)".
    for (at, span) in group.iter().enumerate().filter(|(_, span)| is_file(span.text) && span.before.trim() == "(") {
        for before in (0..at).rev() {
            let is_next_to_it = before + 1 == at;
            let is_named = is_name(group[before].text);
            if !is_named || homes[before].is_some() || !(is_next_to_it || is_function(group[before].text)) {
                break;
            }
            homes[before] = Some(span.text);
            if group[before].before.contains([';', ')']) {
                break;
            }
        }
    }
    let is_named = |(home, span): (Option<&'a str>, &Span<'_>)| home.filter(|_| is_name(span.text));
    homes.into_iter().zip(group).map(is_named).collect()
}

fn is_file(span: &str) -> bool {
    let is_path = span.chars().all(|letter| letter.is_ascii_alphanumeric() || "_./*-".contains(letter));
    let is_an_ending = ENDINGS.contains(&span) || span == "/";
    is_path && !is_an_ending && (span.ends_with('/') || ENDINGS.iter().any(|ending| span.ends_with(ending)))
}

/// Whether a span is a name of Rust's: `decide`, `Judge`, `Judge::decide`, `Judge::decide()`.
fn is_name(span: &str) -> bool {
    span.trim_end_matches("()").split("::").all(|part| syn::parse_str::<syn::Ident>(part).is_ok())
}

fn is_function(span: &str) -> bool {
    is_name(span) && !span.contains("::") && span.starts_with(|first: char| first.is_lowercase() || first == '_')
}

/// `Judge::decide` as `Judge` and `decide`; of a longer path the last two names.
fn owner_and_name(name: &str) -> Option<(&str, &str)> {
    let (path, last) = name.rsplit_once("::")?;
    let owner = path.rsplit("::").next()?;
    is_name(name).then_some((owner, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house() -> House {
        let sources = [
            (
                "crates/fluffle-amqp/src/consume/acks.rs",
                "pub struct Acks; impl<T> Acks { fn next(&self) {} } fn due() {}",
            ),
            ("crates/fluffle-amqp/src/flow/mod.rs", "pub enum State { Open } pub mod inner { fn deep() {} }"),
            ("crates/fluffle-wire/src/wire.rs", "pub trait Wire { fn decode(); } impl Wire for u8 { fn decode() {} }"),
        ];
        let mut house = House::default();
        for (place, text) in sources {
            house.files.push(place.to_owned());
            house.definitions.add(place, text);
        }
        house.files.extend(["README.md", "proto/a.proto"].map(str::to_owned));
        house
    }

    #[test]
    fn the_rules_take_what_exists() {
        let document = "# The `README.md`\n\nSee `fluffle-wire/src/wire.rs`, `Wire` and `Wire::decode`, or \
                        `consume/acks.rs`: `Acks::next`; and\n`due` (`acks.rs`). `proto/` has `*.proto`, `flow/` has \
                        `State::Open`,\n`inner::deep` and `flow::inner::deep()`; `multiple` is a flag, `.proto` an \
                        ending.\n```text\n`drawn.rs` ``\n```\n`Handler::handle`\n\n\
                        | `crates/fluffle-amqp/src/flow/` | `State` |\n";
        assert_eq!(offences(document, &house()), Vec::<String>::new());
        assert_eq!(spans(document).len(), 19, "the rule reads every span");
    }

    #[test]
    fn the_rules_see_a_file_that_is_not_there() {
        let wrong = offences("One.\n\nSee `consume/acker.rs`, or `gone/`; `wire.rs` is there.", &house());
        assert_eq!(wrong.len(), 2, "{wrong:#?}");
        assert!(wrong[0].starts_with("ARCHITECTURE.md:3: there is no `consume/acker.rs`"), "{}", wrong[0]);
        assert!(wrong[1].starts_with("ARCHITECTURE.md:3: there is no `gone/`"), "{}", wrong[1]);
        // A file with a folder in its name is looked for in the known folders alone.
        assert_eq!(offences("`src/wire.rs`", &house()).len(), 1);
    }

    #[test]
    fn the_rules_see_a_function_that_is_not_there() {
        let wrong = |document: &str| offences(document, &house());
        for document in [
            "`Acks::gone`",
            "`Gone::next`",
            "`acks::gone`",
            "`acks::next`",
            "`consume/acks.rs`, `due` and `gone`",
            "`gone` (`consume/acks.rs`)",
            "`Acks::next` → `gone` → `due` (`consume/acks.rs`)",
            "| `consume/acks.rs` | x |\n| y | `consume/acks.rs`, `Gone` |",
        ] {
            assert_eq!(wrong(document).len(), 1, "{document}: {:?}", wrong(document));
        }
        let moved = wrong("`Acks::next` (`fluffle-wire/src/wire.rs`)");
        assert!(moved[0].ends_with("does not define `Acks::next`: it is in another file; name that"), "{}", moved[0]);
        // A stray backtick ends with its row, or before a drawing.
        assert_eq!(wrong("| a ` | b |\n| `Acks::gone` | c |").len(), 1);
        assert_eq!(wrong("a `\n```text\nb\n```\n`Acks::gone`").len(), 1);
        assert_eq!(wrong("`due` alone is a word, `acks.rs` is far from it."), Vec::<String>::new());
    }
}
