//! Traps of RabbitMQ 4: features that it refuses, or that later versions will refuse.

use fluffle::prelude::*;

use super::tap::{BASIC_QOS, Method, QUEUE_DECLARE, Tap};
use crate::support::*;

/// A service that uses everything that declares queues or sets limits: temporary queues, retries, dead letters, a
/// circuit breaker.
async fn a_service_with_everything(tap: &Tap, vhost: &Place) {
    let temporary = Queue::temporary("news").bind("news", "");
    let name = temporary.name().to_owned();
    let topology = Topology::new()
        .exchange(Exchange::fanout("news"))
        .queue(Queue::quorum("q").dead_letter())
        .queue(Queue::classic("old").dead_letter())
        .queue(temporary);
    let app = App::new(broker(&tap.url(vhost.url(), vhost.port()))).topology(topology);
    let out = app.publisher::<String>(Route::queue("q"));
    let breaker = CircuitBreaker::new("downstream").ratio(1.0).unwrap().window(Window::last(1)).open_for(fast());
    let (failing, mut record) =
        handlers(|seen| if seen.attempt < 3 { Act::Err(Failure::retry("not yet")) } else { Act::Ok });
    let (fine, _news) = handlers(|_| Act::Ok);
    let (other, _old) = handlers(|_| Act::Ok);
    let app = app
        .consume(Consume::queue("q").retry(retry(4)).circuit_breaker(breaker), failing)
        .consume(Consume::<String>::queue(name), fine)
        .consume(Consume::<String>::queue("old"), other);
    let service = started(app).await;
    out.publish("fails twice".to_owned()).await.unwrap();
    for _ in 0..3 {
        next(&mut record).await;
    }
    until("it is handled", || stats(&service).handled == 1).await;
    service.shutdown().await.unwrap();
}

/// `queue.declare`: a reserved short, the name, bits (passive, durable, exclusive, auto-delete, no-wait), arguments.
fn declared(method: &Method) -> (String, u8, String) {
    let length = usize::from(method.arguments[2]);
    let name = String::from_utf8_lossy(&method.arguments[3..3 + length]).into_owned();
    let arguments = String::from_utf8_lossy(&method.arguments[4 + length..]).into_owned();
    (name, method.arguments[3 + length], arguments)
}

#[actix::test]
async fn no_queue_is_transient_unless_it_is_exclusive_and_each_says_its_type() {
    let (passive, durable, exclusive) = (1, 2, 4);
    let vhost = vhost();
    let tap = Tap::before(vhost.port());
    a_service_with_everything(&tap, &vhost).await;
    let declarations = tap.all(QUEUE_DECLARE);
    assert!(declarations.len() >= 9, "queues, their dead letters and their retries: {declarations:?}");
    for (name, bits, arguments) in declarations.iter().map(declared) {
        if bits & passive == 0 {
            assert!(bits & (durable | exclusive) != 0, "{name} is transient, and not exclusive");
            assert!(arguments.contains("x-queue-type"), "{name} leaves its type to the broker's default");
        }
    }
}

/// `basic.qos`: the size as a long, the count as a short, a bit for global.
#[actix::test]
async fn a_prefetch_is_never_global() {
    let vhost = vhost();
    let tap = Tap::before(vhost.port());
    a_service_with_everything(&tap, &vhost).await;
    let all = tap.all(BASIC_QOS);
    assert!(all.len() >= 4, "one for each channel, and one for the breaker's probes: {all:?}");
    assert!(all.iter().all(|qos| qos.arguments[6] == 0), "{all:?}");
}
