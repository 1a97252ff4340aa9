//! Messages that are numbers, for the tests of order.

use fluffle::prelude::*;
use tokio::sync::mpsc;

/// Enqueues the numbers below `count` and waits for all confirms.
pub async fn publish_numbers(out: &Publisher<String>, count: usize) {
    let mut receipts = Vec::with_capacity(count);
    for n in 0..count {
        receipts.push(out.enqueue(n.to_string()).await.unwrap());
    }
    for receipt in receipts {
        receipt.confirmed().await.unwrap();
    }
}

/// A handler that answers at once, without a future, and reports the number that it was given.
pub struct Numbers(pub mpsc::UnboundedSender<usize>);

impl Actor for Numbers {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Numbers {
    type Result = Result<(), Failure>;

    fn handle(&mut self, text: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        self.0.send(text.parse()?)?;
        Ok(())
    }
}
