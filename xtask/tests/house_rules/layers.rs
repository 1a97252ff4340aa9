//! The layers of fluffle-amqp: a module imports only from what stands below it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    krate::{Krate, Mention, ModuleId, Site},
    sources,
};

/// The layers of one folder of modules, lowest first. A module knows the rows before its own, and itself. Modules of
/// one row do not know one another.
struct Layers {
    /// The module whose children these are; empty for the crate's root.
    of: &'static [&'static str],
    rows: &'static [&'static [&'static str]],
}

const LAYERS: [Layers; 2] = [
    Layers {
        of: &[],
        rows: &[
            &["base"],
            &["flow", "topology", "trace"],
            &["link"],
            &["publish"],
            &["request"],
            &["consume"],
            &["replay"],
            &["service"],
            &["bare"],
        ],
    },
    Layers {
        of: &["consume"],
        rows: &[
            &["message"],
            &["spec"],
            &["attempt"],
            &["events"],
            &["decide"],
            &["intake"],
            &["queue"],
            &["handler"],
            &["settle"],
            &["session"],
        ],
    },
];

#[test]
fn modules_import_only_from_layers_below_their_own() {
    let crates = sources::library_crates();
    let amqp = crates.iter().find(|krate| krate.name == "fluffle-amqp").expect("the crate");
    let wrong: Vec<String> = LAYERS.iter().flat_map(|layers| offences(amqp, layers)).collect();
    assert!(
        wrong.is_empty(),
        "{} imports go upwards. Move what the lower layer needs below it, or hand it in as an argument, a closure or a \
         trait of the lower layer's own. LAYERS in xtask/tests/house_rules/layers.rs has the order.\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn offences(krate: &Krate, layers: &Layers) -> Vec<String> {
    // By the two modules: the first line, and the names.
    let mut upwards: BTreeMap<(ModuleId, ModuleId), (usize, BTreeSet<&str>)> = BTreeMap::new();
    for mention in krate.mentions.iter().filter(|mention| starts_here(mention)) {
        let Some(found) = krate.resolve(mention) else { continue };
        let path = |module: ModuleId| krate.modules[module].path.as_slice();
        let Some(own) = layers.child(path(mention.module)) else { continue };
        // A name that the crate's root passes on is where its definition is. Another module on the way has to be below.
        let is_passed_on_by_the_root = path(found.named).is_empty() && found.home != found.named;
        let named = if is_passed_on_by_the_root { found.home } else { found.named };
        if let Some(above) = [found.home, named].into_iter().find(|target| !layers.may_know(own, path(*target))) {
            let name = mention.path.last().map_or("", String::as_str);
            let (line, names) = upwards.entry((mention.module, above)).or_insert((mention.line, BTreeSet::new()));
            *line = mention.line.min(*line);
            names.insert(name);
        }
    }
    let tell = |((module, above), (line, names)): (&(ModuleId, ModuleId), &(usize, BTreeSet<&str>))| {
        let own = layers.child(&krate.modules[*module].path).unwrap_or_default();
        let names = names.iter().copied().collect::<Vec<&str>>().join("`, `");
        let (place, home) = (krate.place_of_module(*module), krate.place_of_module(*above));
        match layers.child(&krate.modules[*above].path) {
            Some(other) => {
                format!("{place}:{line}: {own} imports `{names}` of {other} ({home}), which does not stand below {own}")
            }
            None => format!(
                "{place}:{line}: {own} imports `{names}` from {home}, which stands above every layer: name the module \
                 that defines it"
            ),
        }
    };
    tables_differ(krate, layers).into_iter().chain(upwards.iter().map(tell)).collect()
}

/// Whether a path is an import of its own. `Breaker::open` in code is none, because the `use` line of `Breaker` is.
fn starts_here(mention: &Mention) -> bool {
    mention.site != Site::Code || ["crate", "super", "self"].contains(&mention.path[0].as_str())
}

/// A module without a row, and a row without a module.
fn tables_differ(krate: &Krate, layers: &Layers) -> Vec<String> {
    let Some(parent) = krate.modules.iter().find(|module| module.path == layers.of) else {
        return vec![format!("LAYERS has rows for {}, and there is no such module", layers.of.join("::"))];
    };
    let rows: Vec<&str> = layers.rows.iter().flat_map(|row| row.iter().copied()).collect();
    let strays = parent.children.iter().filter(|(name, _)| !rows.contains(&name.as_str())).map(|(name, module)| {
        format!("{}: module {name} has no row in LAYERS: say there what it may know", krate.place_of_module(*module))
    });
    let vacant = rows.iter().filter(|row| !parent.children.contains_key(**row));
    strays
        .chain(vacant.map(|row| format!("LAYERS has a row for {row}, and there is no such module: delete it")))
        .collect()
}

impl Layers {
    /// The child of the folder that a module is, or belongs to.
    fn child<'a>(&self, path: &'a [String]) -> Option<&'a str> {
        let is_inside = path.len() > self.of.len() && path.iter().zip(self.of).all(|(name, of)| name == of);
        is_inside.then(|| path[self.of.len()].as_str())
    }

    /// Whether `own` may import from the module at `path`. What lies outside the folder is not this table's business.
    fn may_know(&self, own: &str, path: &[String]) -> bool {
        let Some(other) = self.child(path) else { return path != self.of };
        let row = |name: &str| self.rows.iter().position(|row| row.contains(&name));
        own == other || row(other) < row(own)
    }
}

#[test]
fn the_rules_see_an_import_that_goes_upwards() {
    let layers = Layers { of: &[], rows: &[&["base"], &["flow", "topology"], &["link"]] };
    let krate = Krate::of(&[
        ("lib.rs", "pub mod base; mod flow; mod topology; mod link; pub use link::Link;"),
        ("base.rs", "use crate::Link;\nuse std::fmt;"),
        (
            "flow.rs",
            "use crate::{base, topology::Topology};\nfn f() {\n select!(x = crate::link::up() => {});\n \
             Topology::new();\n}",
        ),
        ("topology.rs", "pub struct Topology; use super::nothing;"),
        ("link.rs", "pub struct Link; use crate::{base::X, flow::Y, topology::Topology};"),
    ]);
    let wrong = offences(&krate, &layers);
    let starts = [
        "base.rs:1: base imports `Link` of link (link.rs),",
        "flow.rs:1: flow imports `Topology` of topology (topology.rs),",
        "flow.rs:3: flow imports `up` of link (link.rs),",
        "topology.rs:1: topology imports `nothing` from lib.rs, which stands above every layer",
    ];
    assert_eq!(wrong.len(), starts.len(), "{wrong:#?}");
    for (wrong, start) in wrong.iter().zip(starts) {
        assert!(wrong.starts_with(start), "{wrong}");
    }
}

#[test]
fn the_rules_see_a_folder_inside_a_layer_and_a_table_that_is_not_true() {
    let layers = Layers { of: &["consume"], rows: &[&["spec"], &["queue"], &["gone"]] };
    let krate = Krate::of(&[
        ("lib.rs", "mod consume; mod base;"),
        ("base.rs", "use crate::consume::queue::Q;"),
        ("consume/mod.rs", "mod spec; mod queue; mod new; pub use queue::Q;"),
        ("consume/spec.rs", "use super::queue::Q;"),
        ("consume/queue.rs", "use super::spec; use crate::base; pub struct Q;"),
        ("consume/new.rs", ""),
    ]);
    let wrong = offences(&krate, &layers);
    let starts = [
        "consume/new.rs: module new has no row in LAYERS",
        "LAYERS has a row for gone,",
        "consume/spec.rs:1: spec imports `Q` of queue (consume/queue.rs),",
    ];
    assert_eq!(wrong.len(), starts.len(), "{wrong:#?}");
    for (wrong, start) in wrong.iter().zip(starts) {
        assert!(wrong.starts_with(start), "{wrong}");
    }
}
