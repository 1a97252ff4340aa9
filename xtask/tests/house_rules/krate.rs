//! One crate as the rules see it: its files, its modules, what they define, and what they import from one another.
//!
//! The files are found as the compiler finds them, by `mod x;` from the crate's root. Whatever stands under
//! `#[cfg(test)]` is left out, whole files included.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use syn::{Item, UseTree, Visibility, spanned::Spanned, visit::Visit};

use crate::paths::{Paths, is_for_tests};

/// The index of a file in [`Krate::files`].
pub(crate) type FileId = usize;
/// The index of a module in [`Krate::modules`].
pub(crate) type ModuleId = usize;

/// A crate is read once, by [`Krate::read`].
#[derive(Default)]
pub(crate) struct Krate {
    pub(crate) name: String,
    pub(crate) files: Vec<SourceFile>,
    pub(crate) modules: Vec<Module>,
    pub(crate) mentions: Vec<Mention>,
    pub(crate) types: Vec<NamedType>,
}

pub(crate) struct SourceFile {
    /// The path, relative to the workspace.
    pub(crate) place: String,
    pub(crate) text: String,
}

#[derive(Default)]
pub(crate) struct Module {
    /// The names below the crate's root: `["flow", "breaker"]`. Empty for the root.
    pub(crate) path: Vec<String>,
    pub(crate) file: FileId,
    pub(crate) parent: Option<ModuleId>,
    pub(crate) children: BTreeMap<String, ModuleId>,
    /// The items this module defines itself.
    pub(crate) items: BTreeSet<String>,
    /// The names its `use` lines bring in, each with the path behind it.
    pub(crate) bindings: BTreeMap<String, Vec<String>>,
    /// The paths before `::*` in its `use` lines.
    pub(crate) globs: Vec<Vec<String>>,
}

/// A path in a module's code that may lead to another file of the crate.
pub(crate) struct Mention {
    pub(crate) module: ModuleId,
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
    pub(crate) site: Site,
}

/// Where a path stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// In a `use` line.
    Use,
    /// In a `use` line that passes the path on to other modules (`pub use`), by this name or, for `*`, by any.
    PubUse(Option<String>),
    /// In code. A path of one name is a variable there, or an item of the module, or a name from a `use` line.
    Code,
}

/// A public or crate-visible type or trait.
pub(crate) struct NamedType {
    pub(crate) name: String,
    pub(crate) module: ModuleId,
    pub(crate) line: usize,
}

type ReadFile<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Krate {
    /// Reads the crate whose root is the file at `place`; `read` gives the text of a file, or nothing if there is none.
    pub(crate) fn read(name: &str, place: &str, read: ReadFile<'_>) -> Krate {
        let mut krate = Krate { name: name.to_owned(), ..Krate::default() };
        krate.modules.push(Module::default());
        let folder = Path::new(place).parent().unwrap();
        krate.read_file(0, place, folder, read);
        krate
    }

    /// A crate of a few lines, for the tests of the rules.
    pub(crate) fn of(files: &[(&str, &str)]) -> Krate {
        let read = |place: &str| files.iter().find(|(name, _)| *name == place).map(|(_, text)| (*text).to_owned());
        Krate::read("small", files[0].0, &read)
    }

    pub(crate) fn place(&self, file: FileId) -> &str {
        &self.files[file].place
    }

    pub(crate) fn place_of_module(&self, module: ModuleId) -> &str {
        self.place(self.modules[module].file)
    }

    fn read_file(&mut self, module: ModuleId, place: &str, folder: &Path, read: ReadFile<'_>) {
        let text = read(place).unwrap_or_else(|| panic!("no file {place}"));
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{place}: {error}"));
        self.modules[module].file = self.files.len();
        self.files.push(SourceFile { place: place.to_owned(), text });
        self.read_items(module, &parsed.items, folder, read);
    }

    /// `folder` is where the files of the module's children are.
    fn read_items(&mut self, module: ModuleId, items: &[Item], folder: &Path, read: ReadFile<'_>) {
        for item in items.iter().filter(|item| !is_for_tests(item)) {
            match item {
                Item::Mod(child) => self.read_child(module, child, folder, read),
                Item::Use(import) => {
                    let leads_out = import.leading_colon.is_some();
                    if !leads_out {
                        self.read_use(module, import);
                    }
                }
                item => {
                    self.note_definition(module, item);
                    let mut paths = Paths::default();
                    paths.visit_item(item);
                    let seen = paths.found.into_iter();
                    self.mentions.extend(seen.map(|(line, path, site)| Mention { module, line, path, site }));
                }
            }
        }
    }

    fn read_child(&mut self, parent: ModuleId, child: &syn::ItemMod, folder: &Path, read: ReadFile<'_>) {
        let name = child.ident.to_string();
        let module = self.modules.len();
        let mut path = self.modules[parent].path.clone();
        path.push(name.clone());
        let file = self.modules[parent].file;
        self.modules.push(Module { path, file, parent: Some(parent), ..Module::default() });
        self.modules[parent].children.insert(name.clone(), module);
        if let Some((_, items)) = &child.content {
            return self.read_items(module, items, &folder.join(&name), read);
        }
        let beside = folder.join(format!("{name}.rs"));
        let within = folder.join(&name).join("mod.rs");
        let given = given_path(child).map(|given| Path::new(self.place(file)).parent().unwrap().join(given));
        let candidates: Vec<PathBuf> = given.map_or_else(|| vec![beside, within], |given| vec![given]);
        let found = candidates.iter().map(|path| path.to_str().unwrap()).find(|place| read(place).is_some());
        let found = found.unwrap_or_else(|| panic!("no file for module {name} of {}", self.place(file)));
        self.read_file(module, found, &folder.join(&name), read);
    }

    fn read_use(&mut self, module: ModuleId, line: &syn::ItemUse) {
        let is_passed_on = !matches!(line.vis, Visibility::Inherited);
        for import in flatten(&line.tree) {
            let site = if is_passed_on { Site::PubUse(import.name.clone()) } else { Site::Use };
            if import.is_glob {
                self.modules[module].globs.push(import.path.clone());
            } else if let Some(name) = import.name {
                self.modules[module].bindings.insert(name, import.path.clone());
            }
            self.mentions.push(Mention { module, line: import.line, path: import.path, site });
        }
    }

    fn note_definition(&mut self, module: ModuleId, item: &Item) {
        let (ident, visibility, is_type) = match item {
            Item::Struct(item) => (&item.ident, &item.vis, true),
            Item::Enum(item) => (&item.ident, &item.vis, true),
            Item::Union(item) => (&item.ident, &item.vis, true),
            Item::Trait(item) => (&item.ident, &item.vis, true),
            Item::Type(item) => (&item.ident, &item.vis, true),
            Item::Const(item) => (&item.ident, &item.vis, false),
            Item::Static(item) => (&item.ident, &item.vis, false),
            Item::Fn(item) => (&item.sig.ident, &item.vis, false),
            Item::Macro(item) => match &item.ident {
                Some(ident) => (ident, &Visibility::Inherited, false),
                None => return,
            },
            _ => return,
        };
        self.modules[module].items.insert(ident.to_string());
        if is_type && is_visible_in_the_crate(visibility) {
            self.types.push(NamedType { name: ident.to_string(), module, line: ident.span().start().line });
        }
    }
}

/// Whether an item is `pub` or `pub(crate)`.
fn is_visible_in_the_crate(visibility: &Visibility) -> bool {
    match visibility {
        Visibility::Public(_) => true,
        Visibility::Restricted(restricted) => restricted.path.is_ident("crate"),
        Visibility::Inherited => false,
    }
}

/// What `#[path = "…"]` says.
fn given_path(child: &syn::ItemMod) -> Option<String> {
    let attribute = child.attrs.iter().find(|attribute| attribute.path().is_ident("path"))?;
    let syn::Expr::Lit(value) = &attribute.meta.require_name_value().ok()?.value else { return None };
    let syn::Lit::Str(text) = &value.lit else { return None };
    Some(text.value())
}

/// One of the paths of a `use` line.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// The name the path has in the module that imports it; none for `as _`.
    name: Option<String>,
    is_glob: bool,
    pub(crate) line: usize,
}

pub(crate) fn flatten(tree: &UseTree) -> Vec<Import> {
    fn walk(tree: &UseTree, before: &[String], imports: &mut Vec<Import>) {
        let line = tree.span().start().line;
        let with = |ident: &syn::Ident| {
            let is_the_group_itself = ident == "self" && !before.is_empty();
            let own = (!is_the_group_itself).then(|| ident.to_string());
            before.iter().cloned().chain(own).collect::<Vec<String>>()
        };
        match tree {
            UseTree::Path(path) => walk(&path.tree, &with(&path.ident), imports),
            UseTree::Group(group) => group.items.iter().for_each(|tree| walk(tree, before, imports)),
            UseTree::Glob(_) => imports.push(Import { path: before.to_vec(), name: None, is_glob: true, line }),
            UseTree::Name(name) => {
                let path = with(&name.ident);
                imports.push(Import { name: path.last().cloned(), path, is_glob: false, line });
            }
            UseTree::Rename(rename) => {
                let name = (rename.rename != "_").then(|| rename.rename.to_string());
                imports.push(Import { path: with(&rename.ident), name, is_glob: false, line });
            }
        }
    }
    let mut imports = Vec::new();
    walk(tree, &[], &mut imports);
    imports
}
