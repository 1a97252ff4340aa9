//! Reads the file that a command is given: the library's TOML, or RabbitMQ's definitions.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;
use fluffle::amqp::Topology;

use crate::{
    common::failure::Failure,
    topology::{definitions, model::Model},
};

/// The largest file of definitions. Those of a broker with 100,000 queues have about 30 MB.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// A file, and which part of it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Source {
    /// The topology: TOML as the library reads it, or definitions of RabbitMQ if the name ends in .json
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Of a file with definitions of several virtual hosts, the one to read
    #[arg(long, value_name = "NAME")]
    pub(crate) vhost: Option<String>,
}

impl Source {
    pub(crate) fn read(&self) -> Result<Model, Failure> {
        if self.file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json")) {
            return read_definitions(&self.file, self.vhost.as_deref());
        }
        if self.vhost.is_some() {
            return Err(Failure::new("--vhost chooses from a .json file with definitions; TOML names no virtual host"));
        }
        Ok(Model::from(&Topology::from_toml_file(&self.file)?))
    }
}

pub(crate) fn read_definitions(file: &Path, vhost: Option<&str>) -> Result<Model, Failure> {
    let failed = |why: String| Failure::new(format!("{}: {why}", file.display()));
    let text = read_text(file).map_err(failed)?;
    definitions::read(&text, vhost).map_err(|error| failed(error.to_string()))
}

fn read_text(file: &Path) -> Result<String, String> {
    let opened = File::open(file).map_err(|error| error.to_string())?;
    let mut text = String::new();
    match opened.take(MAX_BYTES + 1).read_to_string(&mut text) {
        Err(error) => Err(error.to_string()),
        Ok(bytes) if bytes as u64 > MAX_BYTES => {
            Err(format!("it has more than {MAX_BYTES} bytes: is it another file?"))
        }
        Ok(_) => Ok(text),
    }
}
