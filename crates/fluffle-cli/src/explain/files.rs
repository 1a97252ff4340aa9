//! Journals of publishers, and stores of handled ids.

use std::path::Path;

use fluffle::{
    amqp::Prepared,
    store::{find_journaled, find_seen},
};
use serde_json::json;

use crate::explain::{
    id::Id,
    report::{Finding, Source, State, at},
};

/// What a journal says.
pub(crate) fn journal(path: &Path, id: &Id) -> Finding {
    let place = format!("journal {}", path.display());
    let mut found = Vec::new();
    for id in id.published_as() {
        match find_journaled(path, id) {
            Ok(records) => found.extend(records),
            Err(error) => return Finding::new(place, Source::File, State::Failed).fact(error.to_string()),
        }
    }
    if found.is_empty() {
        return Finding::new(place, Source::File, State::Absent).fact(
            "it is not among those that wait for a confirm: it was confirmed, or never in this journal (confirmed \
             records are removed)",
        );
    }
    let mut finding = Finding::new(place, Source::File, State::Found);
    let mut positions = Vec::new();
    for record in found {
        positions.push(record.position);
        let place = match Prepared::from_bytes(record.bytes) {
            Ok(message) => format!("to the exchange `{}` with the key `{}`", message.exchange(), message.routing_key()),
            Err(error) => format!("its address cannot be read: {error}"),
        };
        finding = finding.fact(format!("not confirmed yet: record {}, {place}", record.position));
    }
    finding.details = json!({ "positions": positions });
    finding.fact("it is published again by the process that has the journal, or the next one, until it is confirmed")
}

/// What a consumer's store of handled ids says.
pub(crate) fn seen(path: &Path, id: &Id) -> Finding {
    let place = format!("store of handled ids {}", path.display());
    let found = match find_seen(path, &id.text) {
        Ok(found) => found,
        Err(error) => return Finding::new(place, Source::File, State::Failed).fact(error.to_string()),
    };
    if found.is_empty() {
        return Finding::new(place, Source::File, State::Absent).fact(
            "not recorded: not handled successfully by this store's consumers, or so long ago that its id was dropped",
        );
    }
    let mut finding = Finding::new(place, Source::File, State::Found);
    let mut details = Vec::new();
    for (key, time) in found {
        let (queue, id) = of_queue(&key);
        let time = at(time);
        finding = finding.fact(match queue {
            Some(queue) => format!("handled by a consumer of the queue {queue}: {id}, recorded at {time}"),
            None => format!("handled: {id}, recorded at {time}"),
        });
        details.push(json!({"key": key, "queue": queue, "at": time}));
    }
    finding.details = details.into();
    finding
}

/// The queue and the rest of a key: `<length of the queue's name>:<queue>/<id>`.
fn of_queue(key: &str) -> (Option<&str>, &str) {
    let split = || {
        let (length, rest) = key.split_once(':')?;
        let (queue, id) = rest.split_at_checked(length.parse().ok()?)?;
        Some((queue, id.strip_prefix('/')?))
    };
    split().map_or((None, key), |(queue, id)| (Some(queue), id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_its_queue_whatever_the_queue_is_called() {
        assert_eq!(of_queue("6:orders/m1"), (Some("orders"), "m1"));
        assert_eq!(of_queue("3:a/b/m1/replay/r"), (Some("a/b"), "m1/replay/r"));
        for plain in ["m1", "7:orders/m1", "99:x", "x:y/z"] {
            assert_eq!(of_queue(plain), (None, plain));
        }
    }
}
