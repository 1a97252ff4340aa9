//! Routing: which queues a message goes to.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::{
    Engine, QueueKey, VhostKey, arguments,
    binding::Destination,
    exchange::{Exchange, ExchangeKind},
    message::Properties,
    ring,
    table::{Table, TableValue},
};

/// How many routes an exchange caches. Beyond this number of keys, its cache is emptied.
const REMEMBERED: usize = 4096;

/// The intermediate result of a walk over exchanges.
struct Walk<'a> {
    properties: &'a Properties,
    headers: Option<Table>,
    seen: HashSet<Rc<str>>,
    queues: Vec<QueueKey>,
    /// Whether the route depends only on key and exchange, and can be cached.
    by_key_alone: bool,
}

impl Engine {
    /// The queues for a message's routing keys, through exchange-to-exchange bindings and alternate exchanges, each
    /// queue once. Every exchange on the way checks all keys.
    pub(super) fn route(
        &mut self,
        vhost: VhostKey,
        exchange: &str,
        keys: &[&[u8]],
        properties: &Properties,
    ) -> Rc<[QueueKey]> {
        let generation = self.generation;
        let Some(home) = self.vhosts.get_mut(vhost) else { return Rc::from([]) };
        if let ("", [key]) = (exchange, keys) {
            return named(&home.queues, key).map_or_else(|| Rc::from([]), |queue| Rc::from([queue]));
        }
        if let [key] = keys
            && let Some(found) = home.exchanges.get(exchange)
            && found.routes_generation == generation
            && let Some(route) = found.routes.get(*key)
        {
            return route.clone();
        }
        let mut walk = Walk { properties, headers: None, seen: HashSet::new(), queues: Vec::new(), by_key_alone: true };
        let mut open: Vec<Rc<str>> = vec![Rc::from(exchange)];
        while let Some(name) = open.pop() {
            if !walk.seen.insert(name.clone()) {
                continue;
            }
            if name.is_empty() {
                walk.queues.extend(keys.iter().filter_map(|key| named(&home.queues, key)));
                continue;
            }
            let Some(exchange) = home.exchanges.get(&name) else { continue };
            let before = (walk.queues.len(), open.len());
            // A consistent-hash exchange hashes one value, so with several keys it uses only the first.
            let looked_at = if exchange.spec.kind == ExchangeKind::ConsistentHash { 1 } else { keys.len() };
            keys.iter().take(looked_at).for_each(|key| walk.visit(exchange, key, &mut open));
            if (walk.queues.len(), open.len()) == before {
                open.extend(exchange.alternate());
            }
        }
        let mut unique = HashSet::new();
        walk.queues.retain(|queue| unique.insert(*queue));
        let route: Rc<[QueueKey]> = Rc::from(walk.queues);
        if walk.by_key_alone
            && let [key] = keys
            && let Some(exchange) = home.exchanges.get_mut(exchange)
        {
            if exchange.routes_generation != generation || exchange.routes.len() >= REMEMBERED {
                exchange.routes.clear();
                exchange.routes_generation = generation;
            }
            exchange.routes.insert(Rc::from(*key), route.clone());
        }
        route
    }
}

impl Walk<'_> {
    fn visit(&mut self, exchange: &Exchange, key: &[u8], open: &mut Vec<Rc<str>>) {
        let queues = &mut self.queues;
        let mut follow = |destination: &Destination| match destination {
            Destination::Queue(queue) => queues.push(*queue),
            Destination::Exchange(name) => open.push(name.clone()),
        };
        match exchange.spec.kind {
            ExchangeKind::Direct => {
                exchange.bindings.get(key).into_iter().flatten().for_each(|binding| follow(&binding.destination));
            }
            ExchangeKind::Fanout => {
                exchange.bindings.values().flatten().for_each(|binding| follow(&binding.destination));
            }
            ExchangeKind::Topic => {
                let matching = exchange.bindings.iter().filter(|(pattern, _)| topic_matches(pattern, key));
                matching.flat_map(|(_, bindings)| bindings).for_each(|binding| follow(&binding.destination));
            }
            ExchangeKind::Headers => {
                self.by_key_alone = false;
                let headers = self.headers.get_or_insert_with(|| self.properties.headers().canonical().sorted());
                let all = exchange.bindings.values().flatten();
                all.filter(|binding| headers_match(&binding.arguments, headers))
                    .for_each(|binding| follow(&binding.destination));
            }
            ExchangeKind::ConsistentHash => {
                let arguments = &exchange.spec.arguments;
                self.by_key_alone &= !arguments.contains("hash-header") && !arguments.contains("hash-property");
                exchange.ring.pick(&ring::hashed(arguments, key, self.properties)).into_iter().for_each(follow);
            }
        }
    }
}

/// `*` stands for one word, `#` for none or more (AMQP 0-9-1 section 3.1.3.3).
pub(super) fn topic_matches(pattern: &[u8], key: &[u8]) -> bool {
    let (pattern, key) = (words(pattern), words(key));
    // Glob matching with one backtracking point: linear in practice, quadratic in the worst case.
    let (mut p, mut k, mut back) = (0, 0, None);
    while k < key.len() {
        if p < pattern.len() && pattern[p] == b"#" {
            back = Some((p, k));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == b"*" || pattern[p] == key[k]) {
            p += 1;
            k += 1;
        } else if let Some((hash, from)) = back {
            back = Some((hash, from + 1));
            p = hash + 1;
            k = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|word| *word == b"#")
}

/// An empty key has no words, as in RabbitMQ.
fn words(text: &[u8]) -> Vec<&[u8]> {
    if text.is_empty() { Vec::new() } else { text.split(|byte| *byte == b'.').collect() }
}

/// The queue that a routing key names.
fn named(queues: &HashMap<Rc<str>, QueueKey>, key: &[u8]) -> Option<QueueKey> {
    // A queue name is always UTF-8; a routing key may be any bytes.
    queues.get(std::str::from_utf8(key).ok()?).copied()
}

/// `x-match`: `all` (default), `any`, `all-with-x`, `any-with-x`. Without `-with-x`, arguments whose names begin with
/// `x-` are ignored. Both tables are sorted by name. If several headers have the same name, each matches one argument
/// (`rabbit_exchange_type_headers:headers_match`).
fn headers_match(wanted: &Table, headers: &Table) -> bool {
    let mode = arguments::text(wanted, "x-match").unwrap_or("all");
    let (any, with_x) = (mode.starts_with("any"), mode.ends_with("-with-x"));
    let counted = wanted.fields().filter(|(name, _)| *name != b"x-match" && (with_x || !name.starts_with(b"x-")));
    let mut headers = headers.fields().peekable();
    for (name, value) in counted {
        while headers.next_if(|(header, _)| *header < name).is_some() {}
        let found = headers.next_if(|(header, _)| *header == name);
        let matches = found.is_some_and(|(_, found)| is_void(value) || arguments::same_value(value, found));
        if matches == any {
            return any;
        }
    }
    !any
}

/// An argument without a value only requires that the header is present.
fn is_void(value: TableValue<'_>) -> bool {
    value.kind() == b'V'
}

#[cfg(test)]
mod tests {
    use super::topic_matches;

    #[test]
    fn topic_patterns_match_words() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("#", "", true),
            ("#", "a.b.c", true),
            ("a.#", "a", true),
            ("a.#.c", "a.c", true),
            ("a.#.c", "a.b.b.c", true),
            ("#.b.#", "a.b.a.b.c", true),
            ("#.b.*", "a.b.b", true),
            ("*.#", "", false),
            ("*", "a", true),
            ("", "", true),
            ("", "a", false),
        ];
        for (pattern, key, expected) in cases {
            assert_eq!(topic_matches(pattern.as_bytes(), key.as_bytes()), expected, "{pattern:?} {key:?}");
        }
    }
}
