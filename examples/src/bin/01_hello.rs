//! Lesson 1: a message goes to a queue, and an actor handles it.
//!
//! - A **queue** keeps messages until somebody has handled them. We declare it in the [`Topology`].
//! - A [`Publisher`] sends to it. `publish` returns when the broker has confirmed that it holds the message.
//! - A **handler** is a plain actix actor. Returning `Ok(())` acknowledges the message: the broker forgets it.
//!
//! Run it: `cargo run -p examples --bin 01_hello`
//!
//! Try: as the first line of `handle`, `if greeting.attempt() == 1 { return Err(Failure::retry("not now")) }`, and see each
//! greeting come back after a second. With `AMQP_URL` set, leave out `.consume(…)` and what waits for it, and run; then leave
//! out the loop instead: the queue has kept your greetings.
//!
//! Next: `02_work_queue`, where several actors share the work.

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
    // The factory makes the actor, and a fresh one should it ever crash.
    let service = app.consume(Consume::queue("hello"), move || Listener { seen: handlers.clone() }).start().await?;
    service.ready().await?;

    say("Three greetings, each confirmed by the broker and handled by an actor:");
    for text in ["hello", "is anybody there?", "goodbye"] {
        let confirmed = out.publish(Greeting { text: text.to_owned() }).await.map_err(Error::other)?;
        println!("  confirmed  {text:?} as {}", confirmed.id);
    }
    seen.count(3).await?;

    say(format!("What runs behind it, each part restarted by the one above should it fail:\n\n{}", service.snapshot()));
    // Stops taking, finishes what is in flight, closes.
    service.shutdown().await?;
    say(format!("01_hello: published=3 handled={}", seen.distinct()));
    check(seen.repeats() == 0, "a greeting was handled twice")
}
