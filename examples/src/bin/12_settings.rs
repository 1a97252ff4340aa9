//! Lesson 12: settings from a file and from the environment.
//!
//! `BrokerSettings`, `RouteSettings` and `ConsumeSettings` are read by serde, so any library for configuration reads
//! them, as a part of the application's own. Here it is `config`: a file, and on top of it environment variables that
//! begin with `BAKERY__`. `settings` overrides what the file names. What stands before it in the code is a default;
//! what stands after it cannot be changed by a file.
//!
//! Run it: `cargo run -p examples --bin 12_settings [FILE]`; the file is `examples/data/bakery.toml`.
//!
//! Try: `BAKERY__CONSUME__RETRY__ATTEMPTS=2` before the command; `BAKERY__CONSUME__PREFETCH=0`; misspell a key; a URL
//! with a password in the file, with a mistake in it, and look for the password in the error.
//!
//! Next: `quakes`, a whole service.

use std::{
    env,
    path::{Path, PathBuf},
};

use config::{Config, ConfigError, Environment, File};
use examples::{Seen, check, messages::Loaf, say};
use fluffle::{Error, prelude::*};
use serde::Deserialize;

/// The settings of the application: its own, and those of Fluffle.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    breads: Vec<String>,
    #[serde(default)]
    broker: BrokerSettings,
    #[serde(default)]
    publish: RouteSettings,
    #[serde(default)]
    consume: ConsumeSettings,
}

impl Settings {
    /// Reads the file, then the environment: `BAKERY__CONSUME__PREFETCH` is `prefetch` of `consume`.
    fn read(file: &Path, environment: Environment) -> Result<Self, ConfigError> {
        let sources = Config::builder().add_source(File::from(file)).add_source(environment);
        sources.build()?.try_deserialize()
    }
}

struct Oven {
    attempts: Seen,
    baked: Seen,
}

impl Actor for Oven {
    type Context = Context<Self>;
}

impl Handler<Delivery<Loaf>> for Oven {
    type Result = Result<(), Failure>;

    fn handle(&mut self, loaf: Delivery<Loaf>, _: &mut Self::Context) -> Self::Result {
        self.attempts.note_id(&format!("{} {}", loaf.bread, loaf.attempt()));
        println!("  {:<8} attempt {}", loaf.bread, loaf.attempt());
        if loaf.bread == "burnt" {
            return Err(Failure::retry("the oven was too hot"));
        }
        self.baked.note(&loaf);
        Ok(())
    }
}

/// Handles the dead letters.
struct Bin(Seen);

impl Actor for Bin {
    type Context = Context<Self>;
}

impl Handler<Delivery<Loaf>> for Bin {
    type Result = Result<(), Failure>;

    fn handle(&mut self, loaf: Delivery<Loaf>, _: &mut Self::Context) -> Self::Result {
        self.0.note(&loaf);
        Ok(())
    }
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging();
    let shipped = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/data/bakery.toml"));
    let file = env::args_os().nth(1).map_or_else(shipped, PathBuf::from);
    let environment = || Environment::with_prefix("BAKERY").separator("__");
    let settings = Settings::read(&file, environment()).map_err(Error::other)?;

    say("A value out of its limits, and a key that nobody knows, are refused:");
    for (variable, value) in [("BAKERY__CONSUME__PREFETCH", "0"), ("BAKERY__BROKER__HARTBEAT", "5s")] {
        let wrong = environment().source(Some([(variable.to_owned(), value.to_owned())].into()));
        let refused = Settings::read(&file, wrong).err();
        println!("  {variable}={value}");
        println!("    {}", refused.as_ref().map_or("accepted?".to_owned(), ToString::to_string));
        check(refused.is_some(), "a mistake was accepted")?;
    }

    let app = App::new(Broker::from_settings_or_embedded(&settings.broker)?)
        .topology(Topology::new().queue(Queue::quorum("loaves").dead_letter()));
    let orders = app.publisher(Route::queue("loaves").settings(&settings.publish));
    let (attempts, baked, binned) = (Seen::new(), Seen::new(), Seen::new());
    let (trying, baking, binning) = (attempts.clone(), baked.clone(), binned.clone());
    // Two instances, unless the file says something else.
    let service = app
        .consume(Consume::queue("loaves").instances(2).settings(&settings.consume), move || Oven {
            attempts: trying.clone(),
            baked: baking.clone(),
        })
        .consume(Consume::queue("loaves.dead").guarantee(AtMostOnce), move || Bin(binning.clone()))
        .start()
        .await?;
    service.ready().await?;

    let breads = settings.breads;
    say(format!("{} loaves:", breads.len()));
    for bread in breads.clone() {
        orders.publish(Loaf { bread }).await.map_err(Error::other)?;
    }
    let burnt = breads.iter().filter(|bread| *bread == "burnt").count();
    baked.count(breads.len() - burnt).await?;
    binned.count(burnt).await?;
    service.shutdown().await?;

    let tries = attempts.distinct() - baked.distinct();
    say(format!("12_settings: published={} baked={} attempts={tries}", breads.len(), baked.distinct()));
    check(binned.distinct() == burnt, "what burns each time is a dead letter")
}
