//! docs/OBSERVABILITY.md says of each metric what it means.

use fluffle_telemetry::names;

#[test]
fn each_metric_is_in_the_document_for_those_who_run_a_service() {
    let document = include_str!("../../../docs/OBSERVABILITY.md");
    let is_missing = |name: &&str| !document.lines().any(|line| line.starts_with(&format!("| `{name}`")));
    let missing: Vec<_> = names::ALL.iter().map(|name| name.prometheus).filter(is_missing).collect();
    assert!(missing.is_empty(), "docs/OBSERVABILITY.md does not explain {missing:?}");
    for line in document.lines().filter(|line| line.starts_with("| `fluffle_") || line.starts_with("| `messaging_")) {
        let name = line.trim_start_matches("| `").split('`').next().unwrap_or_default();
        assert!(names::ALL.iter().any(|known| known.prometheus == name), "there is no metric {name}");
    }
}
