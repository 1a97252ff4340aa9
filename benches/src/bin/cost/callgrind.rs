//! Runs a work under callgrind, and reads its counts.

use std::{collections::HashMap, env, fs, process::Command};

use crate::failure::Failure;

/// The owner of some code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Fluffle,
    Lapin,
    Runtime,
    Messages,
    Std,
    Allocator,
    Copying,
    Other,
}

impl Part {
    pub(crate) const ALL: [Self; 8] = [
        Self::Fluffle,
        Self::Lapin,
        Self::Runtime,
        Self::Messages,
        Self::Std,
        Self::Allocator,
        Self::Copying,
        Self::Other,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fluffle => "fluffle",
            Self::Lapin => "lapin and amq-protocol",
            Self::Runtime => "tokio, futures, actix",
            Self::Messages => "prost, bytes, uuid",
            Self::Std => "std, core, alloc",
            Self::Allocator => "malloc, free",
            Self::Copying => "memcpy, memset, memcmp",
            Self::Other => "everything else",
        }
    }

    /// Determined by the first crate in a function's name.
    fn of(function: &str) -> Self {
        let path = function.trim_start_matches(['<', '&', '(', '*', '[', '{']);
        let path = path.trim_start_matches("dyn ").trim_start_matches("impl ").trim_start_matches("mut ");
        let head = path.split([':', '<', ' ', '>']).next().unwrap_or_default();
        match head {
            _ if head.starts_with("fluffle") => Self::Fluffle,
            "lapin" | "pinky_swear" | "async_rs" | "cookie_factory" | "nom" => Self::Lapin,
            _ if head.starts_with("amq_protocol") => Self::Lapin,
            "tokio" | "mio" | "futures_util" | "futures_core" | "futures_channel" | "actix" | "actix_rt" | "flume" => {
                Self::Runtime
            }
            "prost" | "bytes" | "uuid" | "rand" | "rand_core" | "rand_chacha" | "cost" => Self::Messages,
            "std" | "core" | "alloc" | "hashbrown" | "parking_lot" | "__rustc" => Self::Std,
            _ if function.contains("::") => Self::Other,
            _ if ["alloc", "free", "realloc", "malloc", "_int_", "unlink_chunk"]
                .iter()
                .any(|word| head.contains(word)) =>
            {
                Self::Allocator
            }
            _ if ["memcpy", "memmove", "memset", "memcmp", "bcmp"].iter().any(|word| head.contains(word)) => {
                Self::Copying
            }
            _ => Self::Other,
        }
    }
}

/// Instructions by function, without the broker's thread.
#[derive(Debug, Default)]
pub(crate) struct Tally(HashMap<String, u64>);

impl Tally {
    pub(crate) fn client(&self) -> u64 {
        self.0.values().sum()
    }

    pub(crate) fn part(&self, part: Part) -> u64 {
        self.functions().filter(|(name, _)| Part::of(name) == part).map(|(_, cost)| cost).sum()
    }

    pub(crate) fn functions(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, cost)| (name.as_str(), *cost))
    }

    fn add(&mut self, thread: HashMap<String, u64>) {
        let broker: u64 =
            thread.iter().filter(|(name, _)| name.contains("fluffle_broker::")).map(|(_, cost)| cost).sum();
        // The broker's thread spends much of its time in the broker's code; other threads only start it.
        if broker * 10 > thread.values().sum() {
            return;
        }
        for (name, cost) in thread {
            *self.0.entry(name).or_default() += cost;
        }
    }
}

/// Runs this program's `work` under callgrind.
pub(crate) fn count(work: &str, messages: u64) -> Result<Tally, Failure> {
    let folder = tempfile::tempdir()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes", "--compress-strings=no", "--compress-pos=no", "--quiet"])
        .arg(format!("--callgrind-out-file={}", folder.path().join("out").display()))
        .arg(env::current_exe()?)
        .args(["work", work, &messages.to_string()])
        .output()
        .map_err(|error| format!("valgrind cannot be run (package `valgrind`): {error}"))?;
    if !output.status.success() {
        return Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into());
    }
    let mut tally = Tally::default();
    for file in fs::read_dir(folder.path())? {
        tally.add(functions(&fs::read_to_string(file?.path())?));
    }
    Ok(tally)
}

/// The cost of each function itself, in callgrind's format. The line after `calls=` is the cost of the called function.
fn functions(text: &str) -> HashMap<String, u64> {
    let mut costs = HashMap::new();
    let (mut function, mut called) = (String::new(), false);
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            function = unhashed(name);
        } else if line.starts_with("calls=") {
            called = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
            if !called && let Some(cost) = cost {
                *costs.entry(function.clone()).or_default() += cost;
            }
            called = false;
        }
    }
    costs
}

/// The name without the hash of a generic instance, and without callgrind's marks of recursion.
fn unhashed(name: &str) -> String {
    let name = name.split('\'').next().unwrap_or(name);
    match name.rfind("::h") {
        Some(at) if name.len() - at == 19 => name[..at].to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: &str = "\
events: Ir
fn=fluffle_amqp::confirm::Confirms::publish
10 7
cfn=lapin::channel::Channel::basic_publish
calls=1 20
11 500
12 3
fn=lapin::channel::Channel::basic_publish::h0123456789abcdef
20 500
";

    #[test]
    fn what_was_called_is_not_counted_twice() {
        let costs = functions(OUT);
        assert_eq!(costs["fluffle_amqp::confirm::Confirms::publish"], 10);
        assert_eq!(costs["lapin::channel::Channel::basic_publish"], 500);
    }

    #[test]
    fn a_function_belongs_to_the_crate_it_is_named_after() {
        for (name, part) in [
            ("<fluffle_amqp::consume::dispatch::Dispatch<T,R> as actix::ActorFuture<A>>::poll", Part::Fluffle),
            ("<&lapin::Channel as core::fmt::Debug>::fmt", Part::Lapin),
            ("alloc::vec::Vec<T>::push", Part::Std),
            ("_int_malloc", Part::Allocator),
            ("__memmove_avx_unaligned_erms", Part::Copying),
        ] {
            assert_eq!(Part::of(name), part, "{name}");
        }
    }
}
