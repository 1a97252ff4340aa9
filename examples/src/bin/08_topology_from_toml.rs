//! Lesson 8: exchanges, queues and bindings from a file.
//!
//! Operators often want to configure the routing of messages without changing code. `Topology::from_toml_file` reads a
//! topology and checks it without a broker; the service declares it after every connect. If an entity already exists
//! with the same properties, it is left alone. If it exists with others, the service stops with a line that names the
//! entity and both values.
//!
//! Run it: `cargo run -p examples --bin 08_topology_from_toml [FILE]`; the file is `examples/data/meadow.toml`.
//!
//! Try: misspell a key; set a `max_length` of -1; with `AMQP_URL` set, run it, change `max_length`, and run it again.
//!
//! Next: `09_batches`, with many small messages.

use std::{collections::BTreeMap, env, path::PathBuf};

use examples::{Seen, check, messages::Sighting, say, table};
use fluffle::{
    Error,
    amqp::{Binding, TopologyError},
    prelude::*,
};

struct Watcher(Seen);

impl Actor for Watcher {
    type Context = Context<Self>;
}

impl Handler<Delivery<Sighting>> for Watcher {
    type Result = Result<(), Failure>;

    fn handle(&mut self, sighting: Delivery<Sighting>, _: &mut Self::Context) -> Self::Result {
        println!("  {:<14} ← {}", sighting.queue(), sighting.routing_key());
        self.0.note(&sighting);
        Ok(())
    }
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging();
    let shipped = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/data/meadow.toml"));
    let file = env::args_os().nth(1).map_or_else(shipped, PathBuf::from);
    let topology = Topology::from_toml_file(&file)?;

    say(format!("In {}:", file.file_name().unwrap_or_default().display()));
    let rows = topology.queues().map(|queue| {
        let bindings =
            queue.bindings().iter().map(|binding: &Binding| format!("{} {}", binding.exchange(), binding.key()));
        vec![queue.name().to_owned(), queue.kind().to_string(), bindings.collect::<Vec<_>>().join(", ")]
    });
    println!("{}", table(&["queue", "kind", "gets"], rows));

    say("A file with a mistake is refused before anything is declared:");
    let refused: Option<TopologyError> = Topology::from_toml("[[queue]]\nname = \"rabbits\"\nmax_lenght = 5\n").err();
    println!("  {}", refused.as_ref().map_or("accepted?".to_owned(), ToString::to_string));
    check(refused.is_some(), "a misspelt key was accepted")?;

    let broker = Broker::from_env_or_embedded()?;
    let mut app = App::new(broker).topology(topology);
    let by_words = |seen: &Sighting| format!("{}.{}.{}", seen.place, seen.colour, seen.species);
    let out = app.publisher::<Sighting>(Route::exchange("meadow").key_by(by_words));
    let seen: BTreeMap<&str, Seen> = ["rabbits", "white_animals", "strays"].map(|queue| (queue, Seen::new())).into();
    for (queue, seen) in seen.clone() {
        app = app.consume(Consume::queue(queue).retry(Retry::none()), move || Watcher(seen.clone()));
    }
    let service = app.start().await?;
    service.ready().await?;

    say("Three animals:");
    for words in [["meadow", "white", "rabbit"], ["garden", "grey", "rabbit"], ["forest", "red", "fox"]] {
        let [place, colour, species] = words.map(str::to_owned);
        out.publish(Sighting { place, colour, species }).await.map_err(Error::other)?;
    }
    for (queue, wanted) in [("rabbits", 2), ("white_animals", 1), ("strays", 1)] {
        seen[queue].count(wanted).await?;
    }
    service.shutdown().await?;

    let counts: Vec<String> = seen.iter().map(|(queue, seen)| format!("{queue}={}", seen.distinct())).collect();
    say(format!("08_topology_from_toml: published=3 {}", counts.join(" ")));
    check(seen.values().map(Seen::distinct).sum::<usize>() == 4, "the white rabbit is wanted twice, the fox is a stray")
}
