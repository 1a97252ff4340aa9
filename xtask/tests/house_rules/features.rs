//! What a service builds: the dependencies that come with a feature of `fluffle` alone.

use std::{collections::BTreeSet, process::Command};

use crate::sources::root;

/// For each feature of `fluffle`, some dependencies that only a service with this feature builds.
const BY_FEATURE: [(&str, &[&str]); 5] = [
    ("embedded", &["fluffle-broker"]),
    ("json", &["prost-reflect", "prost-types", "inventory"]),
    ("store", &["rusqlite", "libsqlite3-sys", "tempfile", "crc32fast"]),
    ("telemetry", &["fluffle-telemetry", "hyper"]),
    ("traces", &["opentelemetry", "tracing-opentelemetry"]),
];

/// A feature that has another one.
const HAS: (&str, &str) = ("traces", "telemetry");

#[test]
fn a_service_builds_only_what_its_features_need() {
    let mut wrong = Vec::new();
    let mut look = |features: &[&str]| {
        let built = dependencies(features, &[]);
        for (feature, packages) in BY_FEATURE {
            for package in packages {
                if built.contains(*package) != features.contains(&feature) {
                    let is = if built.contains(*package) { "is" } else { "is not" };
                    wrong.push(format!("with the features {features:?}, {package} (of `{feature}`) {is} built"));
                }
            }
        }
    };
    look(&[]);
    for (feature, _) in BY_FEATURE {
        if feature == HAS.0 { look(&[HAS.0, HAS.1]) } else { look(&[feature]) }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn without_the_feature_json_no_crate_of_ours_uses_serde_json() {
    let users = dependencies(&["embedded", "store"], &["--invert", "serde_json", "--depth", "1"]);
    let ours: Vec<_> = users.iter().filter(|name| name.starts_with("fluffle")).collect();
    assert!(ours.is_empty(), "lapin's types need it, these should not: {ours:?}");
    assert!(users.contains("serde_json"), "the rule reads {users:?}");
}

/// The packages that a service on `fluffle` builds with these features and no others.
fn dependencies(features: &[&str], arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "fluffle", "--edges", "normal,build", "--prefix", "none", "--locked", "--offline"])
        .args(["--no-default-features", "--features", &features.join(",")])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}
