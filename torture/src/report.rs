//! The report of a run.

use std::{fmt, time::Duration};

use crate::{
    args::Kind,
    damage::Damage,
    model::{Breach, Totals},
};

/// The most breaches that are listed.
const LISTED: usize = 20;

/// The most messages whose history is printed.
const TOLD: usize = 3;

/// The result of one run. Its `Display` is the last line.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed, to repeat the run.
    pub seed: u64,
    /// The kind of broker.
    pub broker: Kind,
    /// The messages by result.
    pub totals: Totals,
    /// The faults that happened.
    pub damage: Damage,
    /// The broken promises.
    pub breaches: Vec<Breach>,
    /// The time from the last healed fault until everything was drained; `None` if that did not happen.
    pub drained: Option<Duration>,
}

impl Report {
    /// Prints the breaches, and the history of the first messages that broke a promise.
    pub fn tell_breaches(&self, history: impl Fn(&crate::id::Id) -> std::io::Result<Vec<String>>) {
        for breach in self.breaches.iter().take(LISTED) {
            println!("breach: {breach}");
        }
        if let Some(more) = self.breaches.len().checked_sub(LISTED + 1) {
            println!("and {} more", more + 1);
        }
        let mut broken: Vec<_> = self.breaches.iter().filter_map(Breach::id).collect();
        broken.dedup();
        for id in broken.into_iter().take(TOLD) {
            println!("history of {id}, with the faults amid it:");
            match history(id) {
                Ok(lines) => lines.iter().for_each(|line| println!("{line}")),
                Err(error) => println!("cannot be read: {error}"),
            }
        }
    }

    fn count(&self, kind: impl Fn(&Breach) -> bool) -> usize {
        self.breaches.iter().filter(|breach| kind(breach)).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { accepted, foreign, undecodable, unwritten, handled, dead, dropped, repeated, stalls } =
            self.totals;
        let Damage { faults, restarts, disk_full } = self.damage;
        write!(f, "torture: seed={} broker={} accepted={accepted} ", self.seed, self.broker.name())?;
        write!(f, "foreign={foreign} handled={handled} dead={dead} undecodable={undecodable} ")?;
        write!(f, "dropped={dropped} repeated={repeated} unwritten={unwritten} ")?;
        write!(f, "faults={faults} restarts={restarts} disk_full={disk_full} stalls={stalls} ")?;
        let lost = self.count(|breach| matches!(breach, Breach::Lost(_)));
        let order = self.count(|breach| matches!(breach, Breach::OrderBroken(..)));
        let effects = self.count(|breach| matches!(breach, Breach::EffectRepeated(..)));
        let others = self.breaches.len() - lost - order - effects;
        write!(f, "lost={lost} order_broken={order} effects_repeated={effects} other_breaches={others} drained_ms=")?;
        match self.drained {
            Some(time) => write!(f, "{}", time.as_millis()),
            None => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_counts_each_breach_once() {
        let id = |text: &str| text.parse().unwrap();
        let report = Report {
            seed: 7,
            broker: Kind::Embedded,
            totals: Totals {
                accepted: 5,
                foreign: 3,
                undecodable: 1,
                unwritten: 4,
                handled: 3,
                dead: 1,
                dropped: 0,
                repeated: 2,
                stalls: 6,
            },
            damage: Damage { faults: 9, restarts: 2, disk_full: 1 },
            breaches: vec![
                Breach::Lost(id("wild.a.1")),
                Breach::OrderBroken(id("order.a.1"), 2),
                Breach::EffectRepeated(id("once.a.1"), 2),
                Breach::Stranger(id("wild.a.2")),
                Breach::Stuck("slow".to_owned()),
            ],
            drained: Some(Duration::from_millis(1_234)),
        };
        assert_eq!(
            report.to_string(),
            "torture: seed=7 broker=embedded accepted=5 foreign=3 handled=3 dead=1 undecodable=1 \
             dropped=0 repeated=2 unwritten=4 faults=9 restarts=2 disk_full=1 stalls=6 lost=1 order_broken=1 \
             effects_repeated=1 other_breaches=2 drained_ms=1234"
        );
        let stuck = Report { drained: None, ..report };
        assert!(stuck.to_string().ends_with("drained_ms=never"));
    }
}
