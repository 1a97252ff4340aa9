//! Settings of a consumer that exclude one another are refused at the start, and the error says what to do.

use fluffle::prelude::*;

use super::order_by_key::by_key;
use crate::support::*;

struct Whole;

impl Actor for Whole {
    type Context = Context<Self>;
}

impl Handler<DeliveryBatch<String>> for Whole {
    type Result = Result<ItemFailures, Failure>;

    fn handle(&mut self, _: DeliveryBatch<String>, _: &mut Self::Context) -> Self::Result {
        Ok(ItemFailures::none())
    }
}

#[actix::test]
async fn settings_that_exclude_one_another_are_refused_with_what_to_do() {
    let place = vhost();
    let factory = || handlers(|_| Act::Ok).0;
    let said = contradiction(app_with_q(place.url()).consume_batches(by_key(), || Whole)).await;
    assert!(said.contains("`q`") && said.contains("`consume_batches`"), "{said}");
    let said = contradiction(app_with_q(place.url()).consume(by_key().lanes(2), factory())).await;
    assert!(said.contains("`ordered_by`") && said.contains("`lanes`"), "{said}");
    let said =
        contradiction(app_with_q(place.url()).consume(Consume::queue("q").exclusive().lanes(2), factory())).await;
    assert!(said.contains("`exclusive`"), "{said}");
    let topology = Topology::new().partitioned("p", 2).queue(Queue::temporary("t"));
    for (queue, why) in [("p.0", "single active consumer"), ("t", "temporary")] {
        let app = App::new(broker(place.url())).topology(topology.clone());
        let said = contradiction(app.consume(Consume::queue(queue).lanes(2), factory())).await;
        assert!(said.contains(why), "{said}");
    }
}
