//! What came of the steps with one peer on one broker.

use std::fmt;

/// The steps, in the order of the line.
pub(crate) const STEPS: [&str; 9] =
    ["publish", "consume", "rpc", "gzip", "batch", "headers", "dead", "replay", "vectors"];

/// The outcome of every step with one peer on one broker.
pub(crate) struct Report {
    pub(crate) peer: String,
    pub(crate) broker: &'static str,
    outcomes: Vec<(&'static str, Result<(), String>)>,
}

impl Report {
    pub(crate) fn new(peer: &str, broker: &'static str) -> Self {
        Self { peer: peer.to_owned(), broker, outcomes: Vec::new() }
    }

    /// Adds the outcome of a step. A step with several outcomes is ok if all of them are.
    pub(crate) fn add(&mut self, step: &'static str, outcome: Result<(), String>) {
        self.outcomes.push((step, outcome));
    }

    pub(crate) fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.outcomes.iter().filter_map(|(step, outcome)| Some((*step, outcome.as_ref().err()?.as_str())))
    }

    /// Whether every step has run and is ok.
    pub(crate) fn is_ok(&self) -> bool {
        STEPS.iter().all(|step| self.of(step) == "ok")
    }

    fn of(&self, step: &str) -> &'static str {
        let outcomes: Vec<_> = self.outcomes.iter().filter(|(name, _)| *name == step).collect();
        match outcomes.iter().all(|(_, outcome)| outcome.is_ok()) {
            _ if outcomes.is_empty() => "missing",
            true => "ok",
            false => "failed",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interop: {}", self.peer)?;
        for step in STEPS {
            write!(f, " {step}={}", self.of(step))?;
        }
        write!(f, " broker={}", self.broker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_ok_only_if_every_step_has_run_and_is_ok() {
        let mut report = Report::new("python", "embedded");
        for step in &STEPS[..8] {
            report.add(step, Ok(()));
        }
        assert!(!report.is_ok());
        assert!(report.to_string().ends_with("replay=ok vectors=missing broker=embedded"), "{report}");
        report.add("vectors", Ok(()));
        assert!(report.is_ok());
        report.add("batch", Err("an item is missing".into()));
        assert!(!report.is_ok());
        assert!(report.to_string().contains(" batch=failed "), "{report}");
        assert_eq!(report.failures().collect::<Vec<_>>(), [("batch", "an item is missing")]);
    }
}
