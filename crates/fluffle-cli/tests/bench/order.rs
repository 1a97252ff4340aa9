//! `--ordered-by`, `--lanes` and `--in-flight`.

use fluffle_harness::RabbitMq;

use crate::support::*;

/// On a broker that spreads the messages of a queue over several handlers, and on the one inside.
fn on_both(test: impl Fn(&[&str])) {
    test(&[]);
    let vhost = RabbitMq::shared().unwrap().fresh_vhost().unwrap();
    test(&["--url", vhost.url()]);
}

#[test]
fn several_handlers_keep_the_order_of_each_key() {
    on_both(|broker| {
        let keys = ["--count", "5000", "--ordered-by", "50", "--consumers", "4", "--queues", "2"];
        let (report, code) = json(&[broker, &keys].concat());
        assert_eq!(code, 0, "{report:#}");
        assert_eq!(
            (&report["verification"]["received"], &report["verification"]["out_of_order"]),
            (&5000.into(), &0.into()),
            "{report:#}"
        );
        assert_eq!((&report["workload"]["ordered_by"], &report["workload"]["lanes"]), (&50.into(), &1.into()));
    });
}

/// Without keys the same handlers overtake one another, so the test above does test something.
#[test]
fn without_keys_the_order_is_lost_and_not_missed() {
    let (report, code) = json(&["--count", "20000", "--consumers", "4", "--size", "100"]);
    assert_eq!(code, 0, "{report:#}");
    assert!(report["verification"]["out_of_order"].as_u64().unwrap() > 0, "{report:#}");
    assert!(report["verdict"]["notes"].to_string().contains("several handlers"), "{report:#}");
}

#[test]
fn lanes_lose_no_message() {
    on_both(|broker| {
        let lanes = ["--count", "5000", "--lanes", "3", "--queues", "2", "--ack", "effectively-once"];
        let (report, code) = json(&[broker, &lanes].concat());
        assert_eq!(code, 0, "{report:#}");
        assert_eq!(report["verification"]["received"], 5000, "{report:#}");
        assert_eq!((&report["workload"]["consumers"], &report["workload"]["lanes"]), (&6.into(), &3.into()));
    });
}

#[test]
fn no_more_messages_are_in_flight_than_may_be() {
    for way in [&["--confirm", "off"][..], &["--batch", "4KiB,1ms", "--size", "100"]] {
        let run = ["--time", "1500ms", "--warm-up", "0s", "--in-flight", "300", "--prefetch", "1"];
        let (report, code) = json(&[&run[..], way].concat());
        assert_eq!(code, 0, "{report:#}");
        let seconds = report["seconds"].as_array().unwrap();
        let most = seconds.iter().filter_map(|second| second["in_flight"].as_u64()).max().unwrap();
        assert!((1..=300).contains(&most), "{report:#}");
        assert!(report["verification"]["received"].as_u64().unwrap() > 300, "places are given back: {report:#}");
    }
}
