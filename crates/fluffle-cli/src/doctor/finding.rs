//! What doctor finds: findings, facts, and what it cannot know.

use serde::Serialize;

use crate::common::exit::Exit;

/// How bad a finding is. The order is that of the report: worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// Messages are lost or stand still, or will when something that is expected happens.
    Error,
    /// A risk, or a cause of slowness.
    Warning,
    /// A setting that RabbitMQ recommends differently. Does not change the exit code.
    Advice,
}

/// How a finding is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Evidence {
    ProvedOverAmqp,
    ToldByTheManagementApi,
    /// Read from the file of `--conf`.
    ReadFromTheConfiguration,
}

impl Evidence {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::ProvedOverAmqp => "proved over AMQP",
            Self::ToldByTheManagementApi => "told by the management API",
            Self::ReadFromTheConfiguration => "read from the file of --conf",
        }
    }
}

/// A kind of mistake: everything that does not depend on the entity that has it.
#[derive(Debug)]
pub(crate) struct Kind {
    /// A stable name, for scripts: `queue.dead_letters.no_exchange`.
    pub(crate) id: &'static str,
    pub(crate) level: Level,
    /// Why it matters.
    pub(crate) why: &'static str,
    /// The page of RabbitMQ's documentation.
    pub(crate) page: &'static str,
}

/// One mistake of one entity.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) id: &'static str,
    pub(crate) level: Level,
    /// The entity: `queue orders`, `node rabbit@one`, `broker`.
    pub(crate) entity: String,
    /// What is wrong with the entity.
    pub(crate) what: String,
    pub(crate) why: &'static str,
    /// A command or a change that mends it.
    pub(crate) mend: String,
    /// The line of `rabbitmq.conf` that mends it for good, where there is one.
    pub(crate) conf: Option<String>,
    pub(crate) page: &'static str,
    pub(crate) evidence: Evidence,
}

/// A value that is worth knowing and is no mistake.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) value: String,
    pub(crate) evidence: Evidence,
}

/// What could not be looked at, and what it takes to know it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Unknown {
    pub(crate) what: String,
    pub(crate) needs: String,
}

/// Everything that one examination gives.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) facts: Vec<Fact>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) unknown: Vec<Unknown>,
    /// Whether the examination itself failed: no connection, so nothing is proved over AMQP.
    pub(crate) incomplete: bool,
}

impl Report {
    pub(crate) fn fact(&mut self, name: &'static str, value: impl Into<String>, evidence: Evidence) {
        self.facts.push(Fact { name, value: value.into(), evidence });
    }

    pub(crate) fn unknown(&mut self, what: impl Into<String>, needs: impl Into<String>) {
        self.unknown.push(Unknown { what: what.into(), needs: needs.into() });
    }

    /// Adds a finding. Returns it, to add a line of `rabbitmq.conf`.
    pub(crate) fn find(
        &mut self,
        kind: &'static Kind,
        evidence: Evidence,
        entity: impl Into<String>,
        what: impl Into<String>,
        mend: impl Into<String>,
    ) -> &mut Finding {
        self.findings.push(Finding {
            id: kind.id,
            level: kind.level,
            entity: entity.into(),
            what: what.into(),
            why: kind.why,
            mend: mend.into(),
            conf: None,
            page: kind.page,
            evidence,
        });
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    /// Worst first; findings of one kind together. One mistake that is known in two ways is told once, in the first.
    pub(crate) fn sort(&mut self) {
        self.findings.sort_by(|a, b| (a.level, a.id).cmp(&(b.level, b.id)));
        self.findings.dedup_by(|later, first| later.id == first.id && later.entity == first.entity);
    }

    /// Advice is nothing that needs mending.
    pub(crate) fn exit(&self) -> Exit {
        match self.findings.iter().map(|finding| finding.level).min() {
            _ if self.incomplete => Exit::NotCarriedOut,
            Some(Level::Error) => Exit::Bad,
            Some(Level::Warning) => Exit::Attention,
            Some(Level::Advice) | None => Exit::Clean,
        }
    }
}

impl Finding {
    /// The line of `rabbitmq.conf` that mends it.
    pub(crate) fn conf(&mut self, line: impl Into<String>) {
        self.conf = Some(line.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(levels: &[Level]) -> Report {
        let mut report = Report::default();
        for level in levels {
            let kind = match level {
                Level::Error => &Kind { id: "c", level: Level::Error, why: "", page: "" },
                Level::Warning => &Kind { id: "b", level: Level::Warning, why: "", page: "" },
                Level::Advice => &Kind { id: "a", level: Level::Advice, why: "", page: "" },
            };
            report.find(kind, Evidence::ProvedOverAmqp, "broker", "", "");
        }
        report.sort();
        report
    }

    #[test]
    fn the_worst_finding_is_first_and_decides_the_exit_code() {
        let all = report(&[Level::Advice, Level::Error, Level::Warning, Level::Error]);
        assert_eq!(all.findings.iter().map(|finding| finding.id).collect::<Vec<_>>(), ["c", "b", "a"]);
        assert_eq!(all.exit(), Exit::Bad);
        assert_eq!(report(&[Level::Advice, Level::Warning]).exit(), Exit::Attention);
        assert_eq!(report(&[Level::Advice]).exit(), Exit::Clean);
        assert_eq!(report(&[]).exit(), Exit::Clean);
        assert_eq!(Report { incomplete: true, ..report(&[]) }.exit(), Exit::NotCarriedOut);
    }
}
