//! The cost of a message on the client's side, counted in instructions, so that a busy machine does not change it.
//!
//! `cargo run --release -p benches --bin cost`. The program runs itself under callgrind (package `valgrind`) with the
//! embedded broker, whose thread is not counted. Each work is run with fewer and with more messages; the difference is
//! the cost of the messages, without start and end.

mod callgrind;
mod failure;
mod work;

use std::{collections::BTreeMap, env, process::ExitCode};

use callgrind::{Part, Tally};
use comfy_table::{CellAlignment, Table};
use failure::Failure;
use work::Work;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work", name, messages] => Work::named(name)
            .ok_or_else(|| format!("there is no work {name:?}").into())
            .and_then(|work| work.run(messages.parse()?)),
        [] => Work::ALL.iter().try_for_each(report),
        [name] => Work::named(name)
            .ok_or_else(|| format!("there is no work {name:?}: {:?}", Work::ALL.map(|work| work.name)).into())
            .and_then(|work| report(&work)),
        _ => Err("no argument for all there is, or the name of one".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cost: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Counts one work, and prints the cost of one message.
fn report(work: &Work) -> Result<(), Failure> {
    let (few, many) = work.messages;
    eprintln!("{}: {few} and then {many} messages, under callgrind", work.name);
    let (less, more) = (callgrind::count(work.name, few)?, callgrind::count(work.name, many)?);
    let each = |part: &dyn Fn(&Tally) -> u64| (part(&more) as f64 - part(&less) as f64) / (many - few) as f64;

    println!("\n{}: {}", work.name, work.what);
    println!("{:.0} instructions a message, client side\n", each(&Tally::client));
    let mut parts: Vec<(Part, f64)> = Part::ALL.map(|part| (part, each(&|tally| tally.part(part)))).into();
    parts.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let mut table = table(["where", "a message"]);
    for (part, cost) in parts {
        table.add_row([part.name().to_owned(), format!("{cost:.0}")]);
    }
    println!("{table}\n");

    let mut functions: BTreeMap<&str, f64> = BTreeMap::new();
    for (name, cost) in more.functions() {
        *functions.entry(name).or_default() += cost as f64 / (many - few) as f64;
    }
    for (name, cost) in less.functions() {
        *functions.entry(name).or_default() -= cost as f64 / (many - few) as f64;
    }
    let mut functions: Vec<(&str, f64)> = functions.into_iter().collect();
    functions.sort_by(|(_, one), (_, other)| other.total_cmp(one));
    let mut table = self::table(["function, itself", "a message"]);
    for (name, cost) in functions.into_iter().take(25) {
        table.add_row([shortened(name), format!("{cost:.0}")]);
    }
    println!("{table}");
    Ok(())
}

fn table(head: [&str; 2]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(head);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn shortened(name: &str) -> String {
    const MOST: usize = 110;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
