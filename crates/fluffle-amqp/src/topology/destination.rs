//! Which queues of a topology the messages with a routing key go to.

use crate::topology::{Binding, ExchangeKind, Queue, Topology};

/// The queues that the messages of a routing key go to, as far as the topology knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// Queues of the topology.
    Queues {
        /// Whether one of them refuses messages when it is full.
        refuse_when_full: bool,
    },
    /// No queue of the topology; there may be others.
    Unknown,
}

impl Topology {
    /// Where messages go that are published to `exchange` (empty: the default exchange) with this routing key.
    pub(crate) fn destination(&self, exchange: &str, key: &str) -> Destination {
        if exchange.is_empty() {
            return found(self.queues().filter(|queue| queue.name() == key));
        }
        let sources = self.sources(exchange, key);
        found(self.queues().filter(|queue| {
            queue.bindings().iter().any(|binding| sources.contains(&binding.exchange()) && self.passes(binding, key))
        }))
    }

    /// `exchange`, and the exchanges that pass its messages with this routing key on.
    fn sources<'a>(&'a self, exchange: &'a str, key: &str) -> Vec<&'a str> {
        let mut sources = vec![exchange];
        let mut looked_at = 0;
        while let Some(source) = sources.get(looked_at).copied() {
            looked_at += 1;
            for next in self.exchanges() {
                let mut bindings = next.bindings().iter().filter(|binding| binding.exchange() == source);
                if !sources.contains(&next.name()) && bindings.any(|binding| self.passes(binding, key)) {
                    sources.push(next.name());
                }
            }
        }
        sources
    }

    /// Whether messages with this routing key can pass the binding.
    fn passes(&self, binding: &Binding, key: &str) -> bool {
        let exchange = self.exchanges().find(|exchange| exchange.name() == binding.exchange());
        match exchange.map(|exchange| exchange.kind()) {
            Some(ExchangeKind::Direct) => binding.key() == key,
            Some(ExchangeKind::Topic) => matches(binding.key(), key),
            // For the other kinds the routing key does not decide; nor is known what an exchange elsewhere does.
            Some(ExchangeKind::Fanout | ExchangeKind::Headers | ExchangeKind::ConsistentHash) => true,
            Some(ExchangeKind::Custom(_)) | None => false,
        }
    }
}

fn found<'a>(queues: impl Iterator<Item = &'a Queue>) -> Destination {
    let refusing: Vec<bool> = queues.map(Queue::refuses_when_full).collect();
    match refusing.is_empty() {
        true => Destination::Unknown,
        false => Destination::Queues { refuse_when_full: refusing.contains(&true) },
    }
}

/// Whether a topic exchange's binding key matches: `*` is one word, `#` none or more (RabbitMQ, "Topic Exchange").
fn matches(pattern: &str, key: &str) -> bool {
    let words = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (pattern, key) = (words(pattern), words(key));
    // reachable[n]: the pattern up to here matches the first n words.
    let mut reachable = vec![false; key.len() + 1];
    reachable.first_mut().into_iter().for_each(|start| *start = true);
    for word in &pattern {
        let mut next = vec![false; key.len() + 1];
        let mut before = false;
        for (place, now) in next.iter_mut().enumerate() {
            let here = reachable.get(place).copied().unwrap_or_default();
            let one_less = place.checked_sub(1).and_then(|place| reachable.get(place)).copied().unwrap_or_default();
            let last = place.checked_sub(1).and_then(|place| key.get(place));
            *now = match word.as_str() {
                "#" => here || before,
                "*" => one_less,
                exact => one_less && last.is_some_and(|last| last == exact),
            };
            before = *now;
        }
        reachable = next;
    }
    reachable.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Exchange, Overflow};

    #[test]
    fn a_topic_matches_as_the_broker_does() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*", "a", false),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("#", "", true),
            ("#.c", "a.b.c", true),
            ("#.c", "a.b.d", false),
            ("*.#.*", "a", false),
            ("*.#.*", "a.b", true),
            ("a.#.c.*", "a.c.c.d", true),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} {key}");
        }
    }

    #[test]
    fn queues_are_found_through_the_exchanges_that_pass_a_message_on() {
        let topology = Topology::new()
            .exchange(Exchange::fanout("in").bind("all", "ignored"))
            .exchange(Exchange::topic("all").bind("in", "back"))
            .exchange(Exchange::direct("direct"))
            .queue(Queue::quorum("in.queue").bind("in", ""))
            .queue(Queue::quorum("direct.queue").bind("direct", "k").bind("elsewhere", "k"))
            .queue(Queue::quorum("small").bind("direct", "s").max_length(1).overflow(Overflow::RejectPublish));
        let (ours, full) =
            (Destination::Queues { refuse_when_full: false }, Destination::Queues { refuse_when_full: true });
        for (exchange, key, expected) in [
            ("all", "ignored", ours),
            ("all", "other", Destination::Unknown),
            ("in", "anything", ours),
            ("direct", "k", ours),
            ("direct", "s", full),
            ("direct", "x", Destination::Unknown),
            ("elsewhere", "k", Destination::Unknown),
            ("", "small", full),
            ("", "in.queue", ours),
            ("", "nobody", Destination::Unknown),
        ] {
            assert_eq!(topology.destination(exchange, key), expected, "{exchange} {key}");
        }
    }
}
