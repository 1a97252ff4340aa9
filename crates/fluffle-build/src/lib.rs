//! Compiles `.proto` files from a build script, in pure Rust: building the application does not need `protoc`.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), fluffle_build::Error> {
//!     fluffle_build::compile(&["usgs/v1/quake.proto"], &["proto"])
//! }
//! ```
//!
//! ```text
//! // src/lib.rs: one Rust module per Protobuf package, here `usgs::v1`
//! include!(concat!(env!("OUT_DIR"), "/protos.rs"));
//! ```
//!
//! The generated code uses `prost` and, for the well-known types, `prost_types`; with [`compile_with_json`] also
//! `prost_reflect` (feature `derive`). The application must list those that it uses among its own dependencies.
//!
//! Two things differ from calling `prost-build` directly: `protox` parses the files, and every message gets its full
//! Protobuf name (`prost::Name`). The `type` property of a message carries this name, so that a consumer knows the
//! type.

use std::path::{Path, PathBuf};

use proc_macro_crate::FoundCrate;

/// The file in `OUT_DIR` that holds a module for each Protobuf package.
pub const INCLUDE_FILE: &str = "protos.rs";

/// Why `.proto` files could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing, does not parse or does not resolve. The text points at the line.
    #[error("cannot compile the .proto files: {0:?}")]
    Proto(#[from] protox::Error),
    /// The Rust code could not be generated or written.
    #[error("cannot write the generated code: {0}; is this called from a build script, with OUT_DIR set?")]
    Write(#[from] std::io::Error),
}

/// Compiles `files` to `$OUT_DIR/protos.rs`. The paths are relative to one of `includes`; imports are resolved there
/// too.
///
/// The messages can be sent as Protobuf. If the crate that is built depends on `fluffle` or `fluffle-wire`, consumers
/// also read them as proto3 JSON: the descriptors of the messages are linked into the program (a few KiB), unless
/// `fluffle` is built without its feature `json`. Cargo runs the build script again when a file compiled here changes.
///
/// # Errors
///
/// [`Error`] if a file does not compile or the result cannot be written.
pub fn compile(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    generate(parse(files, includes)?, &mut prost_build::Config::new())
}

/// Like [`compile`], and the messages can also be published as proto3 JSON.
///
/// The messages implement `prost_reflect::ReflectMessage`, so that `Wire::json` (feature `json` of `fluffle`) can be
/// used for them: a type without it is a compile error. The JSON follows the specification because of them: field
/// names, 64-bit numbers as strings, `NaN`, well-known types.
///
/// # Errors
///
/// [`Error`] if a file does not compile or the result cannot be written.
pub fn compile_with_json(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    let parsed = parse(files, includes)?;
    let mut config = prost_build::Config::new();
    for message in parsed.descriptor_pool().all_messages() {
        let name = message.full_name();
        // Without a leading dot, because `.name` would also match the messages nested in this one.
        config.message_attribute(name, "#[derive(::prost_reflect::ReflectMessage)]");
        config.message_attribute(
            name,
            format!(r#"#[prost_reflect(message_name = "{name}", file_descriptor_set_bytes = {DESCRIPTORS:?})]"#),
        );
    }
    generate(parsed, &mut config)
}

/// The file that holds the descriptors, and the expression by which generated code reads it.
const DESCRIPTOR_FILE: &str = "protos.bin";
const DESCRIPTORS: &str = r#"include_bytes!(concat!(env!("OUT_DIR"), "/protos.bin")).as_slice()"#;

fn parse(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<protox::Compiler, Error> {
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_imports(true).open_files(files)?;
    Ok(compiler)
}

fn generate(mut parsed: protox::Compiler, config: &mut prost_build::Config) -> Result<(), Error> {
    // Well-known types are built into protox and have no path.
    for path in parsed.files().filter_map(|file| file.path()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    std::fs::write(out_dir()?.join(DESCRIPTOR_FILE), parsed.encode_file_descriptor_set())?;
    // Includes the comments, but only for the generated code. The descriptors in the executable do not need them.
    let descriptors = parsed.include_source_info(true).file_descriptor_set();
    config.enable_type_names().include_file(INCLUDE_FILE).compile_fds(descriptors)?;
    link_descriptors()
}

/// Adds to the generated code that the descriptors are linked into the program, if its crate knows `fluffle-wire`.
fn link_descriptors() -> Result<(), Error> {
    let Some(wire) = wire_crate() else { return Ok(()) };
    let path = out_dir()?.join(INCLUDE_FILE);
    let mut code = std::fs::read_to_string(&path)?;
    code.push_str(&format!("{wire}::descriptors!({DESCRIPTORS});\n"));
    Ok(std::fs::write(path, code)?)
}

/// The path of `fluffle-wire` in the crate that is built, by the names under which its `Cargo.toml` lists it or
/// `fluffle`.
fn wire_crate() -> Option<String> {
    let name_of = |package| match proc_macro_crate::crate_name(package).ok()? {
        FoundCrate::Itself => None,
        FoundCrate::Name(name) => Some(name),
    };
    let in_fluffle = || name_of("fluffle").map(|name| format!("::{name}::wire"));
    name_of("fluffle-wire").map(|name| format!("::{name}")).or_else(in_fluffle)
}

fn out_dir() -> Result<PathBuf, Error> {
    let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "OUT_DIR is not set");
    Ok(std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(missing)?)
}
