//! Lesson 3: everybody who listens gets every message.
//!
//! A publisher sends to an **exchange**, not to a queue; a *fanout* exchange copies each message to every queue bound to
//! it. Each subscriber brings a queue of its own: [`Queue::temporary`] has a unique name and goes away with its
//! connection, which suits those who care for what happens now and not for what they missed.
//!
//! Run it: `cargo run -p examples --bin 03_publish_subscribe`
//!
//! Try: give one subscriber a [`Queue::quorum`] instead: it then also gets what was published while it was away. Take all
//! subscribers away: `publish` fails, for a message that no queue takes is an error (or say `mandatory(false)`).
//!
//! Next: `04_routing`, where subscribers choose what they get.

use examples::{Seen, check, messages::Weather, say};
use fluffle::{Error, prelude::*};

const SUBSCRIBERS: [&str; 3] = ["farmer", "pilot", "painter"];

struct Subscriber {
    who: &'static str,
    seen: Seen,
}

impl Actor for Subscriber {
    type Context = Context<Self>;
}

impl Handler<Delivery<Weather>> for Subscriber {
    type Result = Result<(), Failure>;

    fn handle(&mut self, weather: Delivery<Weather>, _: &mut Self::Context) -> Self::Result {
        println!("  {:<8} hears of {} in {}, {} °C", self.who, weather.sky, weather.city, weather.celsius);
        self.seen.note(&weather);
        Ok(())
    }
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging();
    let broker = Broker::from_env_or_embedded()?;

    let queues = SUBSCRIBERS.map(|who| Queue::temporary(who).bind("weather", ""));
    let names = queues.clone().map(|queue| queue.name().to_owned());
    let exchange = Topology::new().exchange(Exchange::fanout("weather"));
    let mut app = App::new(broker).topology(queues.into_iter().fold(exchange, Topology::queue));
    let out = app.publisher::<Weather>(Route::exchange("weather"));
    let seen = SUBSCRIBERS.map(|_| Seen::new());
    for ((who, name), seen) in SUBSCRIBERS.into_iter().zip(&names).zip(seen.clone()) {
        // What is news only now is not worth a second try.
        let consume = Consume::queue(name).retry(Retry::none());
        app = app.consume(consume, move || Subscriber { who, seen: seen.clone() });
    }
    let service = app.start().await?;
    service.ready().await?;

    say("Three reports for three subscribers:");
    for (city, celsius, sky) in [("Oslo", -4, "snow"), ("Lisbon", 17, "sunshine"), ("Bergen", 6, "rain")] {
        let report = Weather { city: city.to_owned(), celsius, sky: sky.to_owned() };
        out.publish(report).await.map_err(Error::other)?;
    }
    for one in &seen {
        one.count(3).await?;
    }
    service.shutdown().await?;

    let handled: usize = seen.iter().map(Seen::distinct).sum();
    say(format!("03_publish_subscribe: published=3 subscribers={} handled={handled}", SUBSCRIBERS.len()));
    check(handled == 9, "each subscriber gets each report once")
}
