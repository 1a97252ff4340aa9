//! What is told.

use std::time::SystemTime;

use serde::Serialize;
use serde_json::Value;

use crate::common::{
    exit::Exit,
    output::{Colour, OutputArgs, safe},
};

/// How something is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    /// Proved over AMQP.
    Amqp,
    /// Read from a file of a publisher or consumer.
    File,
    /// Read from a database.
    Database,
    /// The id says it.
    Id,
}

/// What a place says of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It is there.
    Found,
    /// It is not there.
    Absent,
    /// Not seen in a part of the place; the rest was not looked at.
    NotInPart,
    /// The place could not be looked at.
    Failed,
    /// The place was not looked at, on purpose.
    Refused,
}

/// What one place says.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) place: String,
    pub(crate) source: Source,
    pub(crate) state: State,
    /// Sentences for people.
    pub(crate) facts: Vec<String>,
    /// The same for programs, if the message was found.
    pub(crate) details: Value,
}

/// All that is told. The keys are stable.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) id: String,
    pub(crate) findings: Vec<Finding>,
    pub(crate) cannot_be_known: Vec<String>,
}

impl Finding {
    pub(crate) fn new(place: impl Into<String>, source: Source, state: State) -> Self {
        Self { place: place.into(), source, state, facts: Vec::new(), details: Value::Null }
    }

    #[must_use]
    pub(crate) fn fact(mut self, fact: impl Into<String>) -> Self {
        self.facts.push(fact.into());
        self
    }
}

impl Report {
    /// Whether something is known of the message, and whether a place could not be looked at.
    pub(crate) fn exit(&self) -> Exit {
        // That an id tells its own age says nothing of a message.
        let has = |state| self.findings.iter().any(|finding| finding.state == state && finding.source != Source::Id);
        match (has(State::Failed), has(State::Found)) {
            (true, _) => Exit::Bad,
            (false, true) => Exit::Clean,
            (false, false) => Exit::Attention,
        }
    }

    /// The report for people.
    pub(crate) fn text(&self, output: &OutputArgs) -> String {
        let mut text = format!("message {}\n", output.paint(Colour::Bold, &safe(&self.id)));
        for finding in &self.findings {
            let (word, colour) = match finding.state {
                State::Found => ("found", Colour::Green),
                State::Absent => ("not there", Colour::Dim),
                State::NotInPart => ("not seen", Colour::Yellow),
                State::Failed => ("failed", Colour::Red),
                State::Refused => ("not looked at", Colour::Yellow),
            };
            let source = match finding.source {
                Source::Amqp => "proved over AMQP",
                Source::File => "read from the file",
                Source::Database => "read from the database",
                Source::Id => "the id says so",
            };
            let (word, place) = (output.paint(colour, word), safe(&finding.place));
            text.push_str(&format!("\n{word}  {place} ({source})\n"));
            for fact in &finding.facts {
                text.push_str(&format!("  {}\n", safe(fact)));
            }
        }
        text.push_str(&format!("\n{}\n", output.paint(Colour::Bold, "cannot be known")));
        for unknown in &self.cannot_be_known {
            text.push_str(&format!("  - {}\n", safe(unknown)));
        }
        text
    }
}

/// A time as text, in UTC.
pub(crate) fn at(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_tells_its_age_is_no_trace_of_a_message() {
        let report = |findings| Report { id: "m".into(), findings, cannot_be_known: Vec::new() };
        let id = || Finding::new("id", Source::Id, State::Found);
        let place = |state| Finding::new("queue", Source::Amqp, state);
        assert_eq!(report(vec![id()]).exit(), Exit::Attention);
        assert_eq!(report(vec![id(), place(State::NotInPart)]).exit(), Exit::Attention);
        assert_eq!(report(vec![id(), place(State::Found)]).exit(), Exit::Clean);
        assert_eq!(report(vec![place(State::Found), place(State::Failed)]).exit(), Exit::Bad);
    }
}
