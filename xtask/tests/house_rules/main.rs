//! The house rules as tests: which crate may depend on which, what library code must not do, and in modules of their
//! own:
//!
//! - [`layers`]: the order of fluffle-amqp's modules
//! - [`circles`]: files that import one another
//! - [`names`]: one name for one thing
//! - [`columns`]: the width of a line
//! - [`architecture`]: what ARCHITECTURE.md names
//! - [`features`]: what a service builds
//! - [`links`]: where links of documents lead
//!
//! Each has its table or its limit at the top. A rule that is in the way is changed there, with its reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod architecture;
mod circles;
mod columns;
mod definitions;
mod features;
mod imports;
mod krate;
mod layers;
mod links;
mod names;
mod paths;
mod sources;

use std::{fs, path::Path};

use serde_json::Value;
use sources::{is_in_crates, library_sources, packages, place, root, rust_files};

/// For each library crate, the workspace crates on which it may depend. Each is in a row above.
const ROOMS: [(&str, &[&str]); 11] = [
    ("fluffle-build", &[]),
    ("fluffle-store", &[]),
    ("fluffle-supervise", &[]),
    ("fluffle-wire", &[]),
    ("fluffle-amqp", &["fluffle-store", "fluffle-supervise", "fluffle-wire"]),
    ("fluffle-broker", &[]),
    ("fluffle-harness", &[]),
    ("fluffle-telemetry", &["fluffle-supervise", "fluffle-wire", "fluffle-amqp"]),
    (
        "fluffle",
        &["fluffle-supervise", "fluffle-wire", "fluffle-store", "fluffle-amqp", "fluffle-broker", "fluffle-telemetry"],
    ),
    ("fluffle-outbox", &["fluffle-supervise", "fluffle-wire", "fluffle-amqp"]),
    ("fluffle-cli", &["fluffle"]),
];

/// Foreign crates that only some workspace crates may use: (crate, the workspace crates).
const FOREIGN: [(&str, &[&str]); 8] = [
    ("lapin", &["fluffle-amqp", "fluffle-cli"]),
    ("amq-protocol", &["fluffle-amqp", "fluffle-broker", "fluffle-cli"]),
    ("flate2", &["fluffle-wire"]),
    ("libdeflater", &["fluffle-wire"]),
    ("rusqlite", &["fluffle-store"]),
    // The command reads the tables of an outbox, and never writes.
    ("sqlx", &["fluffle-outbox", "fluffle-cli"]),
    ("actix", &["fluffle-supervise", "fluffle-amqp", "fluffle", "fluffle-outbox", "fluffle-cli", "fluffle-telemetry"]),
    (
        "tokio",
        &[
            "fluffle-supervise",
            "fluffle-amqp",
            "fluffle-broker",
            "fluffle-store",
            "fluffle",
            "fluffle-outbox",
            "fluffle-cli",
            "fluffle-telemetry",
        ],
    ),
];

/// Calls that library code must not contain, because it returns failures as values, and loses no message.
const NEVER: [&str; 3] = [".unwrap()", ".expect(", "do_send("];

const LONGEST_FILE: usize = 500;

/// A lesson is read from top to bottom.
const LONGEST_LESSON: usize = 100;

/// Lessons that are longer, and their own limits.
const LONG_LESSONS: [(&str, usize); 4] =
    [("02_work_queue", 120), ("07_pipeline", 140), ("09_batches", 150), ("12_settings", 140)];

#[test]
fn crates_depend_only_downwards() {
    let mut wrong = Vec::new();
    for (package, dependencies) in library_dependencies() {
        let Some((_, allowed)) = ROOMS.iter().find(|(room, _)| *room == package) else {
            wrong.push(format!("{package} has no row in ROOMS: say there what it may depend on"));
            continue;
        };
        for dependency in &dependencies {
            if dependency.starts_with("fluffle") && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{package} must not depend on {dependency}"));
            }
            if let Some((_, rooms)) = FOREIGN.iter().find(|(name, _)| name == dependency)
                && !rooms.contains(&package.as_str())
            {
                wrong.push(format!("{package} must not depend on {dependency}: only {rooms:?} may"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn library_code_neither_unwraps_nor_throws_messages_away() {
    let wrong: Vec<String> = library_sources().iter().flat_map(|file| findings(file, &NEVER)).collect();
    assert!(wrong.is_empty(), "return an error instead:\n{}", wrong.join("\n"));
}

#[test]
fn no_lapin_type_reaches_an_application() {
    let facade = root().join("crates/fluffle/src");
    let wrong: Vec<String> = rust_files(&facade).iter().flat_map(|file| findings(file, &["lapin::"])).collect();
    assert!(wrong.is_empty(), "the facade names lapin:\n{}", wrong.join("\n"));
}

#[test]
fn a_file_holds_one_noun() {
    let mut wrong = Vec::new();
    for file in library_sources() {
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{}: {lines} lines", file.display()));
        }
    }
    assert!(wrong.is_empty(), "past {LONGEST_FILE} lines there is a second noun to be found:\n{}", wrong.join("\n"));
}

#[test]
fn a_lesson_is_short() {
    let (mut lessons, mut wrong) = (0, Vec::new());
    for file in rust_files(&root().join("examples/src/bin")) {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        lessons += 1;
        let limit = LONG_LESSONS.iter().find(|(long, _)| *long == name).map_or(LONGEST_LESSON, |(_, limit)| *limit);
        let lines = fs::read_to_string(&file).unwrap().lines().count();
        if lines > limit {
            wrong.push(format!("{name}: {lines} lines, {limit} allowed"));
        }
    }
    assert!(lessons >= 12, "the rule looks at {lessons} lessons only");
    assert!(wrong.is_empty(), "make two lessons of it, or say less:\n{}", wrong.join("\n"));
}

#[test]
fn each_of_the_fields_traps_has_a_test_that_exists() {
    let text = fs::read_to_string(root().join("docs/RELIABILITY.md")).unwrap();
    let section = text.split("\n## ").find(|section| section.starts_with("The field's traps")).expect("the section");
    let rows: Vec<(&str, &str)> = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .filter(|(trap, _)| *trap != "trap" && !trap.starts_with("**"))
        .collect();
    assert!(rows.len() >= 30, "the rule reads {} rows only", rows.len());
    let mut wrong = Vec::new();
    for (trap, tests) in rows {
        let named: Vec<(&str, &str)> = tests.split('`').filter_map(|test| test.split_once(".rs::")).collect();
        if named.is_empty() {
            wrong.push(format!("no test: {trap}"));
        }
        for (file, name) in named {
            let source = fs::read_to_string(root().join(format!("crates/{file}.rs"))).unwrap_or_default();
            if !source.contains(&format!("fn {name}(")) {
                wrong.push(format!("crates/{file}.rs has no test {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/RELIABILITY.md, \"The field's traps\":\n{}", wrong.join("\n"));
}

#[test]
fn the_rules_see_code_but_neither_comments_nor_tests() {
    let text = "let a = b.unwrap();\n/// c.unwrap()\nd(); // e.unwrap()\n\
                #[cfg(test)]\npub(crate) mod tests {\n f.unwrap();\n}\ng.expect(\"h\");\n";
    assert_eq!(offences(text, &NEVER), [(1, ".unwrap()"), (8, ".expect(")]);
    assert!(library_sources().len() > 5, "the rules look at no files");
    assert!(library_dependencies().len() >= ROOMS.len(), "the rules look at no crates");
}

/// Each library crate with its normal and build dependencies. Tests may use any crate.
fn library_dependencies() -> Vec<(String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = packages().into_iter().filter(is_in_crates);
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let ours = dependencies.filter(|dependency| dependency["kind"] != "dev");
            (text(&package["name"]), ours.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}

fn findings(file: &Path, patterns: &[&'static str]) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let place = place(file);
    offences(&text, patterns).into_iter().map(|(line, pattern)| format!("{place}:{line}: {pattern}")).collect()
}

/// Lines of code that contain a pattern, without comments and `#[cfg(test)]` modules.
fn offences(text: &str, patterns: &[&'static str]) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let mut in_tests = false;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let is_module = |line: &str| (line.starts_with("mod ") || line.contains(") mod ")) && line.ends_with('{');
        let next_is_module = lines.peek().is_some_and(|(_, next)| is_module(next));
        if line == "#[cfg(test)]" && next_is_module {
            in_tests = true;
        }
        let code = line.split("//").next().unwrap_or_default();
        if !in_tests {
            found.extend(
                patterns.iter().filter(|pattern| code.contains(**pattern)).map(|pattern| (index + 1, *pattern)),
            );
        }
        // rustfmt puts only the closing brace of a top-level item in the first column.
        if line == "}" {
            in_tests = false;
        }
    }
    found
}
