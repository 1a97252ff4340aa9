//! What the compiler prints for an actor that lacks the handler of one of several types.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A consumer of texts, numbers and bytes, whose actor has the handlers in place of `HANDLERS`.
const CASE: &str = r#"
    use fluffle::prelude::*;

    struct Clerk;

    impl Actor for Clerk {
        type Context = Context<Self>;
    }

    HANDLERS

    pub fn app(app: App) -> App {
        app.consume_types(Consume::<OneOf<(String, u32, Vec<u8>)>>::queue("q"), || Clerk)
    }
"#;

/// The handlers of these types.
fn case(types: &[&str]) -> String {
    let handler = |name: &&str| {
        format!(
            "impl Handler<Delivery<{name}>> for Clerk {{
                type Result = Result<(), Failure>;
                fn handle(&mut self, _: Delivery<{name}>, _: &mut Self::Context) -> Self::Result {{ Ok(()) }}
            }}"
        )
    };
    CASE.replace("HANDLERS", &types.iter().map(handler).collect::<String>())
}

/// What the compiler says of this source, with this library of ours; `Ok` if it compiles.
fn compile(source: &str, library: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("case.rs");
    fs::write(&file, source).unwrap();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--color=never"]).arg("--out-dir");
    rustc.arg(folder.path()).arg("-L").arg(format!("dependency={}", library.parent().unwrap().display()));
    rustc.arg("--extern").arg(format!("fluffle={}", library.display())).arg(&file);
    let output = rustc.output().expect("rustc runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// The libraries beside this program, the latest first: there is one for each set of features it was built with.
fn libraries() -> Vec<PathBuf> {
    let beside = env::current_exe().unwrap();
    let files = fs::read_dir(beside.parent().unwrap()).unwrap().map(|file| file.unwrap());
    let ours = files.filter(|file| {
        let name = file.file_name().into_string().unwrap_or_default();
        name.starts_with("libfluffle-") && name.ends_with(".rlib")
    });
    let mut ours: Vec<_> = ours.map(|file| (file.metadata().unwrap().modified().unwrap(), file.path())).collect();
    ours.sort();
    ours.into_iter().rev().map(|(_, path)| path).collect()
}

#[test]
fn the_compiler_names_the_type_without_a_handler_and_the_code_to_write() {
    let whole = case(&["String", "u32", "Vec<u8>"]);
    // A library whose own dependencies were built again since compiles nothing.
    let mut said = String::new();
    let usable = |library: &PathBuf| compile(&whole, library).map_err(|error| said = error).is_ok();
    let library = libraries().into_iter().find(usable);
    let library = library.unwrap_or_else(|| panic!("a complete actor should compile: {said}"));

    for (types, missing) in [(["String", "Vec<u8>"], "u32"), (["u32", "Vec<u8>"], "String")] {
        let said = compile(&case(&types), &library).expect_err("a handler is missing");
        for words in [
            &format!("error[E0277]: `Clerk` does not handle deliveries of `{missing}`, which"),
            &format!("needs `impl Handler<Delivery<{missing}>> for Clerk`"),
            &format!("impl Handler<Delivery<{missing}>> for Clerk {{\n"),
            "type Result = Result<(), Failure>;\n",
            &format!("fn handle(&mut self, message: Delivery<{missing}>, _: &mut Self::Context) -> Self::Result {{\n"),
        ] {
            assert!(said.contains(words), "{words:?} is not in:\n{said}");
        }
        assert_eq!(said.matches("error[").count(), 1, "{said}");
    }
}
