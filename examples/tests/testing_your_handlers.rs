//! The complete code of the chapter "Testing your handlers" (`docs/TESTING.md`). The last test checks that every code
//! block of the chapter is in this file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{sync::Arc, time::Duration};

use examples::messages::{Order, Parcel};
use fluffle::{
    broker::{Event, Fault, Proxy, Rule, Target},
    prelude::*,
    testing::{Storm, TestBroker},
};

// ---- The application, which would be a crate of its own.

trait Stock: Send + Sync {
    fn take(&self, item: &str, quantity: u32) -> std::io::Result<bool>;
}

struct Shipping {
    stock: Arc<dyn Stock>,
    parcels: Publisher<Parcel>,
}

impl Actor for Shipping {
    type Context = Context<Self>;
}

impl Handler<Delivery<Order>> for Shipping {
    type Result = ResponseFuture<Result<(), Failure>>;

    fn handle(&mut self, order: Delivery<Order>, _: &mut Self::Context) -> Self::Result {
        let (stock, parcels) = (Arc::clone(&self.stock), self.parcels.clone());
        Box::pin(async move {
            if order.quantity == 0 {
                return Err(Failure::reject("an order of nothing"));
            }
            if !stock.take(&order.item, order.quantity)? {
                return Err(Failure::retry(format!("out of {}", order.item)));
            }
            let label = format!("{} × {}", order.quantity, order.item);
            parcels.publish(Parcel { order_number: order.number, label }).await?;
            Ok(())
        })
    }
}

/// Builds the service for `main` and for the tests, which differ only in broker and stock.
fn shipping(broker: Broker, stock: Arc<dyn Stock>) -> Result<App, fluffle::Error> {
    let topology = Topology::new().queue(Queue::quorum("orders").dead_letter()).queue(Queue::quorum("parcels"));
    let app = App::new(broker).topology(topology);
    let parcels = app.publisher(Route::queue("parcels"));
    let retry = Retry::exponential(3, Duration::from_millis(50), 2.0)?;
    Ok(app.consume(Consume::queue("orders").retry(retry), move || Shipping {
        stock: Arc::clone(&stock),
        parcels: parcels.clone(),
    }))
}

// ---- Its tests.

/// A stock of 24 carrots and nothing else.
struct Carrots;

impl Stock for Carrots {
    fn take(&self, item: &str, quantity: u32) -> std::io::Result<bool> {
        Ok(item == "carrots" && quantity <= 24)
    }
}

fn order(number: u32, item: &str, quantity: u32) -> Order {
    Order { number, item: item.to_owned(), quantity }
}

#[actix::test]
async fn an_order_becomes_a_parcel() -> Result<(), fluffle::Error> {
    let broker = TestBroker::start()?;
    let app = shipping(broker.client()?, Arc::new(Carrots))?;
    let orders = app.publisher(Route::queue("orders"));
    let service = app.start().await?;

    orders.publish(order(1, "carrots", 3)).await?;
    broker.settled(&service).await?;

    let parcels = broker.read::<Parcel>("parcels")?;
    assert_eq!(parcels.len(), 1);
    assert_eq!(parcels[0].message()?.label, "3 × carrots");
    service.shutdown().await?;
    Ok(())
}

#[actix::test]
async fn what_is_out_of_stock_is_tried_three_times_and_then_buried() -> Result<(), fluffle::Error> {
    let broker = TestBroker::start()?;
    let app = shipping(broker.client()?, Arc::new(Carrots))?;
    let orders = app.publisher(Route::queue("orders"));
    let service = app.start().await?;

    orders.publish(order(2, "lettuce", 1)).await?;
    orders.publish(order(3, "carrots", 0)).await?;
    broker.settled(&service).await?;

    let dead = broker.read::<Order>("orders.dead")?;
    let said: Vec<_> = dead
        .iter()
        .map(|letter| letter.dead_letter.as_ref().unwrap())
        .map(|why| (why.reason.as_str(), why.attempts.get(), why.error.as_str()))
        .collect();
    assert_eq!(said, [("rejected", 1, "an order of nothing"), ("attempts-exhausted", 3, "out of lettuce")]);
    assert!(broker.read::<Parcel>("parcels")?.is_empty());
    service.shutdown().await?;
    Ok(())
}

#[actix::test]
async fn no_parcel_is_lost_when_the_network_fails() -> Result<(), fluffle::Error> {
    let broker = TestBroker::start()?;
    let app = shipping(broker.client()?, Arc::new(Carrots))?;
    let orders = app.publisher(Route::queue("orders"));
    let service = app.start().await?;

    // By rule: five connections are cut, each at the moment a parcel is published.
    let cut = Rule::new(Fault::Cut).at(Event::Published).on_queue("parcels");
    let cuts = broker.faults().inject(cut.times(5))?;
    for number in 0..50 {
        orders.publish(order(number, "carrots", 1)).await?;
    }
    // By hand: and in the end the broker crashes.
    let crash = Fault::Crash { away: Duration::from_millis(100) };
    broker.faults().strike(crash, Target::all())?;
    broker.settled(&service).await?;

    assert_eq!(cuts.fired(), 5);
    let parcels = broker.read::<Parcel>("parcels")?;
    let mut numbers: Vec<u32> = Vec::new();
    for parcel in &parcels {
        numbers.push(parcel.message()?.order_number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..50).collect::<Vec<u32>>());
    service.shutdown().await?;
    Ok(())
}

#[actix::test]
async fn chance_can_be_repeated() -> Result<(), fluffle::Error> {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(42);
    let broker: TestBroker = fluffle::broker::Broker::builder().fault_seed(seed).start()?.into();
    println!("SEED={}", broker.faults().seed());
    let nacks = Rule::new(Fault::Nack).on_queue("parcels").probability(0.2);
    broker.faults().inject(nacks)?;
    let app = shipping(broker.client()?, Arc::new(Carrots))?;
    let orders = app.publisher(Route::queue("orders"));
    let service = app.start().await?;

    for number in 0..20 {
        orders.publish(order(number, "carrots", 1)).await?;
    }
    broker.settled(&service).await?;

    let dead = broker.read::<Order>("orders.dead")?.len();
    let parcels = broker.read::<Parcel>("parcels")?.len();
    assert_eq!(dead + parcels, 20);
    for fired in broker.faults().history()? {
        println!("{fired}");
    }
    service.shutdown().await?;
    Ok(())
}

#[actix::test]
async fn no_parcel_is_lost_in_a_storm() -> Result<(), fluffle::Error> {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(42);
    println!("SEED={seed}");
    let broker: TestBroker = fluffle::broker::Broker::builder().fault_seed(seed).start()?.into();
    let client = broker.client()?.heartbeat(Duration::from_secs(1)).connect_timeout(Duration::from_secs(1));
    let app = shipping(client, Arc::new(Carrots))?;
    let orders = app.publisher(Route::queue("orders"));
    let service = app.start().await?;

    // Left out: a publisher waits for a dropped confirm longer than this test should take.
    let storm = Storm::seeded(seed).lasting(Duration::from_secs(1)).only(|fault| *fault != Fault::DropConfirm);
    let publishing = async {
        let mut accepted = Vec::new();
        for number in 0..200 {
            if orders.publish(order(number, "carrots", 1)).await.is_ok() {
                accepted.push(number);
            }
        }
        accepted
    };
    let (report, accepted) = tokio::join!(storm.rage(broker.faults()), publishing);
    println!("{}", report?);
    broker.settled_within(&service, Duration::from_secs(30)).await?;

    // Safety: what was accepted is a parcel or a dead letter.
    let mut numbers: Vec<u32> = Vec::new();
    for parcel in &broker.read::<Parcel>("parcels")? {
        numbers.push(parcel.message()?.order_number);
    }
    for letter in &broker.read::<Order>("orders.dead")? {
        numbers.push(letter.message()?.number);
    }
    assert!(accepted.iter().all(|number| numbers.contains(number)), "lost with SEED={seed}");
    service.shutdown().await?;
    Ok(())
}

#[actix::test]
async fn a_proxy_brings_the_same_faults_to_any_broker() -> Result<(), fluffle::Error> {
    // In practice, use the address and URL of a RabbitMQ node.
    let far = TestBroker::start()?;
    let proxy = Proxy::start(far.address())?;
    let url = proxy.url_for(&far.url());

    let app = shipping(Broker::new(&url)?, Arc::new(Carrots))?;
    let orders = app.publisher(Route::queue("orders"));
    let service = app.start().await?;
    service.ready().await?;
    proxy.faults().strike(Fault::Cut, Target::all())?;
    orders.publish(order(1, "carrots", 3)).await?;
    far.settled(&service).await?;
    assert_eq!(far.read::<Parcel>("parcels")?.len(), 1);
    service.shutdown().await?;
    Ok(())
}

#[test]
fn the_chapter_shows_this_code() {
    // rustfmt breaks lines differently in the two files, so compare without white space.
    let squeeze = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let here = squeeze(include_str!("testing_your_handlers.rs"));
    let chapter = include_str!("../../docs/TESTING.md");
    let blocks: Vec<&str> = chapter.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 5, "the chapter shows {} pieces of code", blocks.len());
    for block in blocks {
        // `…` in the chapter stands for omitted code.
        for piece in block.split('…') {
            assert!(here.contains(&squeeze(piece)), "the chapter shows what is not here:\n{piece}");
        }
    }
}
