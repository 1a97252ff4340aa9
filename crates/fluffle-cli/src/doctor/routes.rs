//! Where a message goes, by the exchanges and bindings of a vhost.

use std::collections::{BTreeMap, BTreeSet};

use crate::doctor::{json::Object, snapshot::Snapshot};

/// The routes of one vhost.
pub(crate) struct Routes<'a> {
    exchanges: BTreeMap<&'a str, Exchange<'a>>,
    queues: BTreeSet<&'a str>,
}

#[derive(Default)]
struct Exchange<'a> {
    kind: &'a str,
    alternate: String,
    bindings: Vec<&'a Object>,
}

/// Where a message may go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The exchange does not exist.
    NoExchange,
    /// To these queues; without a key: to some of these. Empty: nowhere.
    Queues(BTreeSet<String>),
    /// It depends on the message's own routing key: the default exchange, and no key is set.
    ByItsOwnKey,
}

impl<'a> Routes<'a> {
    pub(crate) fn new(snapshot: &'a Snapshot) -> Self {
        let mut exchanges: BTreeMap<&str, Exchange<'a>> = BTreeMap::new();
        for exchange in &snapshot.exchanges {
            let policy = snapshot.policies.iter().find(|policy| policy.text("name") == exchange.text("policy"));
            let by_policy = policy.map(|policy| policy.text("definition/alternate-exchange")).unwrap_or_default();
            let own = exchange.setting_text("alternate-exchange").unwrap_or_else(|| by_policy.to_owned());
            let kind = exchange.text("type");
            exchanges.insert(exchange.text("name"), Exchange { kind, alternate: own, bindings: Vec::new() });
        }
        for binding in &snapshot.bindings {
            if let Some(exchange) = exchanges.get_mut(binding.text("source")) {
                exchange.bindings.push(binding);
            }
        }
        Self { exchanges, queues: snapshot.queues.iter().map(|queue| queue.text("name")).collect() }
    }

    /// Where a message goes that is published to this exchange; with `None`, with a key that is not known.
    pub(crate) fn way(&self, exchange: &str, key: Option<&str>) -> Way {
        match (exchange, key) {
            ("", None) => Way::ByItsOwnKey,
            ("", Some(key)) => Way::Queues(self.queues.get(key).map(|queue| (*queue).to_owned()).into_iter().collect()),
            _ if !self.exchanges.contains_key(exchange) => Way::NoExchange,
            _ => {
                let mut found = BTreeSet::new();
                self.follow(exchange, key, &mut BTreeSet::new(), &mut found);
                Way::Queues(found)
            }
        }
    }

    fn follow(&self, name: &str, key: Option<&str>, seen: &mut BTreeSet<String>, found: &mut BTreeSet<String>) {
        let Some(exchange) = self.exchanges.get(name) else { return };
        if !seen.insert(name.to_owned()) {
            return;
        }
        let mut is_routed = false;
        for binding in exchange.bindings.iter().filter(|binding| matches(exchange.kind, binding, key)) {
            is_routed = true;
            let destination = binding.text("destination");
            match binding.text("destination_type") {
                "queue" => drop(found.insert(destination.to_owned())),
                _ => self.follow(destination, key, seen, found),
            }
        }
        if !exchange.alternate.is_empty() && (!is_routed || key.is_none()) {
            self.follow(&exchange.alternate, key, seen, found);
        }
    }
}

/// Whether a message with this key may pass the binding. A headers exchange, and one of a plugin, may pass anything.
fn matches(kind: &str, binding: &Object, key: Option<&str>) -> bool {
    let Some(key) = key else { return true };
    let pattern = binding.text("routing_key");
    match kind {
        "direct" => pattern == key,
        "topic" => topic(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>()),
        _ => true,
    }
}

/// Whether the words of a key match those of a pattern: `*` is one word, `#` any number.
fn topic(pattern: &[&str], key: &[&str]) -> bool {
    // The keys that each `#` may leave over are tried from the left, and only the last `#` is tried again: as for `*`
    // in file names, that is enough, and takes no more than the product of the lengths.
    let (mut at, mut word) = (0, 0);
    let mut again: Option<(usize, usize)> = None;
    while word < key.len() {
        match pattern.get(at) {
            Some(&"#") => {
                again = Some((at, word));
                at += 1;
            }
            Some(&part) if part == "*" || part == key[word] => {
                at += 1;
                word += 1;
            }
            _ => match again {
                Some((hash, from)) => {
                    again = Some((hash, from + 1));
                    at = hash + 1;
                    word = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|part| *part == "#")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn objects(value: Value) -> Vec<Object> {
        Object::new(value).into_list()
    }

    fn bind(source: &str, to: &str, kind: &str, key: &str) -> Value {
        json!({"source": source, "destination": to, "destination_type": kind, "routing_key": key})
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            queues: objects(json!([{"name": "a"}, {"name": "b"}, {"name": "rest"}])),
            exchanges: objects(json!([
                {"name": "d", "type": "direct", "arguments": {"x-alternate-exchange": "ignored"}},
                {"name": "t", "type": "topic", "arguments": {}, "policy": "p"},
                {"name": "f", "type": "fanout", "arguments": []},
                {"name": "round", "type": "fanout"},
            ])),
            policies: objects(json!([{"name": "p", "definition": {"alternate-exchange": "f"}}])),
            bindings: objects(json!([
                bind("d", "a", "queue", "k"),
                bind("d", "t", "exchange", "t.one"),
                bind("t", "b", "queue", "t.#"),
                bind("f", "rest", "queue", ""),
                bind("round", "round", "exchange", ""),
            ])),
            ..Snapshot::default()
        }
    }

    fn to(names: &[&str]) -> Way {
        Way::Queues(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn messages_are_followed_as_the_broker_routes_them() {
        let snapshot = snapshot();
        let routes = Routes::new(&snapshot);
        assert_eq!(routes.way("d", Some("k")), to(&["a"]));
        assert_eq!(routes.way("d", Some("t.one")), to(&["b"]), "through another exchange");
        assert_eq!(routes.way("t", Some("other")), to(&["rest"]), "by the alternate exchange of a policy");
        assert_eq!(routes.way("d", Some("nowhere")), to(&[]));
        assert_eq!(routes.way("d", None), to(&["a", "b", "rest"]));
        assert_eq!(routes.way("round", Some("")), to(&[]), "a circle of exchanges ends");
        assert_eq!(routes.way("missing", Some("k")), Way::NoExchange);
        assert_eq!(routes.way("", Some("a")), to(&["a"]));
        assert_eq!(routes.way("", Some("missing")), to(&[]));
        assert_eq!(routes.way("", None), Way::ByItsOwnKey);
    }

    #[test]
    fn words_match_as_in_a_topic_exchange() {
        let matches = |pattern: &str, key: &str| {
            topic(&pattern.split('.').collect::<Vec<_>>(), &key.split('.').collect::<Vec<_>>())
        };
        for (pattern, key) in [
            ("#", ""),
            ("#", "a.b"),
            ("a.#", "a"),
            ("*.b", "a.b"),
            ("#.b.#", "a.b.c"),
            ("a.#.b", "a.b.c.b"),
            ("a.#.#", "a"),
        ] {
            assert!(matches(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [("a", "b"), ("*", "a.b"), ("a.*", "a"), ("#.b", "a.b.c"), ("a.#.b", "b"), ("a", "a.b")] {
            assert!(!matches(pattern, key), "{pattern} {key}");
        }
    }
}
