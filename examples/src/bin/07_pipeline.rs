//! Lesson 7: a pipeline of three stages, of which the first fails now and then.
//!
//! `orders` → price → `priced` → pack → `parcels` → ship. A stage publishes the next message, waits for its confirm,
//! and only then returns `Ok`, which acknowledges the message it handled. At every moment an order is in at least one
//! queue, so no crash can lose it. A crash can repeat a step; the number of the order shows that.
//!
//! An error passed on by `?` means *try again later*: a copy waits in `orders.retry.<milliseconds>`, and delays no
//! other message. [`Failure::reject`] means *never try again*: the message goes to `orders.dead`, with the reason in
//! its headers.
//!
//! Run it: `cargo run -p examples --bin 07_pipeline`
//!
//! Try: `Retry::none()`; a panic in the second stage; a price service that never answers, and see what happens after
//! three attempts.
//!
//! Next: `08_topology_from_toml`.

use std::{io, time::Duration};

use examples::{
    Seen, check,
    messages::{Order, Parcel, PricedOrder},
    say,
};
use fluffle::{Error, prelude::*};

/// A stage that publishes its result.
struct Stage<Out>(Publisher<Out>);

/// Handles the parcels, and the dead letters of orders.
struct Clerk(Seen);

impl<Out: 'static> Actor for Stage<Out> {
    type Context = Context<Self>;
}

impl Actor for Clerk {
    type Context = Context<Self>;
}

/// Prices an order.
impl Handler<Delivery<Order>> for Stage<PricedOrder> {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, order: Delivery<Order>, _: &mut Self::Context) -> Self::Result {
        let out = self.0.clone();
        Box::pin(async move {
            if order.quantity == 0 {
                return Err(Failure::reject("an order for nothing"));
            }
            if order.number.is_multiple_of(4) && order.attempt() == 1 {
                Err(io::Error::other("the price service did not answer"))?;
            }
            let cents = 250 * order.quantity;
            // Passes on the trace and the correlation id.
            let options = MessageOptions::new().caused_by(&order);
            out.publish_with(PricedOrder { order: Some(order.into_inner()), cents }, options).await?;
            Ok(())
        })
    }
}

/// Packs a priced order.
impl Handler<Delivery<PricedOrder>> for Stage<Parcel> {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, priced: Delivery<PricedOrder>, _: &mut Self::Context) -> Self::Result {
        let out = self.0.clone();
        Box::pin(async move {
            let order = priced.order.clone().ok_or_else(|| Failure::reject("a price without an order"))?;
            let label = format!("{} × {} for {} cents", order.quantity, order.item, priced.cents);
            let parcel = Parcel { order_number: order.number, label };
            out.publish_with(parcel, MessageOptions::new().caused_by(&priced)).await?;
            Ok(())
        })
    }
}

impl Handler<Delivery<Parcel>> for Clerk {
    type Result = Result<(), Failure>;

    fn handle(&mut self, parcel: Delivery<Parcel>, _: &mut Self::Context) -> Self::Result {
        println!("  shipped  order {:>2}: {}", parcel.order_number, parcel.label);
        self.0.note(&parcel);
        Ok(())
    }
}

/// One actor may handle several types. Dead letters are ordinary messages; their headers give the reason.
impl Handler<Delivery<Order>> for Clerk {
    type Result = Result<(), Failure>;

    fn handle(&mut self, order: Delivery<Order>, _: &mut Self::Context) -> Self::Result {
        let [reason, error] = ["x-fluffle-reason", "x-fluffle-error"].map(|name| order.header(name).unwrap_or("?"));
        println!("  buried   order {:>2}: {reason}, {error}", order.number);
        self.0.note(&order);
        Ok(())
    }
}

#[actix::main]
async fn main() -> Result<(), Error> {
    examples::logging();
    let broker = Broker::from_env_or_embedded()?;

    let queues = ["orders", "priced", "parcels"].map(|name| Queue::quorum(name).dead_letter());
    let app = App::new(broker).topology(queues.into_iter().fold(Topology::new(), Topology::queue));
    let orders = app.publisher::<Order>(Route::queue("orders"));
    let priced = app.publisher::<PricedOrder>(Route::queue("priced"));
    let parcels = app.publisher::<Parcel>(Route::queue("parcels"));
    let (shipped, buried) = (Seen::new(), Seen::new());
    let (ship, bury) = (shipped.clone(), buried.clone());
    let patience = Retry::exponential(3, Duration::from_millis(200), 2.0)?;
    let service = app
        .consume(Consume::queue("orders").retry(patience.clone()), move || Stage(priced.clone()))
        .consume(Consume::queue("priced").retry(patience.clone()), move || Stage(parcels.clone()))
        .consume(Consume::<Parcel>::queue("parcels").retry(patience), move || Clerk(ship.clone()))
        .consume(Consume::<Order>::queue("orders.dead").guarantee(AtMostOnce), move || Clerk(bury.clone()))
        .start()
        .await?;
    service.ready().await?;

    say("Twelve orders; every fourth fails at first, and number 7 is for nothing:");
    for (number, item) in (1..).zip(["carrots", "hay", "clover"].into_iter().cycle().take(12)) {
        let order = Order { number, item: item.to_owned(), quantity: if number == 7 { 0 } else { number } };
        orders.publish(order).await.map_err(Error::other)?;
    }
    shipped.count(11).await?;
    buried.count(1).await?;
    service.shutdown().await?;

    let retried: u64 = service.consumers().iter().map(|(_, stats)| stats.retried).sum();
    let (shipped, buried) = (shipped.distinct(), buried.distinct());
    say(format!("07_pipeline: published=12 shipped={shipped} dead={buried} retried={retried}"));
    check((shipped, buried, retried) == (11, 1, 3), "11 shipped, 1 dead letter, 3 retries")
}
