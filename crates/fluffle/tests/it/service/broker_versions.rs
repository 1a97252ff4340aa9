//! What a broker has only since some version: found out when it is connected, never assumed.

use std::time::Duration;

use fluffle::prelude::*;

use crate::support::*;

/// The version of the broker, as it says itself.
async fn version(place: &Place) -> (String, (u32, u32)) {
    let service = started(App::new(broker(place.url())).topology(Topology::new().queue(Queue::quorum("plain")))).await;
    let said = service.connections()[0].broker.clone().expect("the broker says what it is");
    service.shutdown().await.unwrap();
    let mut numbers = said.split([' ', '.']).skip(1).map(|part| part.parse::<u32>().expect("a number"));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    (said, version)
}

#[actix::test]
async fn an_argument_that_the_broker_is_too_old_for_ends_the_service_with_the_version_that_has_it() {
    let place = vhost();
    let (said, version) = version(&place).await;
    let timed = Queue::quorum("q").consumer_timeout(Duration::from_secs(60));
    for (queue, argument, since) in [
        (Queue::quorum("q").max_priority(5), "x-max-priority", (4, 3)),
        (timed, "x-consumer-timeout", (3, 12)),
        (Queue::quorum("q").argument("x-delayed-retry-type", "all"), "x-delayed-retry-type", (4, 3)),
    ] {
        let service = App::new(broker(place.url())).topology(Topology::new().queue(queue)).start().await.unwrap();
        if version >= since {
            soon("ready", service.ready()).await.expect("the broker has it");
            service.shutdown().await.unwrap();
            Raw::connect(place.url()).await.delete("q").await;
            continue;
        }
        let end = soon("the end", service.wait()).await.unwrap_err().to_string();
        let since = format!("{}.{}", since.0, since.1);
        assert!([argument, "\"q\"", &since, &said].iter().all(|word| end.contains(*word)), "{end}");
    }
}
