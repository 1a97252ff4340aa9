//! Lesson 1: publish messages to a queue, and handle them in an actor.
//!
//! - A **queue** keeps messages until they are handled. The [`Topology`] declares it.
//! - A [`Publisher`] sends messages to it. `publish` returns when the broker has confirmed that it holds the message.
//! - A **handler** is a plain actix actor. Returning `Ok(())` acknowledges the message, and the broker removes it.
//!
//! Run it: `cargo run -p examples --bin 01_hello`
//!
//! Try:
//!
//! - Add `if greeting.attempt() == 1 { return Err(Failure::retry("not now")) }` as the first line of `handle`. Each
//!   greeting comes back after a second.
//! - With `AMQP_URL` set, remove `.consume(…)` and `seen.count(3)`, and run it. Then put them back, remove the loop
//!   instead, and run it again: the queue has kept your greetings.
//!
//! Next: `02_work_queue`, in which several actors share the work.

use examples::{Seen, check, messages::Greeting, say};
use fluffle::{Error, prelude::*};

struct Listener {
    seen: Seen,
}

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<Delivery<Greeting>> for Listener {
    type Result = Result<(), Failure>;

    fn handle(&mut self, greeting: Delivery<Greeting>, _: &mut Self::Context) -> Self::Result {
        println!("  handled    {:?}, attempt {}", greeting.text, greeting.attempt());
        self.seen.note(&greeting);
        Ok(())
    }
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging();
    let broker = Broker::from_env_or_embedded()?;

    let app = App::new(broker).topology(Topology::new().queue(Queue::quorum("hello")));
    let out = app.publisher::<Greeting>(Route::queue("hello"));
    let seen = Seen::new();
    let handlers = seen.clone();
    // The factory makes the actor, and a fresh one after each crash.
    let service = app.consume(Consume::queue("hello"), move || Listener { seen: handlers.clone() }).start().await?;
    service.ready().await?;

    say("Three greetings, each confirmed by the broker and handled by an actor:");
    for text in ["hello", "is anybody there?", "goodbye"] {
        let confirmed = out.publish(Greeting { text: text.to_owned() }).await.map_err(Error::other)?;
        println!("  confirmed  {text:?} as {}", confirmed.id);
    }
    seen.count(3).await?;

    say(format!(
        "The supervision tree of the service. If a part fails, the part above restarts it:\n\n{}",
        service.snapshot()
    ));
    // Stops consuming, finishes the work in hand, and closes.
    service.shutdown().await?;
    say(format!("01_hello: published=3 handled={}", seen.distinct()));
    check(seen.repeats() == 0, "a greeting was handled twice")
}
