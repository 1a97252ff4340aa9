//! Runs many seeds one after the other, each in its own process.

use std::{
    io,
    process::{Command, Stdio},
    time::Instant,
};

use crate::args::{Args, Seeds};

/// Runs all seeds, and returns those that failed.
///
/// # Errors
/// If no process can be started.
pub fn run(args: &Args, Seeds(seeds): &Seeds) -> io::Result<Vec<u64>> {
    let begin = Instant::now();
    let mut failed = Vec::new();
    let mut sums = Sums::default();
    for seed in seeds.clone() {
        let output = one(args, seed)?.stdout(Stdio::piped()).spawn()?.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or("it said nothing");
        if output.status.success() {
            println!("{last}");
        } else {
            print!("{text}");
            println!("seed {seed} failed ({})", output.status);
            failed.push(seed);
        }
        sums.add(last);
    }
    let (runs, time) = (seeds.clone().count(), begin.elapsed().as_secs());
    println!("{sums}");
    println!("{runs} seeds in {time} s, {} failed{}", failed.len(), if failed.is_empty() { "" } else { ":" });
    for seed in &failed {
        println!("  cargo xtask torture --broker {} --seed {seed} --seconds {}", args.broker.name(), args.seconds);
    }
    Ok(failed)
}

fn one(args: &Args, seed: u64) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--broker", args.broker.name()]).args(["--seed", &seed.to_string()]);
    command.args(["--seconds", &args.seconds.to_string()]);
    if let Some(messages) = args.messages {
        command.args(["--messages", &messages.to_string()]);
    }
    if let Some(limit) = args.drain_within {
        command.args(["--drain-within", &limit.to_string()]);
    }
    Ok(command)
}

/// The sums of the numbers in the last lines; for `drained_ms` the largest.
#[derive(Debug, Default)]
struct Sums(Vec<(String, u64)>);

impl Sums {
    fn add(&mut self, line: &str) {
        let words = line.strip_prefix("torture: ").unwrap_or_default().split(' ');
        for (name, number) in words.filter_map(|word| word.split_once('=')) {
            let Ok(number) = number.parse::<u64>() else { continue };
            match self.0.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) if name == "drained_ms" => *sum = (*sum).max(number),
                Some((_, sum)) => *sum += number,
                None if name == "seed" => {}
                None => self.0.push((name.to_owned(), number)),
            }
        }
    }
}

impl std::fmt::Display for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("together:")?;
        self.0.iter().try_for_each(|(name, sum)| {
            let name = if name == "drained_ms" { "longest_drained_ms" } else { name };
            write!(f, " {name}={sum}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added_up_and_of_the_times_the_longest_is_kept() {
        let mut sums = Sums::default();
        sums.add("torture: seed=3 broker=embedded accepted=5 lost=0 drained_ms=70");
        sums.add("torture: seed=4 broker=embedded accepted=6 lost=1 drained_ms=20");
        sums.add("torture: seed=5 broker=embedded accepted=1 lost=0 drained_ms=never");
        assert_eq!(sums.to_string(), "together: accepted=12 lost=1 longest_drained_ms=70");
    }
}
