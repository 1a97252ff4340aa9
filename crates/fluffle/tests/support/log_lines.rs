//! Reads the log of a service that runs in a process of its own.

/// Fluffle's lines among `lines`, without their times. lapin logs each lost socket too, which applications switch off.
pub fn log(lines: &[String]) -> Vec<String> {
    let ours = lines.iter().filter(|line| line.contains(" fluffle_"));
    let level = |line: &str| [" INFO ", " WARN ", "ERROR "].iter().find_map(|level| line.find(level));
    ours.filter_map(|line| level(line).map(|at| line[at..].trim_start().to_owned())).collect()
}

/// What a line says in the field `name`.
pub fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, value) = line.split_once(&format!(" {name}=")).unwrap_or_else(|| panic!("no {name} in {line}"));
    match value.strip_prefix('"') {
        Some(text) => text.split('"').next().unwrap(),
        None => value.split(' ').next().unwrap(),
    }
}

pub fn number(line: &str, name: &str) -> usize {
    field(line, name).parse().unwrap_or_else(|_| panic!("{name} is no number in {line}"))
}

/// The lines that contain these words.
pub fn with<'a>(lines: &'a [String], words: &str) -> Vec<&'a String> {
    lines.iter().filter(|line| line.contains(words)).collect()
}
