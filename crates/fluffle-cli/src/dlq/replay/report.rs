//! What a replay has done, for people and for programs.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    common::{
        failure::Failure,
        output::{self, Colour, OutputArgs, safe},
    },
    dlq::replay::targets::{Target, Targets},
    units::count,
};

/// Most reasons of refusals that are listed.
const MOST_REASONS: usize = 100;

/// What a replay has done. The keys of `--json`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) source: String,
    pub(crate) dry_run: bool,
    /// The id of the replay; empty in a dry run.
    pub(crate) replay: String,
    /// Whether an earlier run of this replay ended early.
    pub(crate) resumed: bool,
    pub(crate) looked_at: u64,
    /// Letters whose copies were confirmed and routed in this run. In a dry run, letters that would be sent.
    pub(crate) replayed: u64,
    /// The same, over all runs of this replay.
    pub(crate) replayed_in_all: u64,
    /// Letters that were only acked, because an earlier run had their copies confirmed.
    pub(crate) already_there: u64,
    /// Copies that were sent although an earlier run might have sent them, over all runs: so many messages more than
    /// letters may be there, and no more.
    pub(crate) may_be_twice: u64,
    /// The ids of those messages, 10,000 at most.
    pub(crate) may_be_twice_ids: Vec<String>,
    pub(crate) not_wanted: u64,
    pub(crate) without_origin: u64,
    pub(crate) unreadable: u64,
    /// Letters that carry the id of this replay: they died again. They stay.
    pub(crate) came_back: u64,
    pub(crate) refused: u64,
    /// Why, and how many.
    pub(crate) refusals: BTreeMap<String, u64>,
    pub(crate) targets: BTreeMap<String, Target>,
    /// `complete`, `interrupted`, or `stopped`.
    pub(crate) end: &'static str,
    /// Why it stopped.
    pub(crate) stopped_because: Option<String>,
}

impl Report {
    pub(crate) fn refuse(&mut self, why: &str) {
        self.refused += 1;
        if let Some(number) = self.refusals.get_mut(why) {
            *number += 1;
        } else if self.refusals.len() < MOST_REASONS {
            self.refusals.insert(why.to_owned(), 1);
        }
    }

    /// Whether all letters that were wanted are where they belong.
    pub(crate) fn is_whole(&self) -> bool {
        self.end == "complete" && self.refused == 0 && self.came_back == 0
    }

    pub(crate) fn print(mut self, output: &OutputArgs, targets: Targets) -> Result<(), Failure> {
        self.targets = targets.0;
        if output.json {
            return output::json(&self);
        }
        let verb = if self.dry_run { "would be replayed" } else { "replayed" };
        let mut table = output::table(&["to", "letters", "consumers", ""]);
        for (queue, target) in &self.targets {
            table.add_row([
                safe(queue),
                count(target.letters),
                target.consumers.map_or("-".to_owned(), |consumers| consumers.to_string()),
                safe(target.problem.as_deref().unwrap_or_default()),
            ]);
        }
        if !self.targets.is_empty() {
            println!("{table}");
        }
        let line = |number: u64, what: &str| {
            if number > 0 {
                println!("{:>12} {what}", count(number));
            }
        };
        println!("{:>12} looked at in `{}`", count(self.looked_at), safe(&self.source));
        println!("{}", output.paint(Colour::Green, &format!("{:>12} {verb}", count(self.replayed))));
        if self.replayed_in_all != self.replayed {
            line(self.replayed_in_all, "replayed in all runs of this replay");
        }
        line(self.already_there, "only acked, because an earlier run had their copies confirmed");
        line(self.not_wanted, "not wanted; they stay");
        line(self.without_origin, "without an origin; they stay, --to QUEUE replays them");
        line(self.unreadable, "unreadable, so that a copy would be another message; they stay");
        line(self.came_back, "came back: they were replayed and died again; they stay");
        line(self.refused, "refused; they stay");
        for (why, number) in &self.refusals {
            println!("{:>12} {} × {}", "", count(*number), safe(why));
        }
        self.tell_doubles(output);
        if let Some(why) = &self.stopped_because {
            println!("{}", output.paint(Colour::Red, &format!("stopped: {why}")));
        }
        match (self.dry_run, self.end) {
            (true, _) => println!("nothing was done; --go does it, a few letters first"),
            (false, "interrupted") => println!("interrupted in order: the same command goes on"),
            (false, _) => println!("replay {}", self.replay),
        }
        Ok(())
    }

    fn tell_doubles(&self, output: &OutputArgs) {
        if self.may_be_twice == 0 {
            if self.resumed {
                println!("           0 may be there twice");
            }
            return;
        }
        let line = format!(
            "{:>12} may be there twice, at most: an earlier run ended between sending them and hearing of it. \
             Consumers with `effectively_once` handle them once. Their ids:",
            count(self.may_be_twice)
        );
        println!("{}", output.paint(Colour::Yellow, &line));
        for id in self.may_be_twice_ids.iter().take(10) {
            println!("{:>12} {}", "", safe(id));
        }
        if self.may_be_twice_ids.len() > 10 {
            println!("{:>12} … --json has all of them", "");
        }
    }
}
