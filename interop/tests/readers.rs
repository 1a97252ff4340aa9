//! The readers and writers of docs/WIRE.md stay short enough to be copied.

use std::{fs, path::Path};

const MOST: usize = 60;

const READERS: [&str; 14] = [
    "c/reader.c",
    "c/writer.c",
    "go/wire/reader.go",
    "go/wire/writer.go",
    "java/Reader.java",
    "java/Writer.java",
    "node/reader.js",
    "node/writer.js",
    "python/reader.py",
    "python/writer.py",
    "ruby/reader.rb",
    "ruby/writer.rb",
    "rust/src/reader.rs",
    "rust/src/writer.rs",
];

/// How a line begins that is a comment or an import, or that only closes a block.
const LEFT_OUT: [&str; 12] =
    ["#", "//", "/*", "*", "\"", "import ", "from ", "require ", "use ", "package ", "const zlib = require", "module."];

/// Lines with code: without blank lines, comments, imports, and brackets that stand alone.
fn lines_of_code(text: &str) -> usize {
    let is_bracket = |line: &str| line.chars().all(|char| "{}()[];,".contains(char)) || line == "end";
    let is_code = |line: &&str| !is_bracket(line) && !LEFT_OUT.iter().any(|begin| line.starts_with(begin));
    text.lines().map(str::trim).filter(is_code).count()
}

#[test]
fn each_reader_and_writer_has_at_most_60_lines_of_code() {
    for file in READERS {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let lines = lines_of_code(&text);
        assert!((10..=MOST).contains(&lines), "{file} has {lines} lines of code");
        println!("{file}: {lines}");
    }
}

#[test]
fn code_is_counted_and_comments_are_not() {
    assert_eq!(lines_of_code("// a\nuse a;\n\nfn b() {\n    c();\n}\n"), 2);
    assert_eq!(lines_of_code("import a\n# b\ndef c():\n    return 1\n"), 2);
}
