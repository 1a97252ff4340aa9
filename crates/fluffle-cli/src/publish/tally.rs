//! What became of the messages.

use fluffle::amqp::{Prepared, PublishError, PublishErrorKind};
use serde::Serialize;

use crate::{
    common::{exit::Exit, output::safe},
    units,
};

/// How many failures are told one by one.
const TOLD: usize = 20;
/// After so many refusals (no such exchange, no permission) no more is read: the rest would fare the same.
const MOST_REFUSED: u64 = 10;

/// Why reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum End {
    /// At the end of the input.
    Complete,
    /// By a signal.
    Interrupted,
    /// At a line that is wrong.
    InputError,
    /// Because the broker refused too many messages.
    Refused,
}

/// A message, or a batch, that was not both confirmed and routed.
#[derive(Debug, Serialize)]
pub(crate) struct Bad {
    line: u64,
    last_line: u64,
    id: String,
    why: String,
}

/// What became of the messages: the report of `--json`. The keys are stable.
#[derive(Debug, Serialize)]
pub(crate) struct Tally {
    pub(crate) end: End,
    /// Messages handed to the broker; those of a batch one by one.
    pub(crate) published: u64,
    /// Confirmed and routed.
    pub(crate) confirmed: u64,
    /// Confirmed, and returned because no queue takes them.
    pub(crate) unrouted: u64,
    /// Not confirmed: refused, or without an answer.
    pub(crate) unconfirmed: u64,
    /// The last line that was read, and whose outcome is told here.
    pub(crate) last_line: u64,
    /// The first failures.
    pub(crate) failures: Vec<Bad>,
    /// Why the input is wrong.
    pub(crate) input_error: Option<String>,
    /// Whether the broker was asked to return what no queue takes. If not, `unrouted` is always 0.
    pub(crate) mandatory: bool,
    #[serde(skip)]
    refused: u64,
}

impl Tally {
    pub(crate) fn new(skip: u64, mandatory: bool) -> Self {
        Self {
            end: End::Complete,
            published: 0,
            confirmed: 0,
            unrouted: 0,
            unconfirmed: 0,
            last_line: skip,
            failures: Vec::new(),
            input_error: None,
            mandatory,
            refused: 0,
        }
    }

    /// Counts the outcome of a message or batch.
    pub(crate) fn settle(&mut self, lines: (u64, u64), messages: u64, failed: Option<PublishError<Prepared>>) {
        let Some(error) = failed else {
            self.confirmed += messages;
            return;
        };
        match error.kind() {
            PublishErrorKind::Returned(_) => self.unrouted += messages,
            PublishErrorKind::Refused { .. } => {
                self.refused += 1;
                self.unconfirmed += messages;
            }
            _ => self.unconfirmed += messages,
        }
        if self.failures.len() < TOLD {
            let (line, last_line) = lines;
            self.failures.push(Bad { line, last_line, id: error.id.clone(), why: error.to_string() });
        }
    }

    /// Whether the broker has refused so many that the rest would fare the same.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.refused >= MOST_REFUSED
    }

    /// How many are settled.
    pub(crate) fn settled(&self) -> u64 {
        self.confirmed + self.unrouted + self.unconfirmed
    }

    /// What a person is told, in lines.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for bad in &self.failures {
            let lines = if bad.line == bad.last_line { format!("{}", bad.line) } else { bad.range() };
            text.push_str(&format!("line {lines}, id {}: {}\n", safe(&bad.id), safe(&bad.why)));
        }
        let untold = self.unrouted + self.unconfirmed > self.failures.len() as u64 && self.failures.len() == TOLD;
        if untold {
            text.push_str("… further failures are only counted\n");
        }
        let counted = |count: u64| units::count(count);
        text.push_str(&format!("published {}, confirmed ", counted(self.published)));
        text.push_str(&match self.mandatory {
            true => format!("and routed {}, routed to no queue {}", counted(self.confirmed), counted(self.unrouted)),
            false => format!("{} (--not-mandatory: routed or not)", counted(self.confirmed)),
        });
        text.push_str(&format!(", not confirmed {}", counted(self.unconfirmed)));
        let came = format!("; the last line was {}, --skip {0} goes on behind it", self.last_line);
        match self.end {
            End::Complete => {}
            End::Interrupted => text.push_str(&format!("\ninterrupted{came}")),
            End::InputError => {
                let why = self.input_error.as_deref().unwrap_or_default();
                text.push_str(&format!("\nthe input is wrong: {}{came}", safe(why)));
            }
            End::Refused => text.push_str(&format!("\nstopped after {MOST_REFUSED} refusals{came}")),
        }
        text
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self { end: End::InputError, .. } => Exit::NotCarriedOut,
            Self { unconfirmed: 1.., .. } | Self { unrouted: 1.., .. } => Exit::Bad,
            Self { end: End::Interrupted, .. } => Exit::Attention,
            _ => Exit::Clean,
        }
    }
}

impl Bad {
    fn range(&self) -> String {
        format!("{} to {}", self.line, self.last_line)
    }
}
