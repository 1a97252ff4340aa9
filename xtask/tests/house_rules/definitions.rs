//! What the workspace's Rust files define, so that a document's names can be looked up: the functions of each file, and
//! the members of each type (functions, constants and variants, of all its `impl` blocks and traits).
//!
//! Files are parsed, not compiled: what a macro makes is not seen, and types of one name share their members.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    ImplItem, Item, TraitItem, Type,
    visit::{self, Visit},
};

#[derive(Default)]
pub(crate) struct Definitions {
    /// The names that a file defines, by its path relative to the workspace.
    names: BTreeMap<String, BTreeSet<String>>,
    /// The members of each type and trait.
    members: BTreeMap<String, BTreeSet<String>>,
    /// The items of each module, by the module's own name: `verdict::decide`.
    modules: BTreeMap<String, BTreeSet<String>>,
}

impl Definitions {
    pub(crate) fn add(&mut self, place: &str, text: &str) {
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{place}: {error}"));
        let mut names = Names::default();
        names.visit_file(&parsed);
        // `a/mod.rs` is module a, `a/b.rs` module b.
        let parts: Vec<&str> = place.trim_end_matches("/mod.rs").trim_end_matches(".rs").split('/').collect();
        let module = parts.last().copied().unwrap_or_default();
        self.modules.entry(module.to_owned()).or_default().extend(names.items);
        for (name, inside) in names.modules {
            self.modules.entry(name).or_default().extend(inside);
        }
        for (name, members) in names.members {
            self.members.entry(name).or_default().extend(members);
        }
        self.names.insert(place.to_owned(), names.all);
    }

    /// Whether a file, or one file of a folder, defines a name: a function, a type, or `Type::member`.
    pub(crate) fn is_in(&self, places: &[String], name: &str) -> bool {
        let is_below =
            |place: &str| places.iter().any(|file| file == place || file.ends_with('/') && place.starts_with(file));
        self.names.iter().any(|(place, names)| is_below(place) && names.contains(name))
    }

    /// Whether `Type::member` or `module::name` is defined anywhere.
    pub(crate) fn has(&self, owner: &str, name: &str) -> bool {
        [&self.members, &self.modules]
            .into_iter()
            .any(|owners| owners.get(owner).is_some_and(|names| names.contains(name)))
    }
}

#[derive(Default)]
struct Names {
    /// Items and members, the latter also as `Type::member`.
    all: BTreeSet<String>,
    items: BTreeSet<String>,
    members: BTreeMap<String, BTreeSet<String>>,
    modules: BTreeMap<String, BTreeSet<String>>,
}

impl Names {
    fn member(&mut self, owner: &str, name: &syn::Ident) {
        self.all.insert(name.to_string());
        self.all.insert(format!("{owner}::{name}"));
        self.members.entry(owner.to_owned()).or_default().insert(name.to_string());
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        let ident = match item {
            Item::Fn(item) => Some(&item.sig.ident),
            Item::Struct(item) => Some(&item.ident),
            Item::Enum(item) => Some(&item.ident),
            Item::Union(item) => Some(&item.ident),
            Item::Trait(item) => Some(&item.ident),
            Item::Type(item) => Some(&item.ident),
            Item::Const(item) => Some(&item.ident),
            Item::Static(item) => Some(&item.ident),
            _ => None,
        };
        self.items.extend(ident.map(ToString::to_string));
        self.all.extend(ident.map(ToString::to_string));
        if let Item::Mod(module) = item
            && let Some((_, items)) = &module.content
        {
            let mut inside = Names::default();
            items.iter().for_each(|item| inside.visit_item(item));
            self.modules.entry(module.ident.to_string()).or_default().extend(inside.items);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        item.variants.iter().for_each(|variant| self.member(&item.ident.to_string(), &variant.ident));
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        for member in &item.items {
            match member {
                TraitItem::Fn(function) => self.member(&item.ident.to_string(), &function.sig.ident),
                TraitItem::Const(constant) => self.member(&item.ident.to_string(), &constant.ident),
                _ => {}
            }
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let mut self_type = &*item.self_ty;
        while let Type::Reference(reference) = self_type {
            self_type = &reference.elem;
        }
        let Type::Path(path) = self_type else { return };
        let Some(owner) = path.path.segments.last() else { return };
        for member in &item.items {
            match member {
                ImplItem::Fn(function) => self.member(&owner.ident.to_string(), &function.sig.ident),
                ImplItem::Const(constant) => self.member(&owner.ident.to_string(), &constant.ident),
                _ => {}
            }
        }
    }
}
