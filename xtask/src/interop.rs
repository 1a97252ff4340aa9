//! Runs Fluffle against peers in other languages, on the embedded broker and on RabbitMQ. Installs what the peers need.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::{
    broker::{self, Need},
    step::{self, Failure, cargo},
};

/// The limit for installing or building one language, in seconds.
const LIMIT: &str = "600";

/// A language: a folder in `interop/`.
struct Language {
    name: &'static str,
    peers: &'static [&'static str],
    needs: &'static [Need],
    /// Libraries that `fetch.sh` installs under `target/`.
    libraries: &'static [&'static str],
}

const PROTOC: Need = Need::program("protobuf-compiler", "protoc");
/// Has `google/protobuf/timestamp.proto`, which protoc's own package only recommends.
const WELL_KNOWN_TYPES: Need = Need::library("libprotobuf-dev");

const LANGUAGES: [Language; 7] = [
    Language {
        name: "python",
        peers: &["python", "python-aio-pika"],
        needs: &[Need::program("python3", "python3")],
        libraries: &["pika", "aio-pika", "protobuf", "grpcio-tools"],
    },
    Language {
        name: "node",
        peers: &["node"],
        needs: &[Need::program("nodejs", "node"), Need::program("npm", "npm")],
        libraries: &["amqplib", "protobufjs"],
    },
    Language {
        name: "go",
        peers: &["go"],
        needs: &[
            Need::program("golang-go", "go"),
            Need::library("golang-github-rabbitmq-amqp091-go-dev"),
            Need::library("golang-google-protobuf-dev"),
            PROTOC,
            WELL_KNOWN_TYPES,
        ],
        libraries: &[],
    },
    Language {
        name: "c",
        peers: &["c"],
        needs: &[
            Need::program("gcc", "cc"),
            Need::library("libc6-dev"),
            Need::library("librabbitmq-dev"),
            Need::library("libprotobuf-c-dev"),
            Need::library("protobuf-c-compiler"),
            Need::library("libjansson-dev"),
            Need::library("zlib1g-dev"),
            PROTOC,
            WELL_KNOWN_TYPES,
        ],
        libraries: &[],
    },
    Language {
        name: "ruby",
        peers: &["ruby"],
        needs: &[
            Need::program("ruby", "ruby"),
            Need::library("ruby-bunny"),
            Need::library("ruby-google-protobuf"),
            PROTOC,
            WELL_KNOWN_TYPES,
        ],
        libraries: &[],
    },
    Language {
        name: "java",
        peers: &["java"],
        needs: &[
            Need::program("default-jdk-headless", "javac"),
            Need::library("librabbitmq-client-java"),
            Need::library("libprotobuf-java"),
            Need::library("libgoogle-gson-java"),
            Need::library("libguava-java"),
            Need::library("libslf4j-java"),
            PROTOC,
            WELL_KNOWN_TYPES,
        ],
        libraries: &[],
    },
    Language { name: "rust", peers: &["rust-lapin", "rust-amqprs"], needs: &[], libraries: &[] },
];

/// What keeps a language from being run here.
#[derive(Clone, Debug, PartialEq)]
enum Missing {
    /// Programs or Debian packages that are not here and could not be installed.
    NotInstalled(Vec<&'static str>),
    /// Libraries that `fetch.sh` could not fetch.
    NotFetched(Vec<&'static str>),
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled(names) => write!(f, "missing={} why=could-not-be-installed", names.join(",")),
            Self::NotFetched(names) => write!(f, "missing={} why=fetch-failed", names.join(",")),
        }
    }
}

/// What the command line says.
#[derive(Debug, PartialEq)]
struct Arguments<'a> {
    /// Names of languages; none means all.
    names: Vec<&'a str>,
    broker: &'a str,
    /// A language that cannot be run here is named, and is no failure.
    allow_missing: bool,
}

/// Runs the languages that `arguments` name, or all, on the brokers that they name, or both.
pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let Arguments { names, broker, allow_missing } = parse(arguments)?;
    if broker != "embedded" {
        broker::ensure_installed()?;
    }
    let root = root()?;
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let programs = root.join(&target).join("interop");
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "interop", "--package", "interop-peers"]).current_dir(&root);
    step::run("building the Rust side", &mut build)?;
    let chosen = || LANGUAGES.iter().filter(|language| names.is_empty() || names.contains(&language.name));
    let needs: Vec<&Need> = chosen().flat_map(|language| language.needs).filter(|need| !need.is_met()).collect();
    if !needs.is_empty()
        && let Err(failure) = broker::install(&needs)
    {
        eprintln!("    {failure}");
    }
    let mut missing = Vec::new();
    let mut peers: Vec<&str> = Vec::new();
    for language in chosen() {
        match language.prepare(&root, &programs)? {
            Some(what) => missing.push((language.name, what)),
            None => peers.extend(language.peers),
        }
    }
    let mut run = Command::new(root.join(&target).join("debug/interop"));
    run.args(["--broker", broker, "--programs"]).arg(&programs).args(&peers).current_dir(&root);
    let outcome = if peers.is_empty() {
        Err(Failure("no language can be had here".into()))
    } else {
        step::run("talking with each peer", &mut run)
    };
    missing.iter().for_each(|(language, what)| println!("interop: {language} {what}"));
    outcome.and_then(|()| judge(&missing, allow_missing))
}

/// A language that was not run has not passed.
fn judge(missing: &[(&str, Missing)], allow_missing: bool) -> Result<(), Failure> {
    if missing.is_empty() || allow_missing {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(language, _)| *language).collect();
    Err(Failure(format!("not run: {}; with --allow-missing that is no failure", names.join(", "))))
}

fn parse(arguments: &[String]) -> Result<Arguments<'_>, Failure> {
    let (mut names, mut broker, mut allow_missing) = (Vec::new(), "both", false);
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--broker" => broker = words.next().unwrap_or_default(),
            "--allow-missing" => allow_missing = true,
            name if LANGUAGES.iter().any(|language| language.name == name) => names.push(name),
            other => {
                let known = LANGUAGES.map(|language| language.name).join(", ");
                return Err(Failure(format!("there is no language {other:?} in interop/; there are {known}")));
            }
        }
    }
    if ["embedded", "rabbitmq", "both"].contains(&broker) {
        return Ok(Arguments { names, broker, allow_missing });
    }
    Err(Failure(format!("there is no broker {broker:?}: --broker takes embedded, rabbitmq or both")))
}

fn root() -> Result<PathBuf, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().map_err(|error| Failure(format!("cannot find the workspace: {error}")))
}

impl Language {
    /// Makes the peers' programs. Returns what is missing here.
    fn prepare(&self, root: &Path, programs: &Path) -> Result<Option<Missing>, Failure> {
        let missing: Vec<_> = self.needs.iter().filter(|need| !need.is_met()).map(|need| need.package).collect();
        if !missing.is_empty() {
            return Ok(Some(Missing::NotInstalled(missing)));
        }
        let io = |what: &'static str| move |error| Failure(format!("cannot {what}: {error}"));
        let (source, to) = (root.join("interop").join(self.name), programs.join(self.name));
        fs::create_dir_all(&to).map_err(io("make a folder for the peers"))?;
        let fetched = to.join("fetched");
        let lists = ["fetch.sh", "requirements.txt", "package.json"].map(|name| source.join(name));
        if !self.libraries.is_empty() && is_older(&fetched, &lists) {
            if let Err(failure) = self.script(root, "fetch.sh", &to, programs) {
                eprintln!("    {failure}");
                return Ok(Some(Missing::NotFetched(self.libraries.to_vec())));
            }
            fs::write(&fetched, "").map_err(io("note that the libraries are there"))?;
        }
        let built = to.join("built");
        let mut sources = files(&source);
        sources.push(root.join("proto/usgs/v1/quake.proto"));
        sources.push(fetched);
        if is_older(&built, &sources) {
            self.script(root, "build.sh", &to, programs)?;
            fs::write(&built, "").map_err(io("note that the peers are built"))?;
        }
        Ok(None)
    }

    fn script(&self, root: &Path, script: &str, to: &Path, programs: &Path) -> Result<(), Failure> {
        let script = Path::new("interop").join(self.name).join(script);
        let mut command = Command::new("timeout");
        command.args([LIMIT, "sh"]).arg(&script).arg(to).arg(programs.with_file_name("debug")).current_dir(root);
        step::run(&format!("running {}", script.display()), &mut command)
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Whether a file is missing, or older than one of the `sources` that exist.
fn is_older(file: &Path, sources: &[PathBuf]) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    let newest: Option<SystemTime> = sources.iter().filter_map(|path| changed(path)).max();
    changed(file) < newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_language_has_a_folder_and_a_reader_and_a_writer() {
        for Language { name, libraries, .. } in &LANGUAGES {
            let names: Vec<_> = files(&root().unwrap().join("interop").join(name))
                .iter()
                .filter_map(|path| Some(path.file_name()?.to_string_lossy().to_lowercase()))
                .collect();
            for part in ["reader.", "writer.", "vectors.", "build.sh"] {
                let is_there = names.iter().any(|name| name.starts_with(part)) || part == "vectors." && *name == "go";
                assert!(is_there, "{name} has no {part}");
            }
            assert_eq!(names.contains(&"fetch.sh".to_owned()), !libraries.is_empty(), "{name}");
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        let error = parse(&["cobol".into()]).unwrap_err().to_string();
        assert!(error.contains("cobol") && error.contains("python, node, go"), "{error}");
        let error = parse(&["--broker".into(), "qpid".into()]).unwrap_err().to_string();
        assert!(error.contains("qpid") && error.contains("rabbitmq"), "{error}");
        let parsed = Arguments { names: vec!["go"], broker: "embedded", allow_missing: false };
        assert_eq!(parse(&["go", "--broker", "embedded"].map(String::from)).unwrap(), parsed);
        assert!(parse(&["--allow-missing".into()]).unwrap().allow_missing);
    }

    #[test]
    fn a_language_that_was_not_run_has_not_passed_unless_that_is_allowed() {
        let missing =
            [("ruby", Missing::NotInstalled(vec!["ruby-bunny"])), ("node", Missing::NotFetched(vec!["amqplib"]))];
        assert_eq!(missing[0].1.to_string(), "missing=ruby-bunny why=could-not-be-installed");
        assert_eq!(missing[1].1.to_string(), "missing=amqplib why=fetch-failed");
        let error = judge(&missing, false).unwrap_err().to_string();
        assert!(error.contains("ruby, node") && error.contains("--allow-missing"), "{error}");
        assert!(judge(&missing, true).is_ok() && judge(&[], false).is_ok());
    }

    #[test]
    fn a_file_is_older_than_sources_that_changed_after_it() {
        let folder = env::temp_dir().join(format!("fluffle-xtask-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (old, new) = (folder.join("old"), folder.join("new"));
        fs::write(&old, "").unwrap();
        fs::write(&new, "").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        fs::File::options().write(true).open(&new).unwrap().set_modified(later).unwrap();
        assert!(is_older(&old, std::slice::from_ref(&new)));
        assert!(!is_older(&new, std::slice::from_ref(&old)));
        assert!(is_older(&folder.join("missing"), &[old]));
        fs::remove_dir_all(&folder).unwrap();
    }
}
