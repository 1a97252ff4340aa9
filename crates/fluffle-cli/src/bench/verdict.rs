//! Decides whether the guarantees were kept, and if not, lists possible causes.

use fluffle::prelude::Confirms;
use serde::Serialize;

use crate::{
    bench::args::{Ack, BenchArgs},
    bench::ledger::Verification,
    units::count,
};

/// Incidents during the run, as far as this process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Incidents {
    /// Reconnects.
    pub(crate) reconnects: u64,
    /// Connections that were down at the end.
    pub(crate) away: u64,
    /// Messages published again after a lost channel.
    pub(crate) republished: u64,
    /// Deliveries that were acked and dropped, because they came again (at most once) or their ids were known
    /// (effectively once).
    pub(crate) dropped: u64,
    /// Messages in the dead-letter queue.
    pub(crate) dead_lettered: u64,
    /// Messages of other runs that arrived from these queues.
    pub(crate) foreign: u64,
}

/// The verdict on the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) ok: bool,
    /// Broken guarantees, one line each.
    pub(crate) problems: Vec<String>,
    /// Possible causes, and other facts worth knowing.
    pub(crate) notes: Vec<String>,
}

/// Makes the verdict. A pure function.
pub(crate) fn judge(args: &BenchArgs, keeps_order: bool, found: &Verification, incidents: &Incidents) -> Verdict {
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    if found.lost > 0 {
        let first = found.first_lost.first();
        let first = first.map(|lost| {
            format!("; the first is number {} from producer {} to queue {}", lost.sequence, lost.producer, lost.queue)
        });
        let what = if args.confirms() == Confirms::Off { "written to the socket" } else { "confirmed by the broker" };
        problems.push(format!(
            "LOST: {} messages were {what} but reached no handler{}",
            count(found.lost),
            first.unwrap_or_default()
        ));
        notes.extend(explanations(args, incidents));
    }
    if found.damaged > 0 {
        problems.push(format!("DAMAGED: {} messages differ from what was sent", count(found.damaged)));
    }
    let disturbed = incidents.reconnects > 0 || incidents.republished > 0;
    match args.ack {
        Ack::AtLeastOnce if found.duplicates > 0 => notes.push(format!(
            "{} messages arrived twice, which at-least-once allows{}",
            count(found.duplicates),
            if disturbed { " after a lost connection" } else { "" }
        )),
        Ack::AtMostOnce | Ack::EffectivelyOnce if found.duplicates > 0 => {
            problems.push(format!(
                "TWICE: {} messages were handled again, which {} forbids",
                count(found.duplicates),
                args.ack.name()
            ));
        }
        Ack::AtLeastOnce | Ack::AtMostOnce | Ack::EffectivelyOnce => {}
    }
    if found.out_of_order > 0 {
        let of = if args.ordered_by.is_some() { "producer, queue and key" } else { "producer and queue" };
        let line = format!("{} messages arrived after a later one of the same {of}", count(found.out_of_order));
        if keeps_order && !disturbed {
            problems.push(format!("ORDER: {line}"));
        } else if keeps_order {
            notes.push(format!("{line}; connections were lost during the run"));
        } else {
            let share = if args.lanes > 1 { "lanes" } else { "handlers" };
            notes.push(format!("{line}; several {share} share a queue, so no order is guaranteed"));
        }
    }
    if found.unconfirmed > 0 {
        notes.push(format!(
            "{} messages were neither confirmed nor handled; their producers got an error",
            count(found.unconfirmed)
        ));
    }
    Verdict { ok: problems.is_empty(), problems, notes }
}

/// Possible causes of lost messages, from the arguments and the incidents.
fn explanations(args: &BenchArgs, incidents: &Incidents) -> Vec<String> {
    let mut causes = Vec::new();
    for argument in &args.queue_arg {
        match argument.name.as_str() {
            "x-max-length" | "x-max-length-bytes" => causes.push(format!(
                "{} is set: past it a queue drops its oldest messages, although the broker had confirmed them; \
                 x-overflow=reject-publish would refuse new ones instead",
                argument.name
            )),
            "x-message-ttl" | "x-expires" => {
                causes.push(format!("{} is set: the broker drops older messages, confirmed or not", argument.name));
            }
            _ => {}
        }
    }
    if args.confirms() == Confirms::Off {
        causes.push("--confirm off: nobody knows whether a message on a lost connection arrived".to_owned());
    }
    if args.ack == Ack::AtMostOnce && incidents.dropped > 0 {
        causes.push(format!("--ack at-most-once: {} deliveries came again and were dropped", count(incidents.dropped)));
    }
    if incidents.away > 0 {
        causes.push("the broker is away: its messages may be there when it is back".to_owned());
    }
    if args.transient && incidents.reconnects > 0 {
        causes.push("--transient: a restart of the broker deletes its messages".to_owned());
    }
    if incidents.dead_lettered > 0 {
        causes.push(format!("{} are in the dead-letter queue", count(incidents.dead_lettered)));
    }
    if causes.is_empty() {
        causes.push(format!(
            "nothing in this process explains it; possible causes are a purge, a policy, another consumer of these \
             queues, or a broker that needs more than {:?} for the next message (a larger --drain waits longer)",
            args.drain
        ));
    }
    causes
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command};

    fn args(arguments: &[&str]) -> BenchArgs {
        let Command::Bench(args) = Cli::parse_from(["fluffle", "bench"].iter().chain(arguments)).command else {
            unreachable!("the subcommand is bench");
        };
        *args
    }

    fn found() -> Verification {
        Verification { sent: 100, received: 100, ..Verification::default() }
    }

    #[test]
    fn nothing_lost_nothing_said() {
        let verdict = judge(&args(&[]), true, &found(), &Incidents::default());
        assert_eq!(verdict, Verdict { ok: true, problems: vec![], notes: vec![] });
    }

    #[test]
    fn a_loss_is_a_problem_with_an_explanation() {
        let lossy = Verification { lost: 3, ..found() };
        for (arguments, words) in [
            (&["--queue-arg", "x-max-length=1"][..], "drops its oldest"),
            (&["--confirm", "off"], "--confirm off"),
            (&[], "a purge, a policy"),
        ] {
            let verdict = judge(&args(arguments), true, &lossy, &Incidents::default());
            assert!(!verdict.ok && verdict.problems[0].starts_with("LOST: 3 "), "{verdict:?}");
            assert!(verdict.notes[0].contains(words), "{verdict:?}");
        }
        let away = Incidents { away: 1, ..Incidents::default() };
        let verdict = judge(&args(&[]), true, &lossy, &away);
        assert!(verdict.notes[0].contains("the broker is away"), "{verdict:?}");
    }

    #[test]
    fn a_duplicate_is_a_problem_only_where_it_is_promised_away() {
        let twice = Verification { duplicates: 1, ..found() };
        for (ack, ok) in [("at-least-once", true), ("at-most-once", false), ("effectively-once", false)] {
            assert_eq!(judge(&args(&["--ack", ack]), true, &twice, &Incidents::default()).ok, ok, "{ack}");
        }
    }

    #[test]
    fn disorder_is_a_problem_only_where_order_is_promised() {
        let late = Verification { out_of_order: 1, ..found() };
        let lost = Incidents { reconnects: 1, ..Incidents::default() };
        for (keeps_order, incidents, ok) in
            [(true, Incidents::default(), false), (false, Incidents::default(), true), (true, lost, true)]
        {
            assert_eq!(judge(&args(&[]), keeps_order, &late, &incidents).ok, ok);
        }
    }

    #[test]
    fn damage_is_a_problem_whatever_was_promised() {
        assert!(!judge(&args(&[]), false, &Verification { damaged: 1, ..found() }, &Incidents::default()).ok);
    }
}
