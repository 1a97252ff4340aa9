//! Compiles `.proto` files from a build script, in pure Rust: nobody who builds the application needs `protoc`.
//!
//! ```no_run
//! // build.rs
//! fn main() -> Result<(), fluffle_build::Error> {
//!     fluffle_build::compile(&["usgs/v1/quake.proto"], &["proto"])
//! }
//! ```
//!
//! ```ignore
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
    generate(files, includes, &mut prost_build::Config::new())
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
    let mut config = prost_build::Config::new();
    config.message_attribute(".", "#[derive(::prost_reflect::ReflectMessage)]");
    let descriptors = parse(files, includes)?;
    for message in descriptors.descriptor_pool().all_messages() {
        let name = message.full_name();
        // Well-known types are compiled into `prost_types`, not here, and bring their own descriptors.
        if !name.starts_with("google.protobuf.") {
            config.message_attribute(
                format!(".{name}"),
                format!(
                    r#"#[prost_reflect(message_name = "{name}", file_descriptor_set_bytes = "include_bytes!(concat!(env!(\"OUT_DIR\"), \"/protos.bin\")).as_slice()")]"#
                ),
            );
        }
    }
    let out = std::env::var_os("OUT_DIR").map(PathBuf::from).unwrap_or_default();
    std::fs::write(out.join("protos.bin"), descriptors.encode_file_descriptor_set())?;
    generate(files, includes, &mut config)
}

fn generate(
    files: &[impl AsRef<Path>],
    includes: &[impl AsRef<Path>],
    config: &mut prost_build::Config,
) -> Result<(), Error> {
    let compiled = parse(files, includes)?;
    for path in compiled.files().filter_map(|file| file.path()) {
        println!("cargo::rerun-if-changed={}", path.display());
    }
    config.enable_type_names().include_file(INCLUDE_FILE).compile_fds(compiled.file_descriptor_set())?;
    Ok(())
}

fn parse(files: &[impl AsRef<Path>], includes: &[impl AsRef<Path>]) -> Result<protox::Compiler, Error> {
    let mut compiler = protox::Compiler::new(includes)?;
    compiler.include_imports(true).include_source_info(true).open_files(files)?;
    Ok(compiler)
}
