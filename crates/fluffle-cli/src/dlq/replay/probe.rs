//! Looks whether letters of this replay have come back into the dead-letter queue.

use std::{collections::HashMap, sync::Arc};

use fluffle::wire::headers;
use lapin::{
    Connection,
    options::{BasicGetOptions, BasicNackOptions},
};

use crate::{
    common::{amqp, failure::Failure, output::safe},
    dlq::letter::{Cause, Letter},
};

/// Most letters that a probe walks over. It holds all of them for a moment.
const MOST: u64 = 10_000;

/// What a probe found.
#[derive(Debug, Default)]
pub(crate) struct Probed {
    /// Letters that carry the id of this replay: they died again.
    pub(crate) came_back: u64,
    /// Whether it saw all letters that are ready.
    pub(crate) saw_all: bool,
    /// The most frequent cause of those, and an error as an example.
    pub(crate) cause: Option<String>,
}

/// Walks over the letters that are ready, and puts all back.
pub(crate) async fn probe(connection: &Connection, queue: &Arc<str>, replay: &str) -> Result<Probed, Failure> {
    let channel = amqp::channel(connection).await?;
    let mut found = Probed::default();
    let mut causes: HashMap<Cause, (u64, String)> = HashMap::new();
    let mut taken = 0;
    while taken < MOST {
        let got = channel.basic_get((&**queue).into(), BasicGetOptions::default());
        let Some(got) = amqp::in_time("basic.get", got).await? else {
            found.saw_all = true;
            break;
        };
        taken += 1;
        let letter = Letter::new(queue, got.delivery);
        if letter.dead.header(headers::REPLAY) == Some(replay) {
            found.came_back += 1;
            let (count, _) = causes.entry(letter.cause()).or_insert_with(|| (0, letter.error().to_owned()));
            *count += 1;
        }
    }
    if taken > 0 {
        let all = BasicNackOptions { requeue: true, multiple: true };
        amqp::in_time("basic.nack", channel.basic_nack(0, all)).await?;
    }
    amqp::in_time("channel.close", channel.close(200, "probed".into())).await?;
    found.cause = causes
        .into_iter()
        .max_by_key(|(_, (count, _))| *count)
        .map(|(cause, (_, error))| format!("{} in `{}`: {}", safe(&cause.reason), safe(&cause.origin), safe(&error)));
    Ok(found)
}
