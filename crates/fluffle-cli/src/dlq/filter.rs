//! Which letters are wanted.

use std::{
    str::FromStr,
    time::{Duration, SystemTime},
};

use clap::Args;

use crate::{dlq::letter::Letter, message::fields, units};

/// Which letters are wanted: those that all given filters let pass.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters (all that are given must match; of one given twice, one of them)")]
pub(crate) struct FilterArgs {
    /// The reason: rejected, attempts-exhausted, undecodable, delivery-limit (Fluffle); rejected, expired, maxlen,
    /// delivery_limit (RabbitMQ)
    #[arg(long, value_name = "REASON")]
    pub(crate) reason: Vec<String>,
    /// The queue it came from
    #[arg(long, value_name = "QUEUE")]
    pub(crate) origin: Vec<String>,
    /// The message's type
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) type_name: Vec<String>,
    /// The message id
    #[arg(long, value_name = "ID")]
    pub(crate) id: Vec<String>,
    /// A header, by its value as `show` prints it
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) header: Vec<HeaderIs>,
    /// Text in the body or in the error
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Vec<String>,
    /// The cause, by its key in `groups`
    #[arg(long, value_name = "KEY")]
    pub(crate) group: Vec<String>,
    /// It died before so long: 1h, 2days. Of Fluffle's letters, the time of the first delivery counts
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub(crate) older_than: Option<Duration>,
    /// It died within so long
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub(crate) younger_than: Option<Duration>,
}

/// A header and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeaderIs {
    name: String,
    value: String,
}

impl FromStr for HeaderIs {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` has no `=`: write NAME=VALUE"))?;
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl FilterArgs {
    pub(crate) fn wants(&self, letter: &Letter) -> bool {
        let one_of = |wanted: &[String], text: Option<&str>| {
            wanted.is_empty() || text.is_some_and(|text| wanted.iter().any(|wanted| wanted == text))
        };
        one_of(&self.reason, Some(letter.reason()))
            && one_of(&self.origin, letter.dead.origin_queue())
            && one_of(&self.type_name, letter.dead.type_name())
            && one_of(&self.id, letter.id())
            && self.header_matches(letter)
            && self.text_matches(letter)
            && (self.group.is_empty() || one_of(&self.group, Some(&letter.cause().key())))
            && self.age_matches(letter)
    }

    fn header_matches(&self, letter: &Letter) -> bool {
        let is = |wanted: &HeaderIs| {
            let value = letter.headers().and_then(|table| table.inner().get(wanted.name.as_str()));
            value.is_some_and(|value| fields::plain(value) == wanted.value)
        };
        self.header.is_empty() || self.header.iter().any(is)
    }

    fn text_matches(&self, letter: &Letter) -> bool {
        let body = letter.dead.body();
        let has = |text: &String| {
            text.is_empty()
                || body.windows(text.len()).any(|window| window == text.as_bytes())
                || letter.error().contains(text.as_str())
        };
        self.text.is_empty() || self.text.iter().any(has)
    }

    /// A letter whose age is unknown is neither old nor young.
    fn age_matches(&self, letter: &Letter) -> bool {
        if self.older_than.is_none() && self.younger_than.is_none() {
            return true;
        }
        let Some(since) = letter.since() else { return false };
        let age = SystemTime::now().duration_since(since).unwrap_or_default();
        self.older_than.is_none_or(|least| age >= least) && self.younger_than.is_none_or(|most| age < most)
    }
}
