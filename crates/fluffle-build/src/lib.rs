//! Compiles `.proto` files from a build script, in pure Rust: nobody who builds the application needs `protoc`.
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
//! The generated code names `prost` and, for the well-known types, `prost_types`; with [`compile_with_json`] also
//! `prost_reflect` (feature `derive`). The application lists those it uses among its own dependencies.
//!
//! Two things set this apart from calling `prost-build` directly: `protox` parses the files, and every message gets
//! its full Protobuf name (`prost::Name`), which is what travels in the `type` property and tells a consumer what it
//! holds.

use std::path::{Path, PathBuf};

/// The file in `OUT_DIR` that holds a module for each Protobuf package.
pub const INCLUDE_FILE: &str = "protos.rs";

/// Why `.proto` files could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing, does not parse or does not resolve; the text points at the line.
    #[error("cannot compile the .proto files: {0:?}")]
    Proto(#[from] protox::Error),
    /// The Rust code could not be generated or written.
    #[error("cannot write the generated code: {0}; is this called from a build script, with OUT_DIR set?")]
    Write(#[from] std::io::Error),
}

/// Compiles `files` (paths below one of `includes`, imports resolved there too) to `$OUT_DIR/protos.rs`.
///
/// The messages can be sent as Protobuf. Cargo runs the build script again when a file compiled here changes.
///
/// # Errors
///
/// [`Error`] if a file does not compile or the result cannot be written.
pub fn compile(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    generate(parse(files, includes)?, &mut prost_build::Config::new())
}

/// As [`compile`], and the messages can also be sent as proto3 JSON.
///
/// They carry their descriptors (a few KiB in the executable), which is what makes the JSON faithful to the
/// specification: field names, 64-bit numbers as strings, `NaN`, well-known types.
///
/// # Errors
///
/// [`Error`] if a file does not compile or the result cannot be written.
pub fn compile_with_json(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<(), Error> {
    let parsed = parse(files, includes)?;
    let mut config = prost_build::Config::new();
    for message in parsed.descriptor_pool().all_messages() {
        let name = message.full_name();
        // Not `.name`: with the dot it would stand for the messages nested in this one too.
        config.message_attribute(name, "#[derive(::prost_reflect::ReflectMessage)]");
        config.message_attribute(
            name,
            format!(r#"#[prost_reflect(message_name = "{name}", file_descriptor_set_bytes = {DESCRIPTORS:?})]"#),
        );
    }
    std::fs::write(out_dir()?.join(DESCRIPTOR_FILE), parsed.encode_file_descriptor_set())?;
    generate(parsed, &mut config)
}

/// Where the descriptors lie, and the expression by which generated code finds them.
const DESCRIPTOR_FILE: &str = "protos.bin";
const DESCRIPTORS: &str = r#"include_bytes!(concat!(env!("OUT_DIR"), "/protos.bin")).as_slice()"#;

fn parse(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<protox::Compiler, Error> {
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_imports(true).open_files(files)?;
    Ok(compiler)
}

fn generate(mut parsed: protox::Compiler, config: &mut prost_build::Config) -> Result<(), Error> {
    // Well-known types come from within protox and have no path.
    for path in parsed.files().filter_map(|file| file.path()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    // The comments, for the generated code only: the descriptors in the executable do without.
    let descriptors = parsed.include_source_info(true).file_descriptor_set();
    config.enable_type_names().include_file(INCLUDE_FILE).compile_fds(descriptors)?;
    Ok(())
}

fn out_dir() -> Result<PathBuf, Error> {
    let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "OUT_DIR is not set");
    Ok(std::env::var_os("OUT_DIR").map(PathBuf::from).ok_or_else(missing)?)
}
