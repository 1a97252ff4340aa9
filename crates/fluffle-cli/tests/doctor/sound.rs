//! A broker without mistakes, with a service of Fluffle on it.

use actix::prelude::*;
use fluffle::prelude::{App, Broker, Consume, Delivery, Exchange, Failure, Queue, Route, Topology};
use fluffle_harness::RabbitMq;

use crate::run::{doctor, is_version_4, json, json_until};

const CONFIGURATION: &str = "\
collect_statistics_interval = 500
consumer_timeout = 1800000
heartbeat = 60
tcp_listen_options.backlog = 4096
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 1GB
queue_leader_locator = balanced
";

const TOPOLOGY: &str = r#"
[[exchange]]
name = "orders"
type = "topic"

[[queue]]
name = "orders"
type = "quorum"
delivery_limit = 20
dead_letter = true

[[queue.binding]]
exchange = "orders"
key = "order.#"
"#;

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
async fn a_sound_broker_with_a_service_on_it_has_no_findings() {
    let broker = RabbitMq::builder().management().config(CONFIGURATION).start().unwrap();
    broker.ctl(&["add_vhost", "shop", "--default-queue-type", "quorum"]).unwrap();
    broker.ctl(&["set_permissions", "--vhost", "shop", "guest", ".*", ".*", ".*"]).unwrap();
    let (url, api) = (format!("amqp://guest:guest@127.0.0.1:{}/shop", broker.port()), broker.api_url().unwrap());
    let topology = Topology::new()
        .exchange(Exchange::topic("orders"))
        .queue(Queue::quorum("orders").delivery_limit(20).dead_letter().bind("orders", "order.#"));
    let app = App::new(Broker::new(&url).unwrap()).topology(topology);
    let out = app.publisher::<String>(Route::exchange("orders").key("order.new"));
    let service = app.consume(Consume::queue("orders").prefetch(100), || Orders).start().await.unwrap();
    if is_version_4(&broker) {
        // Its quorum queues have a delivery limit, dead-letter queues among them. Doctor advises this policy.
        let unlimited = r#"{"delivery-limit":-1}"#;
        broker.ctl(&["set_policy", "--vhost", "shop", "letters", r"^orders\.dead$", unlimited]).unwrap();
    }
    for _ in 0..200 {
        out.publish("an order".to_owned()).await.unwrap();
    }

    let conf = broker.folder().join("rabbitmq.conf");
    let file = broker.folder().join("topology.toml");
    std::fs::write(&file, TOPOLOGY).unwrap();
    let arguments = [
        "--url",
        &url,
        "--api",
        &api,
        "--conf",
        conf.to_str().unwrap(),
        "--topology",
        file.to_str().unwrap(),
        "--batch",
        "orders=50",
        "--queue",
        "orders",
    ];
    // The API knows the consumers and the publishes before the examination counts.
    let seen = json_until(&[&arguments[..], &["--batch", "orders=500"]].concat(), |report| {
        report.find("consumer.prefetch_below_batch", "orders").is_some()
    });
    assert!(seen.find("consumer.prefetch_below_batch", "orders").is_some(), "{:#?}", seen.list());
    let report = json_until(&arguments, |report| report.findings().is_empty());
    assert!(report.findings().is_empty(), "{:#?}", report.list());
    assert_eq!(report.json["unknown"].as_array().unwrap().len(), 0, "{}", report.json["unknown"]);
    assert_eq!(report.code, 0);
    let text = doctor(&arguments);
    assert_eq!(text.code, 0);
    assert!(text.text.contains("0 errors, 0 warnings, 0 advice; 0 not known"), "{}", text.text);
    service.shutdown().await.unwrap();
    a_user_who_may_not_see_all(&broker, &url, &api);
}

/// The API answers this user, and leaves things out without saying so.
fn a_user_who_may_not_see_all(broker: &RabbitMq, url: &str, api: &str) {
    broker.add_user("viewer", "pw", "shop", [".*", ".*", ".*"]).unwrap();
    broker.ctl(&["set_user_tags", "viewer", "management"]).unwrap();
    let url = url.replace("guest:guest", "viewer:pw");
    let report = json(&["--url", &url, "--api", api]);
    for what in ["connections, channels and consumers of other users", "nodes: alarms"] {
        assert!(report.is_unknown(what), "{what}: {}", report.json["unknown"]);
    }
    // The API refuses a user without a tag altogether.
    broker.ctl(&["set_user_tags", "viewer"]).unwrap();
    let report = json(&["--url", &url, "--api", api]);
    let refused = report.find("api.not_usable", "management API").unwrap();
    assert!(refused["mend"].as_str().unwrap().contains("set_user_tags"), "{refused}");
}
