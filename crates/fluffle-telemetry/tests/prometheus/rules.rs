//! The files in `deploy/` as promtool reads them: no process runs.

use std::{collections::BTreeSet, fs, path::Path};

use fluffle_harness::promtool;
use fluffle_telemetry::names;

use crate::deploy::{path, read, rules};

fn checked(arguments: &[&str]) {
    let output = promtool(arguments, "").unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).join("\n");
    assert!(output.status.success() && !said.to_lowercase().contains("warning"), "promtool {arguments:?}: {said}");
}

#[test]
fn promtool_has_nothing_to_say_of_the_configuration_and_the_rules() {
    checked(&["check", "config", path("prometheus.yml").to_str().unwrap()]);
    checked(&["check", "rules", path("alerts.yml").to_str().unwrap()]);
    checked(&["test", "rules", path("alerts_test.yml").to_str().unwrap()]);
}

/// The tests of one rule: the file without the other groups.
fn tests_of(rule: &str) -> String {
    let text = read("alerts_test.yml");
    let mut groups = text.split("\n  - name: ");
    let head = groups.next().unwrap().to_owned();
    let own = groups.find(|group| group.lines().next() == Some(rule));
    format!("{head}\n  - name: {}", own.unwrap_or_else(|| panic!("no test of {rule}")))
}

/// Whether the tests in the folder pass for these rules.
fn holds(folder: &Path, rules: &str) -> bool {
    fs::write(folder.join("alerts.yml"), rules).unwrap();
    let output = promtool(&["test", "rules", folder.join("alerts_test.yml").to_str().unwrap()], "").unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).join("\n");
    // Not any failure: one of a test, and no invalid expression.
    assert!(output.status.success() || said.contains("got:"), "{said}");
    output.status.success()
}

#[test]
fn the_rules_tests_notice_a_rule_that_never_fires_one_that_always_does_and_one_that_fires_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let text = read("alerts.yml");
    for rule in rules(&text) {
        fs::write(folder.path().join("alerts_test.yml"), tests_of(&rule.name)).unwrap();
        assert!(holds(folder.path(), &text), "{}", rule.name);
        let never = rule.with_expr(&text, &format!("({}) > 1e12", rule.unconditional()));
        assert!(!holds(folder.path(), &never), "no test has a series that fires {}", rule.name);
        let always = rule.with_expr(&text, &format!("({}) > -1e12", rule.unconditional()));
        assert!(!holds(folder.path(), &always), "no test has a series that does not fire {}", rule.name);
        if let Some(at_once) = rule.without_for(&text) {
            assert!(!holds(folder.path(), &at_once), "no test looks before {} is due", rule.name);
        }
    }
}

#[test]
fn each_rule_says_how_severe_it_is_what_it_is_and_what_to_do() {
    let text = read("alerts.yml");
    let (all, names) = (rules(&text), rules(&text).into_iter().map(|rule| rule.name).collect::<BTreeSet<_>>());
    assert_eq!(all.len(), names.len(), "names are distinct");
    assert_eq!(all.len(), text.matches("- alert: ").count());
    let count = |what: &str| text.lines().filter(|line| line.trim_start().starts_with(what)).count();
    assert_eq!(count("summary: "), all.len());
    assert_eq!(count("description: "), all.len());
    let severities = ["critical", "warning", "info"].map(|one| count(&format!("severity: {one}")));
    assert_eq!(severities.iter().sum::<usize>(), all.len(), "{severities:?}");
    let documents = [read("README.md"), read("../docs/OBSERVABILITY.md")];
    assert!(documents[0].contains(&format!("{} alert rules", all.len())));
    let untold: Vec<_> = names.iter().filter(|name| !documents[1].contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "docs/OBSERVABILITY.md does not tell of {untold:?}");
}

#[test]
fn rules_and_panels_use_only_names_that_exist() {
    let known: BTreeSet<&str> = names::ALL.iter().map(|name| name.prometheus).collect();
    for file in ["alerts.yml", "alerts_test.yml", "grafana/fluffle.json"] {
        let text = read(file);
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let mut used = 0;
        for word in words.filter(|word| word.starts_with("fluffle_") || word.starts_with("messaging_")) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
            assert!(known.contains(word) || base.is_some_and(|base| known.contains(base)), "{file}: {word}");
            used += 1;
        }
        assert!(used > 15, "{file} names {used} metrics");
    }
}
