//! One name means one thing within a crate.

use std::collections::BTreeMap;

use crate::{
    krate::{Krate, ModuleId},
    sources,
};

#[test]
fn no_two_types_of_a_crate_share_a_name() {
    let wrong: Vec<String> = sources::library_crates().iter().flat_map(offences).collect();
    assert!(wrong.is_empty(), "{} names mean two things:\n{}", wrong.len(), wrong.join("\n"));
}

/// Structs, enums, unions, traits and type aliases that are `pub` or `pub(crate)`. Two in one module are the two
/// sides of a `#[cfg]`, because the compiler takes no others.
fn offences(krate: &Krate) -> Vec<String> {
    let mut homes: BTreeMap<&str, BTreeMap<ModuleId, usize>> = BTreeMap::new();
    for named in &krate.types {
        homes.entry(&named.name).or_default().insert(named.module, named.line);
    }
    let shared = homes.iter().filter(|(_, homes)| homes.len() > 1);
    shared
        .map(|(name, homes)| {
            let places = homes.iter().map(|(module, line)| format!("{}:{line}", krate.place_of_module(*module)));
            let places: Vec<String> = places.collect();
            format!(
                "{}: `{name}` is {}: rename all but one after what each is for, or make it private to its module",
                krate.name,
                places.join(" and ")
            )
        })
        .collect()
}

#[test]
fn the_rules_see_a_name_that_means_two_things() {
    let krate = Krate::of(&[
        ("lib.rs", "mod a; mod b; pub struct Mine<T>(T);"),
        (
            "a.rs",
            "\npub(crate) struct Lane; struct Hidden; pub trait Shape { type Mine; }\n#[cfg(test)] pub struct Shape2;",
        ),
        ("b.rs", "pub enum Lane {} pub struct Hidden; pub(super) struct Shape; mod deep { pub type Shape2 = u8; }"),
    ]);
    let wrong = offences(&krate);
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert!(wrong[0].starts_with("small: `Lane` is a.rs:2 and b.rs:1: rename"), "{}", wrong[0]);
    let sides = Krate::of(&[("lib.rs", "#[cfg(unix)] pub struct A; #[cfg(not(unix))] pub struct A;")]);
    assert!(offences(&sides).is_empty());
}
