//! Lesson 3: every subscriber gets every message.
//!
//! A publisher sends to an **exchange**, not to a queue; a *fanout* exchange copies each message to every queue bound
//! to it. Each subscriber has its own queue. A [`Queue::temporary`] has a unique name and is deleted with its
//! connection, which suits subscribers that do not need messages from before they connected.
//!
//! Run it: `cargo run -p examples --bin 03_publish_subscribe`
//!
//! Try:
//!
//! - Give one subscriber a [`Queue::quorum`]. It then also gets the messages published while it was away.
//! - Remove all subscribers. `publish` fails, because a message that no queue takes is an error (unless you set
//!   `mandatory(false)`).
//!
//! Next: `04_routing`, in which subscribers choose their messages.

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
        // A report is only useful at once, so do not retry it.
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
