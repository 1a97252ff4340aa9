//! What is measured arrives at other registries: a real collector's protocol, and a real recorder of the facade.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod collector;
mod facade;
mod otlp;

use std::time::Duration;

use fluffle::{
    prelude::*,
    telemetry::{Telemetry, Value},
    testing::TestBroker,
};

/// The longest that a test waits.
const SOON: Duration = Duration::from_secs(30);

struct Handles;

impl Actor for Handles {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Handles {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

/// A service on the broker inside that has handled three messages, and its telemetry.
async fn busy() -> (TestBroker, Service, Telemetry) {
    let (embedded, telemetry) = (TestBroker::start().unwrap(), Telemetry::new());
    let app =
        App::new(embedded.client().unwrap()).topology(Topology::new().queue(Queue::quorum("q"))).telemetry(&telemetry);
    let out = app.publisher::<String>(Route::queue("q"));
    let service = app.consume(Consume::queue("q"), || Handles).start().await.unwrap();
    for text in ["a", "b", "c"] {
        out.publish(text.to_owned()).await.unwrap();
    }
    until(|| handled(&telemetry) == 3).await;
    (embedded, service, telemetry)
}

async fn until(is_it: impl Fn() -> bool) {
    let looks = async {
        while !is_it() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(SOON, looks).await.expect("in time");
}

fn handled(telemetry: &Telemetry) -> u64 {
    let families = telemetry.read();
    let settled = families.iter().filter(|family| family.name.otel == "fluffle.consume.settled");
    let of_q = settled.flat_map(|family| &family.points).filter(|point| *point.labels[1] == *"handled");
    of_q.map(|point| match point.value {
        Value::Count(count) => count,
        _ => panic!("a counter counts"),
    })
    .sum()
}
