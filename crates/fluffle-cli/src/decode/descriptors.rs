//! The types of Protobuf messages, from `.proto` files or a descriptor set.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::common::{failure::Failure, output::safe};

/// Where the types of Protobuf messages are described.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Types")]
pub(crate) struct DescriptorArgs {
    /// A .proto file that describes messages; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) proto: Vec<PathBuf>,
    /// A folder in which .proto files and their imports are looked up; may be repeated. Default: the file's own folder
    #[arg(short = 'I', long = "include", value_name = "DIR", requires = "proto")]
    pub(crate) include: Vec<PathBuf>,
    /// A descriptor set that describes messages, as `protoc --include_imports --descriptor_set_out` writes it; may be
    /// repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) descriptors: Vec<PathBuf>,
}

impl DescriptorArgs {
    /// The types that these files describe.
    pub(crate) fn pool(&self) -> Result<DescriptorPool, Failure> {
        let mut pool = DescriptorPool::new();
        for file in &self.descriptors {
            let failed = |why: &dyn std::fmt::Display| {
                Failure::new(format!("--descriptors {}: {}", file.display(), safe(&why.to_string())))
            };
            let bytes = fs::read(file).map_err(|error| failed(&error))?;
            pool.decode_file_descriptor_set(&*bytes).map_err(|error| {
                failed(&format!("{error}; `protoc --include_imports --descriptor_set_out=FILE` writes such a file"))
            })?;
        }
        if !self.proto.is_empty() {
            let set = compile(&self.proto, &self.include)?;
            pool.add_file_descriptor_set(set)
                .map_err(|error| Failure::new(format!("--proto: {}", safe(&error.to_string()))))?;
        }
        Ok(pool)
    }
}

fn compile(files: &[PathBuf], include: &[PathBuf]) -> Result<prost_reflect::prost_types::FileDescriptorSet, Failure> {
    let mut folders = include.to_vec();
    if folders.is_empty() {
        // A file that is named by its path is found in its own folder, and its imports beside it.
        let own = |file: &PathBuf| match file.parent() {
            Some(folder) if folder != Path::new("") => folder.to_path_buf(),
            _ => PathBuf::from("."),
        };
        folders = files.iter().map(own).collect();
        folders.sort();
        folders.dedup();
    }
    // `Debug` shows the line of the file that is wrong.
    let failed = |error: protox::Error| Failure::new(format!("--proto: {error}\n{error:?}"));
    let mut compiler = protox::Compiler::new(folders).map_err(failed)?;
    compiler.include_imports(true);
    compiler.open_files(files).map_err(failed)?;
    Ok(compiler.file_descriptor_set())
}

/// The type of this name.
pub(crate) fn named(pool: &DescriptorPool, name: &str) -> Result<MessageDescriptor, Failure> {
    if let Some(found) = pool.get_message_by_name(name) {
        return Ok(found);
    }
    let names: Vec<_> = pool.all_messages().map(|message| safe(message.full_name())).collect();
    let known = match &names[..] {
        [] => "no types are known: give --proto or --descriptors".to_owned(),
        // A list that a person can look through.
        [..] => format!("known are {}", names.iter().take(20).cloned().collect::<Vec<_>>().join(", ")),
    };
    Err(Failure::new(format!("the type `{}` is unknown; {known}", safe(name))))
}
