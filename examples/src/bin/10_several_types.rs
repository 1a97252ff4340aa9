//! Lesson 10: one queue, several types of messages.
//!
//! What happens to orders is one story, so all its events travel through one queue, in their order: an order is placed,
//! its payment fails. `OneOf<(OrderPlaced, PaymentFailed)>` names the types, and [`App::consume_types`] gives each
//! message to the handler of its type. If a type has no handler, this file does not compile.
//!
//! The `type` property says which type a message has. Other services may call a type by another name, which a
//! [`type_alias`](Consume::type_alias) translates, and may write JSON, which is read beside Protobuf, by its label. A
//! message of any other type becomes a dead letter; see [`Consume::skip_other_types`] for another way.
//!
//! Run it: `cargo run -p examples --bin 10_several_types`
//!
//! Try: remove `impl Handler<Delivery<PaymentFailed>>`, and read the compiler's words; remove the alias, and see two
//! dead letters; add `.skip_other_types()`, and see none.
//!
//! Next: `11_stream_reader`, which reads what has been said before it came.

use examples::{
    Seen, check,
    messages::{LogLine, OrderPlaced, PaymentFailed},
    say,
};
use fluffle::{Error, prelude::*, wire::SerdeJson};
use serde_json::json;

struct Bookkeeper {
    seen: Seen,
}

impl Actor for Bookkeeper {
    type Context = Context<Self>;
}

impl Handler<Delivery<OrderPlaced>> for Bookkeeper {
    type Result = Result<(), Failure>;

    fn handle(&mut self, order: Delivery<OrderPlaced>, _: &mut Self::Context) -> Self::Result {
        println!("  order {}: {} cents are due", order.number, order.cents);
        self.seen.note(&order);
        Ok(())
    }
}

impl Handler<Delivery<PaymentFailed>> for Bookkeeper {
    type Result = Result<(), Failure>;

    fn handle(&mut self, payment: Delivery<PaymentFailed>, _: &mut Self::Context) -> Self::Result {
        println!("  order {}: its payment failed, {}", payment.number, payment.reason);
        self.seen.note(&payment);
        Ok(())
    }
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging();
    let queue = Queue::quorum("orders.events").dead_letter();
    let app = App::new(Broker::from_env_or_embedded()?).topology(Topology::new().queue(queue));
    let events = app.publisher::<OneOf<(OrderPlaced, PaymentFailed, LogLine)>>(Route::queue("orders.events"));
    // Another service, which writes JSON and has its own name for the type.
    let node = app.publisher(Route::coded(SerdeJson::new("payment-failed"), "").key("orders.events"));
    let seen = Seen::new();
    let consume = Consume::<OneOf<(OrderPlaced, PaymentFailed)>>::queue("orders.events")
        .type_alias("payment-failed", "lessons.v1.PaymentFailed");
    let bookkeepers = seen.clone();
    let service = app.consume_types(consume, move || Bookkeeper { seen: bookkeepers.clone() }).start().await?;
    service.ready().await?;

    say("Five events of two types, and one that does not belong here:");
    for (number, cents) in [(1, 1250), (2, 300), (3, 99_900)] {
        events.publish(OneOf::new(OrderPlaced { number, cents })).await?;
    }
    events.publish(OneOf::new(PaymentFailed { number: 2, reason: "the card has expired".into() })).await?;
    events.publish(OneOf::new(LogLine { text: "is anybody there?".into(), ..LogLine::default() })).await?;
    node.publish(json!({ "number": 3, "reason": "no money left" })).await?;
    seen.count(5).await?;
    // A shutdown settles what is in hand: the line of a log, too.
    service.shutdown().await?;
    let dead = service.consumers()[0].1.dead_lettered;

    say(format!("10_several_types: published=6 handled={} dead={dead}", seen.distinct()));
    check(seen.distinct() == 5 && seen.repeats() == 0 && dead == 1, "each event is handled once")
}
