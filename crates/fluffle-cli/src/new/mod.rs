//! `fluffle new`: makes a service of one's own that runs.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use clap::Args;

use crate::common::{exit::Exit, failure::Failure};

/// Makes a folder with a service that runs: messages, a handler, a test, Dockerfile and CI.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  fluffle new shop --in-tree ~/src/fluffle && cd shop && cargo test && cargo run
  fluffle new shop --git https://git.example.com/fluffle.git --rev 48df1fe

Fluffle's crates are not on crates.io yet, so one of --in-tree and --git is needed.

Exit codes: 0 made; 3 nothing is made")]
pub(crate) struct NewArgs {
    /// The name of the service and of its folder, which must not exist
    #[arg(value_name = "NAME")]
    name: String,
    /// A checkout of Fluffle to depend on
    #[arg(long, value_name = "PATH", conflicts_with = "git")]
    in_tree: Option<PathBuf>,
    /// A Git repository of Fluffle to depend on. It is not asked for anything here: Cargo does that at the first build
    #[arg(long, value_name = "URL")]
    git: Option<String>,
    /// The commit of the Git repository; without it, the newest of its default branch, which Cargo.lock then keeps
    #[arg(long, value_name = "COMMIT", requires = "git")]
    rev: Option<String>,
}

/// Where each file goes, and what is in it.
const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/Cargo.toml.in")),
    ("build.rs", include_str!("template/build.rs.in")),
    ("proto/orders.proto", include_str!("template/orders.proto.in")),
    ("src/lib.rs", include_str!("template/lib.rs.in")),
    ("src/main.rs", include_str!("template/main.rs.in")),
    ("tests/orders.rs", include_str!("template/orders.rs.in")),
    ("Dockerfile", include_str!("template/Dockerfile.in")),
    (".dockerignore", include_str!("template/dockerignore.in")),
    (".gitignore", include_str!("template/gitignore.in")),
    (".github/workflows/ci.yml", include_str!("template/ci.yml.in")),
    ("README.md", include_str!("template/README.md.in")),
];

/// Names that Cargo or the compiler refuse: Rust's keywords, crates that are always there or are dependencies, and
/// folders of Cargo's own.
const TAKEN: &[&str] = &[
    "abstract",
    "actix",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "false",
    "final",
    "fluffle",
    "fluffle_build",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "orders",
    "override",
    "priv",
    "proc_macro",
    "prost",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "tracing",
    "tracing_subscriber",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// What the made README says of a dependency by path.
const IN_TREE: &str = " It depends on a checkout of Fluffle by its path:\n\
                       for both, replace it in `Cargo.toml` by a Git repository.";

/// Makes the folder, whole or not at all.
pub(crate) fn make(args: &NewArgs) -> Result<Exit, Failure> {
    check(&args.name)?;
    let folder = Path::new(&args.name);
    if folder.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("{} exists: choose another name, or remove it", args.name)));
    }
    let (fluffle, build, note) = match (&args.in_tree, &args.git) {
        (Some(tree), _) => (path(tree, "crates/fluffle")?, path(tree, "crates/fluffle-build")?, IN_TREE),
        (None, Some(url)) => (git(url, args.rev.as_deref()), git(url, args.rev.as_deref()), ""),
        (None, None) => {
            return Err(Failure::new(
                "Fluffle's crates are not on crates.io yet, so what would be made could not be built: name a checkout \
                 of Fluffle with --in-tree PATH, or a Git repository of it with --git URL. Nothing is made",
            ));
        }
    };
    let failed = |error: std::io::Error| Failure::new(format!("{}: {error}", args.name));
    // Beside its place, so that the last step is one rename.
    let rights = Permissions::from_mode(0o777);
    let new = tempfile::Builder::new().prefix(".fluffle-new-").permissions(rights).tempdir_in(".").map_err(failed)?;
    for (file, template) in FILES {
        let text = template.replace("{{name}}", &args.name).replace("{{crate}}", &args.name.replace('-', "_"));
        let text = text.replace("{{fluffle}}", &fluffle).replace("{{fluffle-build}}", &build).replace("{{note}}", note);
        let file = new.path().join(file);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(file, text).map_err(failed)?;
    }
    fs::rename(new.path(), folder).map_err(failed)?;
    println!("made {0}: cd {0} && cargo test && cargo run", args.name);
    Ok(Exit::Clean)
}

/// The dependency on a crate of the checkout.
fn path(tree: &Path, krate: &str) -> Result<String, Failure> {
    let found = tree.join(krate).canonicalize().ok().filter(|folder| folder.join("Cargo.toml").is_file());
    let folder = found.ok_or_else(|| {
        Failure::new(format!(
            "--in-tree {}: there is no {krate}/Cargo.toml: name a checkout of Fluffle",
            tree.display()
        ))
    })?;
    let text =
        folder.to_str().ok_or_else(|| Failure::new("--in-tree: the path is no UTF-8, and TOML takes no other"))?;
    Ok(format!("path = {}", toml::Value::from(text)))
}

/// The dependency on a crate of the Git repository.
fn git(url: &str, rev: Option<&str>) -> String {
    let rev = rev.map(|rev| format!(", rev = {}", toml::Value::from(rev))).unwrap_or_default();
    format!("git = {}{rev}", toml::Value::from(url))
}

/// Refuses what is no name of a crate.
fn check(name: &str) -> Result<(), Failure> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let problem = if !starts_well || !rest {
        "it must begin with an ASCII letter, and hold ASCII letters, digits, - and _ alone"
    } else if name.len() > 64 {
        "it has more than 64 characters, which crates.io allows"
    } else if TAKEN.contains(&name.replace('-', "_").as_str()) {
        "Rust, Cargo or a dependency has that name"
    } else {
        return Ok(());
    };
    Err(Failure::new(format!("{name:?} is no name for a crate: {problem}; take another, such as my-service")))
}
