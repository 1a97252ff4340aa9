//! The objects in the files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// An object of a manifest.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    /// Its file, below `deploy/kubernetes`.
    pub(crate) file: String,
    pub(crate) value: Value,
}

impl Object {
    pub(crate) fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap_or_default()
    }

    /// `file: Kind name`, for messages.
    pub(crate) fn title(&self) -> String {
        format!("{}: {} {}", self.file, self.kind(), self.value["metadata"]["name"].as_str().unwrap_or_default())
    }

    /// The text at a path like `/spec/name`.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{}: no {path}", self.title()))
    }

    /// The number at a path, written as a number or as text.
    pub(crate) fn number(&self, path: &str) -> i64 {
        let value = self.value.pointer(path);
        let number = value.and_then(|value| value.as_i64().or_else(|| value.as_str()?.parse().ok()));
        number.unwrap_or_else(|| panic!("{}: no number {path}", self.title()))
    }
}

/// The path of a file below `deploy/kubernetes`.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kubernetes").join(name)
}

/// The objects of a text.
pub(crate) fn parse(file: &str, text: &str) -> Vec<Object> {
    let values: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    values.into_iter().map(|value| Object { file: file.to_owned(), value }).collect()
}

/// The objects of all files, those of the overlays included.
pub(crate) fn all() -> Vec<Object> {
    let folders = ["base", "overlays/queue-length", "overlays/drain-time"];
    let mut files: Vec<String> = Vec::new();
    for folder in folders {
        let names = fs::read_dir(path(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        files.extend(names.map(|name| format!("{folder}/{}", name.to_str().unwrap())));
    }
    files.sort();
    files.iter().flat_map(|file| parse(file, &fs::read_to_string(path(file)).unwrap())).collect()
}

/// All objects of a kind.
pub(crate) fn of_kind(kind: &str) -> Vec<Object> {
    let mut objects = all();
    objects.retain(|object| object.kind() == kind);
    assert!(!objects.is_empty(), "there is no {kind}");
    objects
}

/// The only object of a kind.
pub(crate) fn only(kind: &str) -> Object {
    let objects = of_kind(kind);
    assert_eq!(objects.len(), 1, "{kind}");
    objects.into_iter().next().unwrap()
}
