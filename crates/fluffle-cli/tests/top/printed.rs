//! Without a view: `--once`, `--count`, `--json`.

use actix::prelude::*;
use fluffle::prelude::{App, Broker, Consume, Delivery, Failure, Queue, Topology};
use fluffle_harness::RabbitMq;
use fluffle_telemetry::Telemetry;

use crate::support::{Client, json, json_until, queue, top};

/// Statistics twice a second.
const QUICK: &str = "collect_statistics_interval = 500\n";

#[test]
fn with_the_api_everything_is_told_and_without_it_what_is_not_is_null() {
    let broker = RabbitMq::builder().management().config(QUICK).start().unwrap();
    let (url, api) = (broker.url(), broker.api_url().unwrap());
    let arguments = ["--url", &url, "--api", &api];
    let empty = top(&[&arguments[..], &["--once"]].concat());
    assert!(empty.code == 0 && empty.out.contains("no queues"), "{empty:?}");

    let client = Client::connect(&url);
    client.queue("orders", "classic", 61);
    client.queue("audit", "quorum", 2);
    let hostile = "\u{1b}[2Jevil";
    client.queue(hostile, "classic", 1);
    let look = json_until(&arguments, |look| {
        queue(look, "orders")["ready"] == 61 && queue(look, "audit")["ready"] == 2 && queue(look, hostile)["ready"] == 1
    });
    assert_eq!(look["source"], "management_api");
    let orders = queue(&look, "orders");
    assert_eq!((&orders["unacked"], &orders["consumers"], &orders["type"]), (&0.into(), &0.into(), &"classic".into()));
    assert!(orders["in_rate"].is_f64() && orders["oldest_seconds"].as_u64().unwrap() >= 100, "{orders}");
    assert!(queue(&look, "audit")["oldest_seconds"].is_null(), "a quorum queue does not tell: {look:#}");
    let some = json(&[&arguments[..], &["--queue", "or*"]].concat());
    assert_eq!(some["queues"].as_array().unwrap().len(), 1, "{some:#}");

    let table = top(&[&arguments[..], &["--once"]].concat());
    assert!(table.out.contains("\\u{1b}[2Jevil") && !table.out.contains('\u{1b}'), "{table:?}");
    assert!(table.out.find("orders") < table.out.find("audit"), "the deepest queue is first: {table:?}");

    let look = json(&["--url", &url, "--queue", "orders", "--queue", "nowhere"]);
    let orders = queue(&look, "orders");
    assert_eq!((&look["source"], &orders["ready"], &orders["consumers"]), (&"amqp".into(), &61.into(), &0.into()));
    assert!(orders["unacked"].is_null() && orders["in_rate"].is_null() && orders["oldest_seconds"].is_null());
    let missing = queue(&look, "nowhere");
    assert!(missing["ready"].is_null() && missing["problem"].as_str().unwrap().contains("no queue"), "{missing}");
}

#[test]
fn what_cannot_be_shown_is_an_error_that_says_what_to_do_and_never_hangs() {
    let broker = fluffle_broker::Broker::start().unwrap();
    let url = broker.url();
    for (arguments, advice) in [
        (vec!["--url", &url, "--once"], "--api"),
        (vec!["--url", &url, "--once", "--queue", "or*"], "without `*`"),
        (vec!["--url", &url, "--queue", "orders"], "--once"),
        (vec!["--url", &url, "--once", "--queue", "q", "--status", "localhost"], "--status"),
    ] {
        let run = top(&arguments);
        assert!(run.code == 3 && run.err.contains(advice) && run.out.is_empty(), "{arguments:?}: {run:?}");
    }
    let port = url.rsplit_once("127.0.0.1").unwrap();
    drop(broker);
    let gone = top(&["--url", &url, "--queue", "orders", "--once", "--json"]);
    let look: serde_json::Value = serde_json::from_str(&gone.out).unwrap();
    assert!(gone.code == 3 && look["lost"]["why"].is_string(), "{port:?} {gone:?}");
}

struct Orders;

impl Actor for Orders {
    type Context = Context<Self>;
}

impl Handler<Delivery<String>> for Orders {
    type Result = Result<(), Failure>;

    fn handle(&mut self, _: Delivery<String>, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}

#[actix::test]
async fn a_service_is_seen_with_its_tree_its_verdicts_and_the_queues_it_consumes() {
    let broker = fluffle_broker::Broker::start().unwrap();
    let url = broker.url();
    let telemetry = Telemetry::new();
    let topology = Topology::new().queue(Queue::quorum("orders"));
    let app = App::new(Broker::new(&url).unwrap()).topology(topology).telemetry(&telemetry);
    let service = app.consume(Consume::queue("orders"), || Orders).start().await.unwrap();
    let server = telemetry.serve("127.0.0.1:0").unwrap();
    let status = format!("http://{}", server.address());
    let look = json_until(&["--url", &url, "--status", &status], |look| {
        look["service"]["state"] == "running" && queue(look, "orders")["consumers"] == 1
    });
    let seen = &look["service"];
    assert_eq!(seen["queues"][0]["name"], "orders", "{seen:#}");
    assert_eq!(seen["queues"][0]["verdict"], "idle", "{seen:#}");
    let tree = seen["tree"].as_array().unwrap();
    assert!(tree.iter().any(|node| node["id"] == "consume" && node["state"] == "running"), "{seen:#}");
    let text = top(&["--url", &url, "--status", &status, "--once"]);
    assert!(text.code == 0 && text.out.contains("queue orders: idle"), "{text:?}");

    drop(server);
    let gone = top(&["--url", &url, "--status", &status, "--queue", "orders", "--once"]);
    assert!(gone.code == 3 && gone.out.contains("gives no answer") && gone.out.contains("orders"), "{gone:?}");
    service.shutdown().await.unwrap();
}
