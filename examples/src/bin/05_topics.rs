//! Lesson 5: routing keys made of words, and patterns that match them.
//!
//! On a *topic* exchange, a routing key consists of words separated by dots, here `<place>.<colour>.<species>`. A
//! binding key is a pattern: `*` matches exactly one word, and `#` matches any number of words, also none. A queue gets
//! one copy, however many of its patterns match.
//!
//! Run it: `cargo run -p examples --bin 05_topics`
//!
//! Try: bind with `#` (everything), `meadow.#`, `*.*`. Which routing key matches no pattern, and what happens to its
//! message?
//!
//! Next: `06_request_reply`, in which messages are requests.

use std::collections::BTreeMap;

use examples::{Seen, check, messages::Sighting, say, table};
use fluffle::{Error, prelude::*};

/// The queues and their binding keys.
const WATCHERS: [(&str, &[&str]); 3] =
    [("rabbit_friends", &["*.*.rabbit"]), ("gardener", &["garden.#"]), ("photographer", &["*.white.*", "meadow.*.*"])];

struct Watcher {
    seen: Seen,
}

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<Delivery<Sighting>> for Watcher {
    type Result = Result<(), Failure>;

    fn handle(&mut self, sighting: Delivery<Sighting>, _: &mut Self::Context) -> Self::Result {
        println!("  {:<15} ← {}", sighting.queue(), sighting.routing_key());
        self.seen.note(&sighting);
        Ok(())
    }
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging();
    let broker = Broker::from_env_or_embedded()?;

    let mut topology = Topology::new().exchange(Exchange::topic("sightings"));
    for (watcher, patterns) in WATCHERS {
        let queue = patterns.iter().fold(Queue::quorum(watcher), |queue, pattern| queue.bind("sightings", *pattern));
        topology = topology.queue(queue);
    }
    let mut app = App::new(broker).topology(topology);
    let by_words = |seen: &Sighting| format!("{}.{}.{}", seen.place, seen.colour, seen.species);
    let out = app.publisher::<Sighting>(Route::exchange("sightings").key_by(by_words));
    let seen: BTreeMap<&str, Seen> = WATCHERS.map(|(watcher, _)| (watcher, Seen::new())).into();
    for (watcher, seen) in seen.clone() {
        app = app.consume(Consume::queue(watcher), move || Watcher { seen: seen.clone() });
    }
    let service = app.start().await?;
    service.ready().await?;

    say("Six sightings of animals; three watchers each want some of them:");
    for words in [
        ["meadow", "brown", "hare"],
        ["meadow", "white", "rabbit"],
        ["garden", "grey", "rabbit"],
        ["garden", "red", "fox"],
        ["forest", "white", "hare"],
        ["forest", "red", "fox"],
    ] {
        let [place, colour, species] = words.map(str::to_owned);
        let animal = Sighting { place, colour, species };
        if let Err(error) = out.publish(animal).await {
            // The message is not lost silently: the error names its key and holds the message.
            println!("  nobody          ← {error}");
        }
    }
    for (watcher, wanted) in [("rabbit_friends", 2), ("gardener", 2), ("photographer", 3)] {
        seen[watcher].count(wanted).await?;
    }
    service.shutdown().await?;

    let rows = WATCHERS.map(|(watcher, patterns)| {
        vec![watcher.to_owned(), seen[watcher].distinct().to_string(), patterns.join(" or ")]
    });
    say(table(&["queue", "messages", "binding keys"], rows));
    let returned = out.stats().returned;
    let counts = WATCHERS.map(|(watcher, _)| format!("{watcher}={}", seen[watcher].distinct())).join(" ");
    say(format!("05_topics: published=6 returned={returned} {counts}"));
    check(
        returned == 1 && seen["photographer"].distinct() == 3,
        "one sighting matches no pattern, and the photographer gets three",
    )
}
