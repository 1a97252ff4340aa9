//! A storm of random faults: the seed reproduces it, it leaves no fault behind, and no message is lost in it.

use std::{collections::BTreeSet, time::Duration};

use fluffle::{
    broker::{Fault, Proxy, Rule},
    prelude::*,
    testing::{Storm, TestBroker},
};

use crate::support::{Act, handlers, soon};

#[test]
fn the_same_seed_gives_the_same_forecast_and_another_seed_another() {
    let storm = Storm::seeded(7).lasting(Duration::from_secs(60));
    let forecast = storm.forecast();
    assert_eq!(forecast, storm.clone().forecast());
    assert_ne!(forecast, Storm::seeded(8).lasting(Duration::from_secs(60)).forecast());
    assert!((400..800).contains(&forecast.len()), "one each 100 ms: {}", forecast.len());
    assert!(forecast.is_sorted_by_key(|gust| gust.at));
    let kinds: BTreeSet<String> =
        forecast.iter().map(|gust| gust.fault.to_string().split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(kinds.len(), 17, "every kind of fault comes: {kinds:?}");
}

#[test]
fn leaving_kinds_out_moves_none_of_the_others() {
    let storm = Storm::seeded(7).lasting(Duration::from_secs(60));
    let cuts = storm.clone().only(|fault| *fault == Fault::Cut).forecast();
    let among_all: Vec<_> = storm.forecast().into_iter().filter(|gust| gust.fault == Fault::Cut).collect();
    assert!(!cuts.is_empty());
    assert_eq!(cuts, among_all);
    let none = storm.only(|fault| *fault == Fault::Cut).only(|fault| *fault != Fault::Cut).forecast();
    assert!(none.is_empty());
}

#[actix::test]
async fn after_the_storm_all_is_healed_and_nothing_is_lost() {
    let seed = std::env::var("SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("seed {seed}");
    let broker: TestBroker = fluffle::broker::Broker::builder().fault_seed(seed).start().unwrap().into();
    let client = broker.client().unwrap().heartbeat(Duration::from_secs(1)).connect_timeout(Duration::from_secs(1));
    let app = App::new(client).topology(Topology::new().queue(Queue::quorum("q").dead_letter()));
    let out = app.publisher::<String>(Route::queue("q").confirm_timeout(Duration::from_secs(1)));
    let (factory, mut record) = handlers(|_| Act::Ok);
    let service = app.consume(Consume::queue("q").prefetch(16), factory).start().await.unwrap();
    soon("ready", service.ready()).await.unwrap();

    let publishing = async {
        let mut accepted = BTreeSet::new();
        let begin = std::time::Instant::now();
        for number in 0.. {
            if begin.elapsed() > Duration::from_secs(2) {
                break;
            }
            if out.publish(number.to_string()).await.is_ok() {
                accepted.insert(number.to_string());
            }
        }
        accepted
    };
    let storm = Storm::seeded(seed).lasting(Duration::from_secs(2));
    let (report, accepted) = tokio::join!(storm.rage(broker.faults()), publishing);
    let report = report.unwrap();
    println!("{report}");
    assert!(report.fired > 0 && !report.history.is_empty());
    // The storm is healed: no fault may happen to messages that are published from now on.
    broker.settled_within(&service, crate::support::SOON).await.unwrap();
    let happened = broker.faults().history().unwrap().len();
    for _ in 0..50 {
        soon("published", out.publish("calm".to_owned())).await.unwrap();
    }
    broker.settled_within(&service, crate::support::SOON).await.unwrap();
    assert_eq!(broker.faults().history().unwrap().len(), happened);

    let mut handled = BTreeSet::new();
    while let Ok(seen) = record.try_recv() {
        handled.insert(seen.text);
    }
    let dead = broker.read::<String>("q.dead").unwrap();
    handled.extend(dead.iter().map(|letter| letter.message().unwrap().clone()));
    let lost: Vec<_> = accepted.difference(&handled).collect();
    assert!(lost.is_empty(), "lost with seed {seed}: {lost:?}");
    service.shutdown().await.unwrap();
}

#[actix::test]
async fn a_storm_before_a_proxy_is_one_of_the_transport_and_leaves_rules_of_others_alone() {
    let broker = TestBroker::start().unwrap();
    let proxy = Proxy::start(broker.address()).unwrap();
    let url = proxy.url_for(&broker.url());
    let app = App::new(crate::support::broker(&url).heartbeat(Duration::from_secs(1)));
    let service = crate::support::started(app.topology(Topology::new().queue(Queue::quorum("q")))).await;
    let storm = Storm::seeded(3).lasting(Duration::from_millis(500)).every(Duration::from_millis(5));
    let report = storm.rage(proxy.faults()).await.unwrap();
    assert!(report.fired > 0);
    let ours = proxy.faults().inject(Rule::new(Fault::Refuse).times(1)).unwrap();
    Storm::seeded(3).lasting(Duration::from_millis(10)).only(|_| false).rage(proxy.faults()).await.unwrap();
    let probe = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    ours.wait_fired(1, crate::support::SOON).unwrap();
    drop(probe);
    service.shutdown().await.unwrap();
}
