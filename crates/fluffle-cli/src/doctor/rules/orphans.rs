//! Deliveries that a queue counts as unacked, and no channel has.

use std::time::Duration;

use crate::doctor::{
    finding::{Evidence::ToldByTheManagementApi, Kind, Level, Report},
    json::Object,
    pages,
    rules::clients::idle_since,
    snapshot::Snapshot,
};

static ORPHANS: Kind = Kind {
    id: "queue.unacked_by_no_channel",
    level: Level::Error,
    why: "An election can leave a quorum queue with deliveries that no channel knows any more. They reach nobody, and \
          the queue keeps its log on the disk, until the connection of the consumer they were meant for ends.",
    page: pages::ORPHANS,
};

/// Counts are a few seconds old, so they are compared only if nothing has happened for longer.
const QUIET: Duration = Duration::from_secs(30);

pub(crate) fn check(snapshot: &Snapshot, now: u64, report: &mut Report) {
    for queue in snapshot.queues.iter().filter(|queue| queue.text("type") == "quorum") {
        let unacked = queue.number("messages_unacknowledged").unwrap_or(0);
        let Some(held) = held(snapshot, queue, now).filter(|held| *held < unacked) else { continue };
        let entity = format!("queue {}", queue.text("name"));
        let what = format!("{unacked} messages are unacked, and the channels of its consumers have {held}");
        let mend = "restart the consumers of the queue, one after the other: what their connections had comes again";
        report.find(&ORPHANS, ToldByTheManagementApi, entity, what, mend);
    }
}

/// How many unacked deliveries the channels have at most that consume from the queue, or may have asked for messages
/// one by one. `None` if one of them is not known, or worked a moment ago.
fn held(snapshot: &Snapshot, queue: &Object, now: u64) -> Option<u64> {
    let consumers = snapshot.consumers.iter().filter(|consumer| consumer.text("queue/name") == queue.text("name"));
    let names: Vec<&str> = consumers.map(|consumer| consumer.text("channel_details/name")).collect();
    if names.is_empty() || queue.number("consumers") != Some(names.len() as u64) {
        return None;
    }
    let channel = |name: &&str| snapshot.channels.iter().find(|channel| channel.text("name") == *name);
    let quiet = |channel: &Object| {
        idle_since(channel).is_some_and(|since| u128::from(now.saturating_sub(since)) > QUIET.as_millis())
    };
    if !names.iter().all(|name| channel(name).is_some_and(quiet)) {
        return None;
    }
    let may_have =
        |channel: &&Object| names.contains(&channel.text("name")) || channel.number("consumer_count").unwrap_or(0) == 0;
    let held = |channel: &Object| channel.number("messages_unacknowledged").unwrap_or(0);
    Some(snapshot.channels.iter().filter(may_have).map(held).sum())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(unacked: u64, consumers: u64, channels: Value) -> Vec<String> {
        let objects = |value: Value| Object::new(value).into_list();
        let snapshot = Snapshot {
            queues: objects(json!([
                {"name": "q", "type": "quorum", "messages_unacknowledged": unacked, "consumers": consumers},
            ])),
            consumers: objects(json!([{"queue": {"name": "q"}, "channel_details": {"name": "a"}}])),
            channels: objects(channels),
            ..Snapshot::default()
        };
        let mut report = Report::default();
        check(&snapshot, 60_000, &mut report);
        report.findings.into_iter().map(|finding| finding.what).collect()
    }

    fn channel(name: &str, unacked: u64, idle_since: &str) -> Value {
        let consumers = u64::from(name == "a");
        json!({"name": name, "messages_unacknowledged": unacked, "idle_since": idle_since, "consumer_count": consumers})
    }

    const LONG_AGO: &str = "1970-01-01T00:00:01.000+00:00";

    #[test]
    fn what_no_channel_has_is_found_when_nothing_moves() {
        let told = "3 messages are unacked, and the channels of its consumers have 1".to_owned();
        assert_eq!(found(3, 1, json!([channel("a", 1, LONG_AGO)])), [told]);
        assert!(found(3, 1, json!([channel("a", 3, LONG_AGO)])).is_empty(), "the consumer has them");
        let by_get = json!([channel("a", 1, LONG_AGO), channel("b", 2, LONG_AGO)]);
        assert!(found(3, 1, by_get).is_empty(), "another channel may have asked for them");
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known_or_moves() {
        assert!(
            found(3, 1, json!([channel("a", 1, "1970-01-01T00:00:59.000+00:00")])).is_empty(),
            "it worked just now"
        );
        assert!(found(3, 1, json!([channel("a", 1, "")])).is_empty(), "it works");
        assert!(found(3, 2, json!([channel("a", 1, LONG_AGO)])).is_empty(), "a consumer of somebody else");
        assert!(found(3, 1, json!([])).is_empty(), "channels may not be read");
    }
}
