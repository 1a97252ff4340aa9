//! Ways on which dead letters, and messages that a limit drops, are lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::doctor::{
    finding::{Evidence::ToldByTheManagementApi, Kind, Level, Report},
    json::Object,
    pages,
    routes::{Routes, Way},
    snapshot::{Snapshot, shell},
};

static NO_EXCHANGE: Kind = Kind {
    id: "queue.dead_letters.no_exchange",
    level: Level::Error,
    why: "A message that this queue dead-letters is dropped without a trace, as if it had been handled.",
    page: pages::DLX,
};
static NOWHERE: Kind = Kind {
    id: "queue.dead_letters.nowhere",
    level: Level::Error,
    why: "A message that this queue dead-letters reaches no queue and is dropped without a trace. At least once, it \
          stays in this queue for ever instead, and fills it.",
    page: pages::DLX,
};
static NONE_WITH_LIMIT: Kind = Kind {
    id: "queue.dead_letters.none_with_delivery_limit",
    level: Level::Error,
    why: "A quorum queue drops a message that was returned more often than its delivery limit. Without a dead-letter \
          exchange the message is gone, and nobody is told.",
    page: pages::POISON,
};
static LETTERS_WITH_LIMIT: Kind = Kind {
    id: "queue.dead_letters.letters_have_a_limit",
    level: Level::Advice,
    why: "Since RabbitMQ 4.0 a quorum queue without a setting drops a message that was returned 20 times. Before 4.3 \
          each look at a dead letter counts as one.",
    page: pages::POISON,
};
static CIRCLE: Kind = Kind {
    id: "queue.dead_letters.ttl_circle",
    level: Level::Error,
    why: "A message that expires in each of these queues comes back to where it was without ever being rejected. \
          RabbitMQ drops such a message at the end of its first round.",
    page: pages::DLX,
};
static CLASSIC: Kind = Kind {
    id: "queue.dead_letters.classic_at_most_once",
    level: Level::Warning,
    why: "A classic queue forgets a dead letter as soon as it is sent on, without a confirm. If the target is not \
          reachable, refuses it, or its node fails, the letter is lost.",
    page: pages::AT_LEAST_ONCE,
};
static AT_MOST_ONCE: Kind = Kind {
    id: "queue.dead_letters.at_most_once",
    level: Level::Warning,
    why: "This quorum queue dead-letters at most once, RabbitMQ's default: if the target does not take the letter, it \
          is lost. At least once, it stays until the target has confirmed it.",
    page: pages::AT_LEAST_ONCE,
};
static STRATEGY_IGNORED: Kind = Kind {
    id: "queue.dead_letters.strategy_ignored",
    level: Level::Warning,
    why: "RabbitMQ dead-letters at least once only with overflow reject-publish. Otherwise it falls back to at most \
          once, with a line in its log that nobody reads.",
    page: pages::AT_LEAST_ONCE,
};
static DROP_HEAD: Kind = Kind {
    id: "queue.drops_its_oldest",
    level: Level::Warning,
    why: "When the queue is full it drops its oldest message for each new one, and no publisher is told.",
    page: pages::MAX_LENGTH,
};
static EXPIRES: Kind = Kind {
    id: "queue.expired_are_dropped",
    level: Level::Advice,
    why: "Messages that wait longer than the time to live are dropped. If a consumer is away for that long, its \
          messages are gone.",
    page: pages::TTL,
};

/// Where a queue's dead letters go, if it has a dead-letter exchange.
fn targets(queue: &Object, routes: &Routes<'_>) -> Option<(String, Way)> {
    let exchange = queue.setting_text("dead-letter-exchange")?;
    let way = routes.way(&exchange, queue.setting_text("dead-letter-routing-key").as_deref());
    Some((exchange, way))
}

pub(super) fn check(snapshot: &Snapshot, graveyards: &BTreeSet<String>, routes: &Routes<'_>, report: &mut Report) {
    for queue in snapshot.queues.iter().filter(|queue| queue.text("type") != "stream") {
        match targets(queue, routes) {
            Some((exchange, way)) => {
                check_way(snapshot, queue, &exchange, &way, report);
                check_strategy(snapshot, queue, report);
            }
            None => check_without(snapshot, queue, graveyards.contains(queue.text("name")), report),
        }
    }
    check_circles(snapshot, routes, report);
}

fn entity(queue: &Object) -> String {
    format!("queue {}", queue.text("name"))
}

fn check_way(snapshot: &Snapshot, queue: &Object, exchange: &str, way: &Way, report: &mut Report) {
    let key = queue.setting_text("dead-letter-routing-key");
    match way {
        Way::NoExchange => {
            report.find(
                &NO_EXCHANGE,
                ToldByTheManagementApi,
                entity(queue),
                format!("its dead-letter exchange {exchange:?} does not exist"),
                format!(
                    "rabbitmqadmin{} declare exchange name={} type=fanout durable=true, and bind a queue to it; or \
                     correct the name with: {}",
                    snapshot.vhost_option(),
                    shell(exchange),
                    snapshot.policy(queue.text("name"), r#"{"dead-letter-exchange":"<exchange>"}"#),
                ),
            );
        }
        Way::Queues(queues) if queues.is_empty() => {
            let (what, mend) = match (exchange, &key) {
                ("", Some(key)) => (
                    format!("its dead letters go to the queue {key:?}, which does not exist"),
                    format!(
                        "rabbitmqadmin{} declare queue name={} durable=true queue_type=quorum",
                        snapshot.vhost_option(),
                        shell(key)
                    ),
                ),
                (_, key) => {
                    let with = key.as_deref().map(|key| format!(" for the key {key:?}")).unwrap_or_default();
                    (
                        format!("its dead-letter exchange {exchange:?} has no binding{with}"),
                        format!(
                            "rabbitmqadmin{} declare binding source={} destination=<queue> routing_key={}",
                            snapshot.vhost_option(),
                            shell(exchange),
                            shell(key.as_deref().unwrap_or("#")),
                        ),
                    )
                }
            };
            report.find(&NOWHERE, ToldByTheManagementApi, entity(queue), what, mend);
        }
        Way::Queues(_) | Way::ByItsOwnKey => {}
    }
}

fn check_strategy(snapshot: &Snapshot, queue: &Object, report: &mut Report) {
    let name = queue.text("name");
    if queue.text("type") != "quorum" {
        if queue.is("durable") {
            report.find(
                &CLASSIC,
                ToldByTheManagementApi,
                entity(queue),
                "a classic queue with a dead-letter exchange",
                "move it to a quorum queue with dead-letter-strategy at-least-once: `fluffle topology plan` shows the \
                 steps; or let the consumer publish its dead letters itself, with confirms, as Fluffle's consumers do",
            );
        }
        return;
    }
    let overflow = queue.setting_text("overflow");
    if queue.setting_text("dead-letter-strategy").as_deref() != Some("at-least-once") {
        let mend = snapshot.policy(name, r#"{"dead-letter-strategy":"at-least-once","overflow":"reject-publish"}"#);
        let mend = format!("{mend} (add the keys to a policy that the queue has: only one applies)");
        report.find(
            &AT_MOST_ONCE,
            ToldByTheManagementApi,
            entity(queue),
            "no dead-letter-strategy at-least-once",
            mend,
        );
    } else if overflow.as_deref() != Some("reject-publish") {
        let has = overflow.unwrap_or_else(|| "drop-head, the default".to_owned());
        let mend = snapshot.policy(name, r#"{"overflow":"reject-publish"}"#);
        let what = format!("dead-letter-strategy at-least-once with overflow {has}");
        report.find(&STRATEGY_IGNORED, ToldByTheManagementApi, entity(queue), what, mend);
    }
}

/// A queue without a dead-letter exchange.
fn check_without(snapshot: &Snapshot, queue: &Object, is_graveyard: bool, report: &mut Report) {
    let name = queue.text("name");
    let with_exchange = || snapshot.policy(name, r#"{"dead-letter-exchange":"<exchange>"}"#);
    let is_quorum = queue.text("type") == "quorum";
    let set = queue.setting_number("delivery-limit");
    // From RabbitMQ 4.0 on the default is 20.
    let limit = set.or((snapshot.version() >= (4, 0)).then_some(20)).filter(|limit| is_quorum && *limit >= 0);
    if let Some(limit) = limit.filter(|_| is_graveyard && set.is_none()) {
        let mend = snapshot.policy(name, r#"{"delivery-limit":-1}"#);
        let what = format!("it holds dead letters, with a delivery limit of {limit}, RabbitMQ's default");
        report.find(&LETTERS_WITH_LIMIT, ToldByTheManagementApi, entity(queue), what, mend);
    } else if let Some(limit) = limit {
        let default = if set.is_none() { ", RabbitMQ's default" } else { "" };
        let what = format!("a delivery limit of {limit}{default}, and no dead-letter exchange");
        report.find(&NONE_WITH_LIMIT, ToldByTheManagementApi, entity(queue), what, with_exchange());
    }
    let length = queue.setting_number("max-length").map(|messages| format!("{messages} messages"));
    let bytes = queue.setting_number("max-length-bytes").map(|bytes| format!("{bytes} bytes"));
    if let Some(most) = length.or(bytes)
        && queue.setting_text("overflow").is_none_or(|overflow| overflow == "drop-head")
    {
        let mend = snapshot.policy(name, r#"{"overflow":"reject-publish"}"#);
        let what = format!("at most {most}, overflow drop-head, and no dead-letter exchange");
        report.find(&DROP_HEAD, ToldByTheManagementApi, entity(queue), what, mend);
    }
    if let Some(ttl) = queue.setting_number("message-ttl")
        && queue.is("durable")
    {
        let what = format!("messages expire after {ttl} ms, and there is no dead-letter exchange");
        report.find(&EXPIRES, ToldByTheManagementApi, entity(queue), what, with_exchange());
    }
}

/// Circles of queues in all of which messages expire.
fn check_circles(snapshot: &Snapshot, routes: &Routes<'_>, report: &mut Report) {
    let mut next: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for queue in snapshot.queues.iter().filter(|queue| queue.setting_number("message-ttl").is_some()) {
        match targets(queue, routes) {
            Some((_, Way::Queues(queues))) => drop(next.insert(queue.text("name"), queues)),
            // By its own key the default exchange gives the message back to the queue to which it was published.
            Some((_, Way::ByItsOwnKey)) => {
                next.insert(queue.text("name"), [queue.text("name").to_owned()].into());
            }
            _ => {}
        }
    }
    let mut told: BTreeSet<&str> = BTreeSet::new();
    for start in next.keys() {
        let Some(circle) = circle(start, &next) else { continue };
        if !circle.iter().any(|name| told.contains(name)) {
            let way = circle.iter().chain([start]).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" -> ");
            let mend = "let the last queue of the round dead-letter elsewhere, or take the message-ttl from the queue \
                        that consumers work on: there a reject, not time, has to start the round";
            let what = format!("messages expire from {way}");
            report.find(&CIRCLE, ToldByTheManagementApi, format!("queue {start}"), what, mend);
        }
        told.extend(circle);
    }
}

/// The shortest circle that leads back to `start`.
fn circle<'a>(start: &'a str, next: &'a BTreeMap<&str, BTreeSet<String>>) -> Option<Vec<&'a str>> {
    let mut before: BTreeMap<&str, &str> = BTreeMap::new();
    let mut front = vec![start];
    while !front.is_empty() {
        let mut reached = Vec::new();
        for from in front {
            for to in next.get(from).into_iter().flatten() {
                if to == start {
                    let mut circle = vec![from];
                    while circle.last() != Some(&start) {
                        circle.push(before.get(circle.last()?)?);
                    }
                    circle.reverse();
                    return Some(circle);
                }
                if !before.contains_key(to.as_str()) {
                    before.insert(to, from);
                    reached.push(to.as_str());
                }
            }
        }
        front = reached;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&'static str, &[&str])]) -> BTreeMap<&'static str, BTreeSet<String>> {
        edges.iter().map(|(from, to)| (*from, to.iter().map(|name| (*name).to_owned()).collect())).collect()
    }

    #[test]
    fn a_circle_is_found_from_each_of_its_queues_and_from_no_other() {
        let graph = graph(&[("a", &["b", "x"]), ("b", &["c"]), ("c", &["a"]), ("in", &["a"]), ("self", &["self"])]);
        assert_eq!(circle("a", &graph), Some(vec!["a", "b", "c"]));
        assert_eq!(circle("c", &graph), Some(vec!["c", "a", "b"]));
        assert_eq!(circle("self", &graph), Some(vec!["self"]));
        assert_eq!(circle("in", &graph), None);
        assert_eq!(circle("x", &graph), None);
    }
}
