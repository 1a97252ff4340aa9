//! Which file of a crate imports from which: the paths of [`Krate::mentions`], followed to the file that defines what
//! they name.
//!
//! A name that a module only passes on (`pub use`) is followed to its definition. A `use` of a module is an import of
//! the file that holds this module. `mod x;` is no import, and a `pub use` is none either, unless the module's own code
//! uses the name: both are a table of contents. If a name cannot be found (a macro made it, or another crate
//! defines it), the module that the path leads to counts as its home.

use std::collections::{BTreeMap, BTreeSet};

use crate::krate::{FileId, Krate, Mention, ModuleId, Site};

/// Longer chains of `pub use` are cut off.
const LONGEST_CHAIN: usize = 16;

/// Where a path leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    /// The module that the path itself names.
    pub(crate) named: ModuleId,
    /// The module that defines what the path names.
    pub(crate) home: ModuleId,
}

impl Krate {
    /// Where a mentioned path leads inside this crate. `None` if it leaves the crate, or is a name that the
    /// module itself knows.
    pub(crate) fn resolve(&self, mention: &Mention) -> Option<Found> {
        if mention.path.len() < 2 && mention.site == Site::Code {
            return None;
        }
        self.follow(mention.module, &mention.path, LONGEST_CHAIN)
    }

    /// The imports between two files, each with the first line that needs it.
    pub(crate) fn imports(&self) -> BTreeMap<(FileId, FileId), usize> {
        let in_code = self.mentions.iter().filter(|mention| mention.site == Site::Code);
        let used: BTreeSet<(ModuleId, &str)> =
            in_code.map(|mention| (mention.module, mention.path[0].as_str())).collect();
        let mut imports = BTreeMap::new();
        for mention in &self.mentions {
            if let Site::PubUse(name) = &mention.site
                && !name.as_ref().is_some_and(|name| used.contains(&(mention.module, name)))
            {
                continue;
            }
            let Some(found) = self.resolve(mention) else { continue };
            let (from, to) = (self.modules[mention.module].file, self.modules[found.home].file);
            if from != to {
                let line = imports.entry((from, to)).or_insert(mention.line);
                *line = mention.line.min(*line);
            }
        }
        imports
    }

    fn is_library(&self) -> bool {
        self.files.first().is_none_or(|root| root.place.ends_with("lib.rs"))
    }

    fn follow(&self, module: ModuleId, path: &[String], chain: usize) -> Option<Found> {
        let chain = chain.checked_sub(1)?;
        let own_name = self.name.replace('-', "_");
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.descend(0, rest, chain),
            "self" => self.descend(module, rest, chain),
            "super" => {
                let mut parent = self.modules[module].parent?;
                let mut rest = rest;
                while let Some((next, after)) = rest.split_first()
                    && next == "super"
                {
                    parent = self.modules[parent].parent?;
                    rest = after;
                }
                self.descend(parent, rest, chain)
            }
            name if self.modules[module].children.contains_key(name) => self.descend(module, path, chain),
            name => match self.modules[module].bindings.get(name) {
                // `use a::b;` then `b::c`. A binding that names itself (`use serde;`) is a crate.
                Some(binding) if binding != &[name.to_owned()] => {
                    self.follow(module, &[binding.as_slice(), rest].concat(), chain)
                }
                // In a library, its own name is its root. In a binary the name is the package's library.
                _ if name == own_name && self.is_library() => self.descend(0, rest, chain),
                _ => None,
            },
        }
    }

    /// Goes down from a module by the names of its children; what is left of the path then is an item.
    fn descend(&self, module: ModuleId, path: &[String], chain: usize) -> Option<Found> {
        let Some((name, rest)) = path.split_first() else { return Some(Found { named: module, home: module }) };
        if let Some(child) = self.modules[module].children.get(name) {
            return self.descend(*child, rest, chain);
        }
        let home = self.definition(module, path, chain).unwrap_or(module);
        Some(Found { named: module, home })
    }

    /// The module that defines the item at the start of `path`, as `module` knows it.
    fn definition(&self, module: ModuleId, path: &[String], chain: usize) -> Option<ModuleId> {
        let chain = chain.checked_sub(1)?;
        let here = &self.modules[module];
        let name = path.first()?;
        if here.items.contains(name) {
            return Some(module);
        }
        if let Some(binding) = here.bindings.get(name) {
            let whole = [binding.as_slice(), &path[1..]].concat();
            return self.follow(module, &whole, chain).map(|found| found.home);
        }
        let from_a_glob = |glob: &Vec<String>| {
            let source = self.follow(module, glob, chain)?.home;
            (source != module).then(|| self.definition(source, path, chain)).flatten()
        };
        here.globs.iter().find_map(from_a_glob)
    }
}

#[test]
fn the_rules_see_where_a_path_leads() {
    let krate = Krate::of(&[
        ("lib.rs", "mod a; mod b; mod tests_only { #[cfg(test)] mod tests { use crate::a::A; } }"),
        (
            "a/mod.rs",
            "mod inner; mod made; pub use inner::Inner; pub use made::*; pub use made::made as make; pub struct A; \
             fn a() { assert!(make()) } pub use serde::Serialize;",
        ),
        ("a/inner.rs", "pub struct Inner;"),
        ("a/made.rs", "pub fn made() {} pub fn only_made() {} macro_rules! shout { () => {} } pub(crate) use shout;"),
        (
            "b.rs",
            "use crate::a::{self, A};\nuse crate::a::Inner;\nfn b() {\n a::only_made();\n \
             matches!(1, crate::a::inner::Inner::X);\n}\n\
             mod deep {\n fn c() { super::super::a::Serialize; }\n #[cfg(test)]\n fn t() { crate::nowhere::x() }\n}\n\
             #[cfg(test)]\nmod tests { use super::*; }",
        ),
    ]);
    let seen: Vec<(usize, &str)> = krate
        .mentions
        .iter()
        .filter(|mention| krate.place_of_module(mention.module) == "b.rs")
        .filter_map(|mention| Some((mention.line, krate.place_of_module(krate.resolve(mention)?.home))))
        .collect();
    let expected =
        [(1, "a/mod.rs"), (1, "a/mod.rs"), (2, "a/inner.rs"), (4, "a/made.rs"), (5, "a/inner.rs"), (8, "a/mod.rs")];
    assert_eq!(seen, expected);
    let imports: Vec<(&str, &str)> =
        krate.imports().keys().map(|(from, to)| (krate.place(*from), krate.place(*to))).collect();
    assert!(
        imports.contains(&("a/mod.rs", "a/made.rs")) && !imports.contains(&("a/mod.rs", "a/inner.rs")),
        "{imports:?}"
    );
    assert!(krate.imports().keys().all(|(_, to)| krate.place(*to) != "lib.rs"), "`mod x;` is no import");
}
