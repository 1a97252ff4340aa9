//! The queues that letters go to.

use std::collections::BTreeMap;

use lapin::Connection;
use serde::Serialize;

use crate::{
    common::{amqp, failure::Failure},
    dlq::look::{advice, depth},
};

/// Most queues that are asked about.
const MOST: usize = 1000;

/// A queue that letters go to.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Target {
    /// Letters for it so far.
    pub(crate) letters: u64,
    /// Consumers of it, when the first letter for it was seen; `None` if it could not be asked.
    pub(crate) consumers: Option<u32>,
    /// Why it could not be asked: mostly because it does not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

/// All of them, by name.
#[derive(Debug, Default)]
pub(crate) struct Targets(pub(crate) BTreeMap<String, Target>);

impl Targets {
    /// Counts a letter for this queue, and asks about the queue the first time.
    pub(crate) async fn count(&mut self, connection: &Connection, queue: &str) -> Result<(), Failure> {
        if let Some(target) = self.0.get_mut(queue) {
            target.letters += 1;
        } else if self.0.len() < MOST {
            // A refusal closes the channel.
            let channel = amqp::channel(connection).await?;
            let mut target = Target { letters: 1, ..Target::default() };
            match depth(&channel, queue).await {
                Ok(depth) => {
                    target.consumers = Some(depth.consumers);
                    amqp::in_time("channel.close", channel.close(200, "asked".into())).await?;
                }
                Err(error) => target.problem = Some(format!("{} ({error})", advice(&error))),
            }
            self.0.insert(queue.to_owned(), target);
        }
        Ok(())
    }

    /// Whether somebody consumes from one of them.
    pub(crate) fn are_consumed(&self) -> bool {
        self.0.values().any(|target| target.consumers.is_some_and(|consumers| consumers > 0))
    }
}
